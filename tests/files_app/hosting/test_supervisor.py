"""Children of a supervisor, as small programs; the real two are in ``tests/test_start.py``."""

import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from files_app.hosting import supervisor as module
from files_app.hosting.supervisor import LIVED, PAUSES, Backoff, Program, supervising
from tests.servers import wait_until

LISTENS = """
import pathlib, socket, sys, time
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
with pathlib.Path(sys.argv[2]).open("a") as log:
    log.write("x")
if sys.argv[3:]:
    sock.accept()
    sys.exit(int(sys.argv[3]))
time.sleep(60)
"""
FAILS = "import sys; print('no such folder'); sys.exit(1)"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.02))


def program(label: str, port: int, code: str, *words: str) -> Program:
    return Program(label, [sys.executable, "-c", code, *words], ("127.0.0.1", port))


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        ([0, 0, 0, 0, 0, 0, 0], [1, 2, 5, 10, 30, 30, 30]),
        ([0, 0, LIVED, 0, LIVED - 1], [1, 2, 1, 2, 5]),
        ([3600, 3600], [1, 1]),
    ],
)
def test_pauses_grow_until_it_has_lived_for_a_while(
    lives: list[float], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", PAUSES)
    backoff = Backoff()
    assert [backoff.pause(lived) for lived in lives] == pauses


def test_what_cannot_start_ends_it_all_and_is_named(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    programs = [program("good ", port, LISTENS, str(port), str(log)), program("bad", port + 1, FAILS)]
    with supervising(programs) as running:
        assert not running.wait_ready()
        assert running.wait() == "bad"
    assert "bad | no such folder\n" in capfd.readouterr().out


def test_what_dies_after_it_was_ready_is_started_again(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with supervising([program("it", port, LISTENS, str(port), str(log), "3")]) as running:
        assert running.wait_ready()

        def has_lived_three_times() -> bool:
            if len(log.read_text()) >= 3:
                return True
            module._answers(("127.0.0.1", port))  # each time somebody connects it ends
            return not running._look()

        wait_until(has_lived_three_times, 20)
        assert len(log.read_text()) >= 3
    out = capfd.readouterr().out
    assert "it | ended unasked (exit code 3); it is started again in 0.01 s\n" in out
    assert out.count("it | ended unasked (exit code 3)") >= 2


def test_a_start_that_the_system_refuses_is_tried_again(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with supervising([program("it", port, LISTENS, str(port), str(log), "0")]) as running:
        assert running.wait_ready()
        start, refusals = module.Child.start, iter([True, False])

        def refused(child: module.Child) -> None:
            if next(refusals, False):
                raise BlockingIOError(11, "Resource temporarily unavailable")
            start(child)

        monkeypatch.setattr(module.Child, "start", refused)
        wait_until(lambda: running._look() and len(log.read_text()) >= 2, 20)
    assert "it | cannot be started (Resource temporarily unavailable)" in capfd.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_all_and_nothing_has_failed(port: int, tmp_path: Path, number: str) -> None:
    with supervising([program("it", port, LISTENS, str(port), str(tmp_path / "log"))]) as running:
        assert running.wait_ready()
        signal.raise_signal(getattr(signal, number))
        assert running.wait() is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1).close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_what_does_not_stop_is_killed(
    port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
    begun = time.monotonic()
    with supervising([program("it", port, stubborn + "import time; time.sleep(60)")]):
        wait_until(lambda: "deaf" in capfd.readouterr().out, 20)
    assert time.monotonic() - begun < 20


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_without_a_terminal_children_can_go_on_printing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fd, other = os.pipe()
    os.close(fd)  # who reads is gone
    with os.fdopen(other, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        for _ in range(3):
            module.say("files | a line\n")
        monkeypatch.undo()


def test_a_program_gets_its_own_variables_and_others_are_called_meanwhile(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os; print('it is', os.environ['CFS_TEST'], 'PATH' in os.environ)"
    told = Program("it", [sys.executable, "-c", f"{code}; import time; time.sleep(0.5)"], ("127.0.0.1", port))
    calls: list[None] = []
    with supervising([replace(told, environment={"CFS_TEST": "here"})]) as running:
        assert running.wait(lambda: calls.append(None)) == "it"
    assert calls
    assert "it | it is here True\n" in capfd.readouterr().out
