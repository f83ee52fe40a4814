"""What may somebody do."""

from dataclasses import replace

import pytest
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from files_app.access.policy import REFUSALS, may, may_somewhere, require, require_put
from files_app.access.principals import is_known
from files_app.access.rules import Rule, Rules, Subject
from files_app.access.snapshot import Person, Snapshot, snapshots
from fileserver.rights import ADD, DELETE, GET, LIST, REPLACE, WATCH, Principal, Right, Ticket
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served

RULES = Rules(
    [
        Rule("", "account", "", frozenset({LIST, GET})),
        Rule("pub", "guest", "", frozenset({LIST, GET})),
        Rule("inbox", "guest", "", frozenset({ADD})),
        Rule("home/ann", "user", "1", frozenset({LIST, GET, ADD, REPLACE, DELETE})),
        Rule("team", "group", "5", frozenset({LIST, GET, ADD})),
    ]
)
PEOPLE = {
    1: Person("ann", Subject("1", frozenset({"5"})), False, frozenset()),
    2: Person("bob", Subject("2"), False, frozenset({WATCH})),
    9: Person("root", Subject("9"), True, frozenset()),
}
ELSEWHERE = "192.168.0.7"
GUEST = Principal(address=ELSEWHERE)
ANN = Principal("user", "ann", ELSEWHERE, key=1)
BOB = Principal("user", "bob", ELSEWHERE, key=2)
ROOT = Principal("user", "root", ELSEWHERE, key=9)
CLOSED = Principal("user", "eve", ELSEWHERE, key=66)
LOCAL = Principal("local", address="127.0.0.1")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_newest", Snapshot(0, RULES, PEOPLE))


class TestMay:
    @pytest.mark.parametrize("who", [LOCAL, ROOT, Principal("relay", address="127.0.0.1")], ids=str)
    @pytest.mark.parametrize("right", REFUSALS)
    @pytest.mark.parametrize("name", ["", "a.txt", "home/ann/a.txt"])
    def test_some_may_do_all(self, who: Principal, right: Right, name: str) -> None:
        assert may(who, right, name)
        assert may_somewhere(who, right, name)

    @pytest.mark.parametrize(
        ("who", "name", "rights"),
        [
            (GUEST, "", ""),
            (GUEST, "a.txt", ""),
            (GUEST, "pub/a.txt", "list get"),
            (GUEST, "inbox/a.txt", "add"),
            (GUEST, "home/ann/a.txt", ""),
            (Principal(address="127.0.0.1"), "a.txt", ""),
            (ANN, "a.txt", "list get"),
            (ANN, "home/ann/a.txt", "list get add replace delete"),
            (ANN, "HOME/Ann/a.txt", "list get add replace delete"),
            (ANN, "team/a.txt", "list get add"),
            (BOB, "", "list get watch"),
            (BOB, "a.txt", "list get watch"),
            (BOB, "home/ann/a.txt", "list get watch"),
            (CLOSED, "a.txt", ""),
            (CLOSED, "pub/a.txt", "list get"),
            (Principal("token", "ann", ELSEWHERE, key=1), "a.txt", ""),
            (Principal("link", None, ELSEWHERE, key=1), "a.txt", ""),
        ],
        ids=str,
    )
    def test_the_others_may_do_what_the_rules_say(self, who: Principal, name: str, rights: str) -> None:
        assert " ".join(right for right in REFUSALS if may(who, right, name)) == rights

    @pytest.mark.parametrize(
        ("who", "right", "prefix", "somewhere"),
        [
            (GUEST, LIST, "", True),
            (GUEST, LIST, "inbox/", False),
            (GUEST, DELETE, "", False),
            (ANN, DELETE, "", True),
            (BOB, DELETE, "", False),
        ],
    )
    def test_a_right_in_some_folder_is_found(
        self, who: Principal, right: Right, prefix: str, somewhere: bool
    ) -> None:
        assert may_somewhere(who, right, prefix) is somewhere

    @pytest.mark.parametrize("right", REFUSALS)
    @pytest.mark.parametrize("who", [LOCAL, ROOT, ANN, GUEST], ids=str)
    def test_a_ticket_is_good_for_the_download_of_its_file_alone(self, who: Principal, right: Right) -> None:
        holder = replace(who, ticket=Ticket("pub/a.txt"))
        assert may(holder, right, "pub/a.txt") is (right == GET)
        for other in ("", "pub", "pub/b.txt", "pub/a.txt/b", "pub/A.txt"):
            assert not may(holder, right, other)

    def test_a_ticket_is_good_as_long_as_its_holder_may_have_the_file(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        holder = replace(ANN, ticket=Ticket("home/ann/a.txt"))
        assert may(holder, GET, "home/ann/a.txt")
        monkeypatch.setattr(snapshots, "_newest", Snapshot(1, Rules([]), PEOPLE))
        assert not may(holder, GET, "home/ann/a.txt")


def test_who_has_no_account_any_more_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(map(is_known, (GUEST, LOCAL, ANN)))
    assert not is_known(CLOSED)


def test_a_refusal_is_a_sentence() -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    for right, sentence in REFUSALS.items():
        with pytest.raises(PermissionDenied) as refusal:
            require(request, right, "a.txt")
        assert str(refusal.value) == sentence
        assert sentence.endswith(".")


def test_an_upload_that_may_replace_a_file_asks_for_that_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "files_app.access.policy.may", lambda who, right, name: asked.append((right, name)) or True
    )
    request = RequestFactory().get("/")
    for exists in (None, "fail", "rename", "replace"):
        require_put(request, exists, "a.txt")
    assert asked == [("add", "a.txt")] * 4 + [("replace", "a.txt")]


class TestOverTheWire:
    def test_a_guest_cannot_speak_for_others(self, served: Served) -> None:
        served.put("a.txt", b"x")
        with served.client() as client:
            for field, value in (
                ("client", "somebody"),
                ("user", "maria"),
                ("via", "web"),
                ("principal", "local"),
            ):
                with pytest.raises(ErrorReply) as refusal:
                    client.request("GET", name="a.txt", **{field: value})
                assert refusal.value.code == "denied"

    def test_a_wrong_token_is_denied_and_the_connection_stays_usable(self, served: Served) -> None:
        with served.peer() as peer:
            assert peer.refusal(b'AUTH {"token": "\\ud800"}\n')["code"] == "denied"
            assert peer.refusal(b"AUTH wrong\n")["code"] == "denied"
            assert peer.is_usable()
