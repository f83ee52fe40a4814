"""What may somebody do."""

import pytest
from django.core.exceptions import PermissionDenied
from django.test import RequestFactory

from files_app.access.policy import REFUSALS, may, require, require_put
from fileserver.rights import GET, Principal, Right, Ticket
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served


class TestMay:
    @pytest.mark.parametrize("right", REFUSALS)
    @pytest.mark.parametrize("name", ["", "a.txt"])
    def test_whoever_is_on_this_machine_may_everything(self, right: Right, name: str) -> None:
        for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            assert may(Principal("guest", address=address), right, name)
        assert may(Principal("user", user="maria", address="::1"), right, name)
        assert may(Principal("relay", address="127.0.0.1"), right, name)

    @pytest.mark.parametrize("right", REFUSALS)
    @pytest.mark.parametrize(
        "address", ["192.168.0.7", "8.8.8.8", "fe80::1", "0.0.0.0", "::", "", "localhost"]
    )
    def test_nobody_else_may_anything(self, right: Right, address: str) -> None:
        assert not may(Principal("guest", address=address), right, "a.txt")
        assert not may(Principal("user", user="maria", address=address), right, "a.txt")

    @pytest.mark.parametrize("right", REFUSALS)
    def test_a_ticket_is_good_for_the_download_of_its_file_alone(self, right: Right) -> None:
        principal = Principal("ticket", address="127.0.0.1", ticket=Ticket("a.txt"))
        assert may(principal, right, "a.txt") is (right == GET)
        for other in ("", "b.txt", "a.txt/b", "A.txt"):
            assert not may(principal, right, other)


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
            for field, value in (("client", "somebody"), ("user", "maria"), ("via", "web")):
                with pytest.raises(ErrorReply) as refusal:
                    client.request("GET", name="a.txt", **{field: value})
                assert refusal.value.code == "denied"

    def test_a_wrong_token_is_denied_and_the_connection_stays_usable(self, served: Served) -> None:
        with served.peer() as peer:
            assert peer.refusal(b'AUTH {"token": "\\ud800"}\n')["code"] == "denied"
            assert peer.refusal(b"AUTH wrong\n")["code"] == "denied"
            assert peer.is_usable()
