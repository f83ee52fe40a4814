"""What ``start`` says of the page's address, and that it says it again when that has changed."""

import io
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from files_app.access import addresses
from files_app.access.addresses import Machine
from files_app.access.guests import let_guests
from files_app.terminal import announcing
from files_app.terminal.announcing import IN_THE_CLEAR, Announcement
from tests.files_app.test_qr import read_lines

pytestmark = pytest.mark.usefixtures("database")


class Screen(io.TextIOWrapper):
    def __init__(self, is_terminal: bool = True, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="backslashreplace")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.WEB_HOST, settings.WEB_PORT = "0.0.0.0", 8000
    settings.PUBLIC_URL = settings.TLS_CERT = ""


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def be_at(*others: str) -> None:
        monkeypatch.setattr(addresses, "machine", lambda: Machine((), others))

    be_at("192.168.1.5", "10.0.0.7")
    return be_at


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, at: Callable[..., None]) -> Callable[..., Screen]:
    def show(columns: int = 80, **kwargs: Any) -> Screen:
        made = Screen(**kwargs)
        monkeypatch.setattr(announcing.sys, "stdout", made)
        monkeypatch.setattr(announcing.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
        return made

    return show


def announcement() -> Announcement:
    return Announcement(lambda text: text)


def code_in(text: str) -> str:
    return "\n".join(line[2:] for line in text.splitlines() if re.fullmatch("  [ ▀▄█]+", line))


def test_a_terminal_shows_addresses_code_guests_and_the_warning(screen: Callable[..., Screen]) -> None:
    let_guests("drop")
    terminal = screen()
    announcement().tell()
    assert "The page is at http://192.168.1.5:8000/   Ctrl+C stops." in terminal.text
    assert "Also at http://10.0.0.7:8000/" in terminal.text
    assert read_lines(code_in(terminal.text)) == ["http://192.168.1.5:8000/"]
    assert "Guests may upload" in terminal.text
    assert IN_THE_CLEAR in terminal.text


@pytest.mark.parametrize("where", [{"is_terminal": False}, {"columns": 28}, {"encoding": "ascii"}])
def test_where_a_code_cannot_be_shown_there_is_the_address_alone(
    screen: Callable[..., Screen], where: dict[str, Any]
) -> None:
    terminal = screen(**where)
    announcement().tell()
    assert code_in(terminal.text) == ""
    assert "\\u2588" not in terminal.text
    assert "The page is at http://192.168.1.5:8000/" in terminal.text


def test_with_tls_nothing_travels_in_the_clear(
    screen: Callable[..., Screen], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "own_fingerprint", lambda: "0123abcd")
    terminal = screen()
    settings.TLS_CERT = "cert.pem"
    announcement().tell()
    assert "Fingerprint of its key (SHA-256): 0123abcd" in terminal.text
    assert "The page is at https://192.168.1.5:8000/" in terminal.text
    assert IN_THE_CLEAR not in terminal.text


def test_on_loopback_it_is_one_sentence(screen: Callable[..., Screen], settings: Any) -> None:
    terminal = screen()
    settings.WEB_HOST = "127.0.0.1"
    announcement().tell()
    assert terminal.text.split() == ["The", "page", "is", "at", "http://127.0.0.1:8000/", "Ctrl+C", "stops."]


def test_another_address_is_told_once_with_its_code(
    screen: Callable[..., Screen], at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(announcing.time, "monotonic", lambda: clock[0])
    terminal = screen()
    said = announcement()
    said.look()
    assert terminal.text == ""
    said.tell()
    before = len(terminal.text)
    for _ in range(3):
        clock[0] += 10
        said.look()
    assert len(terminal.text) == before
    at("10.0.0.9")
    said.look()
    assert len(terminal.text) == before  # not each time that it is called
    clock[0] += 10
    said.look()
    said.look()
    new = terminal.text[before:]
    assert "The address of this machine has changed." in new
    assert new.count("The page is at http://10.0.0.9:8000/") == 1
    assert read_lines(code_in(new)) == ["http://10.0.0.9:8000/"]


def test_without_a_network_it_says_so_until_there_is_one(
    screen: Callable[..., Screen], at: Callable[..., None]
) -> None:
    at()
    terminal = screen()
    said = announcement()
    said.tell()
    assert "The page is at http://127.0.0.1:8000/" in terminal.text
    assert "in no network now" in terminal.text
    assert code_in(terminal.text) == ""
    at("10.0.0.9")
    said.look()
    assert "The page is at http://10.0.0.9:8000/" in terminal.text
