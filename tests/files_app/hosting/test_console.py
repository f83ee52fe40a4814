"""What ``runfileserver`` says on the console."""

import logging

import pytest

from files_app.hosting import console as console_module
from files_app.hosting.console import Console
from fileserver import events

STARTED = events.TransferStarted(
    id=7,
    direction="download",
    name="notes.txt",
    size=2048,
    offset=0,
    length=2048,
    client="127.0.0.1:5000",
    user=None,
    via="tcp",
    thread="ClientThread-3",
    pace="1000 bytes each 0.2 s",
    at=0.0,
)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "files_app.hosting.console")
    return caplog


def test_a_transfer_is_told_from_its_beginning_to_its_end(said: pytest.LogCaptureFixture) -> None:
    console = Console()
    console(events.ClientConnected("127.0.0.1:5000", "ClientThread-3"))
    console(STARTED)
    console(events.TransferProgressed(7, "notes.txt", 1024, 2048, paced=True, seconds=2.0))
    console(events.TransferFinished(7, "notes.txt", 2048, "complete", "", None, 0.4, 0.0))
    console(events.ClientDisconnected("127.0.0.1:5000", "ClientThread-3"))
    label = "ClientThread-3: download 7 of 'notes.txt'"
    assert [message.replace("\xa0", " ") for message in said.messages] == [
        "ClientThread-3: 127.0.0.1:5000 connected",
        f"{label} started for 127.0.0.1:5000, 2.0 KiB at 1000 bytes each 0.2 s",
        f"{label}: 50% (1.0 KiB)",
        f"{label}: complete, 2.0 KiB in 0.40 s",
        "ClientThread-3: 127.0.0.1:5000 left",
    ]
    assert console._labels == {}


def test_progress_at_full_speed_is_not_worth_a_line(said: pytest.LogCaptureFixture) -> None:
    Console()(events.TransferProgressed(7, "notes.txt", 1024, 2048, paced=False, seconds=2.0))
    assert said.messages == []


def test_a_failure_says_its_reason(said: pytest.LogCaptureFixture) -> None:
    console = Console()
    console(STARTED)
    console(events.TransferFinished(7, "notes.txt", 0, "aborted", "stalled", None, 60.0, 0.0))
    assert said.messages[-1].replace("\xa0", " ").endswith("aborted (stalled), 0 bytes in 60.00 s")


def test_a_refused_client_is_a_warning(said: pytest.LogCaptureFixture) -> None:
    Console()(events.ClientRefused("127.0.0.1:5000", "The server has its 1000 clients."))
    assert said.record_tuples == [
        (
            "files_app.hosting.console",
            logging.WARNING,
            "127.0.0.1:5000 refused: The server has its 1000 clients.",
        )
    ]


def test_a_name_cannot_forge_a_line(said: pytest.LogCaptureFixture) -> None:
    console = Console()
    console(STARTED._replace(name="x\n12:00:00 all is well\x1b[2J\u202e"))
    assert "\n" not in said.messages[0]
    assert "\x1b" not in said.messages[0]
    assert "\u202e" not in said.messages[0]


@pytest.mark.parametrize(
    "event",
    [
        events.FilePublished("a", 1, 0.0, "e", "f" * 64, None),
        events.FileHashed("a", "e", "f" * 64),
        events.FileDeleted("a", "c", None),
        events.TransferVerified(7, "a", True),
    ],
)
def test_what_others_tell_is_not_told_twice(event: events.Event, said: pytest.LogCaptureFixture) -> None:
    Console()(event)
    assert said.messages == []


def test_a_transfer_whose_beginning_was_not_told_still_has_its_end_told(
    said: pytest.LogCaptureFixture,
) -> None:
    console = Console()
    console(events.TransferProgressed(7, "notes.txt", 1024, 2048, paced=True, seconds=2.0))
    console(events.TransferFinished(7, "notes.txt", 2048, "complete", "", None, 0.4, 0.0))
    assert [message.replace("\xa0", " ") for message in said.messages] == [
        "transfer 7 of 'notes.txt': 50% (1.0 KiB)",
        "transfer 7 of 'notes.txt': complete, 2.0 KiB in 0.40 s",
    ]


def test_labels_of_transfers_whose_end_is_never_told_do_not_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "MAX_LABELS", 3)
    console = Console()
    for number in range(10):
        console(STARTED._replace(id=number))
    assert list(console._labels) == [7, 8, 9]
