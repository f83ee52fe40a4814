"""Tickets: good for one name, one pace, one viewer and ten minutes, and for nothing else."""

from typing import Any

import pytest
from django.core import signing

from files_app.access import tickets
from files_app.access.principals import relay_token
from fileserver.pacing import SLOW_MOTION
from fileserver.rights import Principal, Ticket
from fileserver.wire.lines import MAX_LINE_BYTES

HERE = "127.0.0.1"
LOCAL = Principal("local", address=HERE)


def read(text: str, host: str = HERE) -> Ticket | None:
    holder = tickets.read(text, host)
    return holder.ticket if holder else None


def test_a_ticket_says_the_name_and_the_pace() -> None:
    assert read(tickets.make("week 3/ü.pdf", LOCAL)) == Ticket("week 3/ü.pdf")
    slow = tickets.make("a", LOCAL, SLOW_MOTION.as_json())
    assert read(slow) == Ticket("a", SLOW_MOTION)
    assert read(tickets.make("", LOCAL)) == Ticket("")


@pytest.mark.parametrize(
    ("viewer", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "::1"),
        ("::1", "127.0.0.2"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("192.168.0.7", "192.168.0.7"),
        ("192.168.0.7", "::ffff:192.168.0.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:0db8:0:0::1"),
    ],
)
def test_a_ticket_is_good_for_its_viewer_whatever_the_address_is_written_like(viewer: str, host: str) -> None:
    assert read(tickets.make("a", Principal(address=viewer)), host) == Ticket("a")


@pytest.mark.parametrize(
    ("viewer", "host"),
    [
        ("127.0.0.1", "192.168.0.7"),
        ("192.168.0.7", "127.0.0.1"),
        ("192.168.0.7", "192.168.0.8"),
        ("192.168.0.7", "192.168.0.70"),
        ("", "127.0.0.1"),
        ("loopback", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_a_ticket_is_good_for_nobody_else(viewer: str, host: str) -> None:
    assert read(tickets.make("a", Principal(address=viewer)), host) is None


def test_a_ticket_is_good_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tickets.make("a", LOCAL)
    now = signing.time.time()
    monkeypatch.setattr(signing.time, "time", lambda: now + 595)
    assert read(made) == Ticket("a")
    monkeypatch.setattr(signing.time, "time", lambda: now + 605)
    assert read(made) is None


def test_a_ticket_of_another_key_or_for_another_purpose_is_none(settings: Any) -> None:
    value = {"name": "a", "viewer": HERE, "pace": None, "for": ["local", 0]}
    assert read(signing.dumps(value, salt=tickets.SALT)) == Ticket("a")
    assert read(signing.dumps(value)) is None
    made = tickets.make("a", LOCAL)
    settings.SECRET_KEY = "another"
    assert read(made) is None


def test_whoever_changes_a_letter_of_a_ticket_has_none() -> None:
    made = tickets.make("a", LOCAL)
    for place, letter in enumerate(made):
        changed = made[:place] + ("B" if letter == "A" else "A") + made[place + 1 :]
        assert tickets.read(changed, HERE) is None
    assert tickets.read(made[:-1], HERE) is None


@pytest.mark.parametrize(
    "text", ["", "x", ":", "::", ".", ".:x:y", "a" * 9000, "\ud800", "é", "🎉:🎉:🎉", "\0"]
)
def test_nonsense_is_no_ticket(text: str) -> None:
    assert tickets.read(text, HERE) is None


def test_a_ticket_of_any_name_fits_into_a_url_and_a_line() -> None:
    viewer = Principal("user", "x" * 150, "2001:db8:1111:2222:3333:4444:5555:6666", key=10**17)
    for name in ("/".join(["🎉" * 63] * 4), "/".join(["é" * 127] * 4), "/".join(["x" * 255] * 4)):
        made = tickets.make(name, viewer, SLOW_MOTION.as_json())
        assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:")
        assert len(f"HEAD /get/{made}/ HTTP/1.1") + 3 * len(name.encode()) <= MAX_LINE_BYTES


def test_the_token_of_the_site_is_no_ticket() -> None:
    assert tickets.read(relay_token(), HERE) is None
