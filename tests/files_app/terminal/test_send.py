"""Uploads from a terminal go on: after breaks, after a new start, and say it when they cannot."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from files_app.models import Transfer
from files_app.terminal import send as send_module
from files_app.terminal.send import Send, SendError
from fileserver.client.blocking import Client, Readable
from fileserver.events import TransferFinished, TransferStarted
from fileserver.storage.uploads import UploadStore
from fileserver.wire.lines import Fields
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, serving
from tests.lossy import lossy_proxy, random_cuts
from tests.servers import numbered_bytes, wait_until

pytestmark = pytest.mark.usefixtures("database", "cache", "quick_tries")

DATA = numbered_bytes(3 << 20)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command remembers what it has begun."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr("files_app.terminal.send.Path.home", lambda: tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_module, "PAUSES", (0.01,))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "big.iso"
    path.write_bytes(DATA)
    return path


class Line:
    """Connections that break: each of ``cuts`` is after how many bytes of the next body."""

    def __init__(self, address: Callable[[], tuple[str, int]], *cuts: int) -> None:
        self._address = address
        self.dead: list[socket.socket] | None = None  # of lines that break without the server hearing of it
        self.cuts = list(cuts)
        self.offsets: list[int] = []  # with which the bodies began
        self.cut: Callable[[], None] = lambda: None  # is told of each

    def __call__(self) -> Client:
        line = self

        class Breaking(Client):
            def request(self, verb: str, **fields: Any) -> Fields:
                found = super().request(verb, **fields)
                if verb == "PUT":
                    line.offsets.append(found["offset"])
                return found

            def send_body(
                self, source: Readable, length: int, sent: Callable[[memoryview], None] = lambda piece: None
            ) -> Fields:
                if not line.cuts:
                    return super().send_body(source, length, sent)
                piece = memoryview(bytearray(line.cuts.pop(0)))
                piece = piece[: source.readinto(piece)]
                self._sock.sendall(piece)
                sent(piece)
                line.cut()
                if line.dead is not None:
                    line.dead.append(self._sock.dup())
                self.close()
                raise ConnectionResetError("The line broke.")

        return Breaking(*self._address())


def sending(served: Served, path: Path, *cuts: int, name: str = "big.iso", exists: str = "fail") -> Send:
    line, address = Line(lambda: address, *cuts), served.server.address
    send = Send(line, "server", path, name, exists)
    send.line = line  # type: ignore[attr-defined]
    return send


def remembered(cache: Path) -> list[Path]:
    return list((cache / "concurrent-file-server" / "uploads").glob("*"))


def nothing(done: int) -> None:
    pass


def test_a_file_arrives_and_nothing_is_remembered(served: Served, source: Path, cache: Path) -> None:
    seen: list[int] = []
    assert sending(served, source).run(seen.append) == "big.iso"
    assert (served.folder / "big.iso").read_bytes() == DATA
    assert (seen[0], seen[-1], seen == sorted(seen)) == (0, len(DATA), True)
    assert remembered(cache) == []


def test_an_empty_file_arrives(served: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sending(served, tmp_path / "empty", name="empty").run(nothing) == "empty"
    assert (served.folder / "empty").read_bytes() == b""


def test_it_goes_on_after_every_break_and_sends_nothing_twice(
    served: Served, source: Path, cache: Path
) -> None:
    send = sending(served, source, 100_000, 1_000_000, 0, 200_000)
    seen: list[int] = []
    assert send.run(seen.append) == "big.iso"
    assert (served.folder / "big.iso").read_bytes() == DATA
    offsets = send.line.offsets  # type: ignore[attr-defined]
    assert (offsets[0], offsets == sorted(offsets), len(offsets)) == (0, True, 5)
    assert offsets[-1] <= 1_300_000
    assert seen[-1] == len(DATA)
    assert remembered(cache) == []
    wait_until(lambda: served.events.of(TransferFinished)[-1].outcome == "complete")
    served.settle()
    row = Transfer.objects.get()
    assert (row.outcome, row.done, row.error) == ("complete", len(DATA), "")


def test_it_goes_on_at_once_after_lines_that_die_without_a_word(served: Served, source: Path) -> None:
    send = sending(served, source, 100_000, 1_000_000, 0, 200_000)
    dead = send.line.dead = []  # type: ignore[attr-defined]
    try:
        begun = time.monotonic()
        assert send.run(nothing) == "big.iso"
        assert time.monotonic() - begun < 30  # half of what the server waits for a line
        assert len(dead) == 4
    finally:
        for sock in dead:
            sock.close()
    assert (served.folder / "big.iso").read_bytes() == DATA
    wait_until(lambda: served.events.of(TransferFinished))
    served.settle()
    row = Transfer.objects.get()
    assert (row.outcome, row.done) == ("complete", len(DATA))
    assert len(served.events.of(TransferStarted)) == 1


def test_two_that_send_the_same_do_not_take_it_from_each_other_for_ever(
    served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sending(served, source), sending(served, source)
    send_body, reached, taken = Client.send_body, threading.Event(), threading.Event()

    def slowly(self: Client, source: Readable, length: int, sent: Callable[[memoryview], None]) -> Fields:
        monkeypatch.setattr(Client, "send_body", send_body)
        reached.set()
        assert taken.wait(10)
        return send_body(self, source, length, sent)

    monkeypatch.setattr(Client, "send_body", slowly)
    ends: list[object] = []

    def run_first() -> None:
        try:
            ends.append(first.run(nothing))
        except SendError as error:
            ends.append(str(error))

    thread = threading.Thread(target=run_first)
    thread.start()
    assert reached.wait(10)
    second._memory.keep(first._memory.upload or "")
    assert second.run(nothing) == "big.iso"
    taken.set()
    thread.join()
    assert ends == [f"Somebody else goes on with the upload of {source}, perhaps the same command."]
    assert (served.folder / "big.iso").read_bytes() == DATA


@pytest.mark.parametrize("seed", range(3))
def test_it_arrives_over_a_line_that_breaks_20_times(
    served: Served, source: Path, cache: Path, seed: int
) -> None:
    cuts = random_cuts(seed, 20, len(DATA) // 12)
    with lossy_proxy(served.port, cuts) as port:
        send = Send(lambda: Client(port=port), "server", source, "big.iso", "fail")
        assert send.run(nothing) == "big.iso"
    assert list(cuts) == []
    assert (served.folder / "big.iso").read_bytes() == DATA
    assert remembered(cache) == []
    wait_until(lambda: served.events.of(TransferFinished)[-1].outcome == "complete")
    served.settle()
    assert Transfer.objects.filter(outcome="complete").count() == 1


def test_while_the_server_does_not_know_of_the_break_it_is_asked_again(
    served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = sending(served, source, 1000)
    refusals = iter([ErrorReply("busy", "Somebody."), ErrorReply("offset", "Not yet.", offset=3), None])
    resume = UploadStore.resume

    def not_yet(self: UploadStore, *args: Any) -> Any:
        if error := next(refusals):
            raise error
        return resume(self, *args)

    monkeypatch.setattr(UploadStore, "resume", not_yet)
    assert send.run(nothing) == "big.iso"
    assert (served.folder / "big.iso").read_bytes() == DATA


def test_it_goes_on_over_restarts_of_the_server(folder: Path, settings: Any, source: Path) -> None:
    addresses: list[tuple[str, int]] = []
    cut = threading.Semaphore(0)
    done: list[str] = []
    line = Line(lambda: addresses[-1], 500_000, 500_000)
    line.cut = cut.release
    send = Send(line, "server", source, "big.iso", "fail")
    upload = threading.Thread(target=lambda: done.append(send.run(nothing)))
    for run in range(3):
        with serving(folder) as served:
            addresses.append(served.server.address)
            if run == 0:
                upload.start()
            if run < 2:
                assert cut.acquire(timeout=10)
            else:
                upload.join(20)
    assert done == ["big.iso"]
    assert (folder / "big.iso").read_bytes() == DATA
    row = Transfer.objects.get()
    assert (row.outcome, row.done) == ("complete", len(DATA))


def give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second break in a row without a byte between them: after the first, it always tries again."""
    monkeypatch.setattr(send_module, "PATIENCE", -1.0)
    monkeypatch.setattr(send_module, "PAUSES", (0.01,))


class TestTheNextRun:
    def test_goes_on_where_the_last_one_ended(
        self, served: Served, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            give_up(patched)
            with pytest.raises(SendError):
                sending(served, source, 1_000_000, 0, 0).run(nothing)
        assert len(remembered(cache)) == 1
        wait_until(lambda: served.events.of(TransferFinished))
        send = sending(served, source)
        assert send.run(nothing) == "big.iso"
        assert send.line.offsets == [1_000_000]  # type: ignore[attr-defined]
        assert (served.folder / "big.iso").read_bytes() == DATA
        assert remembered(cache) == []

    def test_of_a_file_that_has_changed_since_begins_anew(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            give_up(patched)
            with pytest.raises(SendError):
                sending(served, source, 1000, 0, 0).run(nothing)
        source.write_bytes(DATA[::-1])
        send = sending(served, source)
        assert send.run(nothing) == "big.iso"
        assert send.line.offsets == [0]  # type: ignore[attr-defined]
        assert (served.folder / "big.iso").read_bytes() == DATA[::-1]

    def test_under_another_name_or_to_another_server_begins_anew(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            give_up(patched)
            with pytest.raises(SendError):
                sending(served, source, 1000, 0, 0).run(nothing)
        send = sending(served, source, name="other.iso")
        assert send.run(nothing) == "other.iso"
        assert send.line.offsets == [0]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("text", [b"0" * 32, b"", b"no id", b"\xff", b"x" * 10_000])
    def test_with_a_memory_that_means_nothing_begins_anew(
        self, served: Served, source: Path, cache: Path, text: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            give_up(patched)
            with pytest.raises(SendError):
                sending(served, source, 1000, 0, 0).run(nothing)
        remembered(cache)[0].write_bytes(text)
        assert sending(served, source).run(nothing) == "big.iso"
        assert remembered(cache) == []

    def test_without_a_place_for_the_memory_it_is_sent_all_the_same(
        self, served: Served, source: Path, cache: Path
    ) -> None:
        cache.write_text("no folder")
        assert sending(served, source, 1000).run(nothing) == "big.iso"

    def test_of_one_that_has_ended_unheard_sends_nothing_and_says_the_name(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            UploadStore, "forget", lambda self, upload: None
        )  # as if END had not been acknowledged
        served.put("big.iso", b"other")
        send = sending(served, source, len(DATA), exists="rename")
        send.line.cut = lambda: wait_until(  # type: ignore[attr-defined]
            lambda: (served.folder / "big (1).iso").exists()
        )
        assert send.run(nothing) == "big (1).iso"
        assert send.line.offsets == [0, len(DATA)]  # type: ignore[attr-defined]
        served.settle()
        assert Transfer.objects.count() == 1


class TestTakenNames:
    def test_one_that_was_taken_from_the_start_is_refused_before_the_first_byte(
        self, served: Served, source: Path
    ) -> None:
        served.put("big.iso", b"other")
        with pytest.raises(ErrorReply) as refusal:
            sending(served, source).run(nothing)
        assert refusal.value.code == "exists"
        assert not served.events.of(TransferStarted)

    @pytest.mark.parametrize(("exists", "name"), [("replace", "big.iso"), ("rename", "big (1).iso")])
    def test_one_that_was_taken_meanwhile_is_finished_without_sending_again(
        self, served: Served, source: Path, cache: Path, exists: str, name: str
    ) -> None:
        send = sending(served, source, 1000)
        send.line.cut = lambda: served.put("big.iso", b"other")  # type: ignore[attr-defined]
        with pytest.raises(ErrorReply) as refusal:
            send.run(nothing)
        assert refusal.value.code == "exists"
        assert (served.folder / "big.iso").read_bytes() == b"other"
        assert len(remembered(cache)) == 1
        send = sending(served, source, exists=exists)
        assert send.run(nothing) == name
        assert send.line.offsets == [len(DATA)]  # type: ignore[attr-defined]
        assert (served.folder / name).read_bytes() == DATA


class TestGivenUp:
    def test_a_server_that_is_gone_for_good_is_said_with_what_is_kept(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(send_module, "PATIENCE", 0.3)
        send = sending(served, source, 2 << 20, 0, 0, 0, 0, 0, 0)

        def gone() -> None:
            wait_until(lambda: served.server.registry.live()[0].done == 2 << 20)
            served.server.shutdown(grace=0)

        send.line.cut = gone  # type: ignore[attr-defined]
        with pytest.raises(SendError) as failure:
            send.run(nothing)
        said = str(failure.value).replace("\xa0", " ")
        assert said.startswith(f"{source} could not be sent: ")
        assert said.endswith(" the same command goes on from there within a day.")
        assert "Connection refused" in said

    def test_progress_gives_it_new_patience(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        monkeypatch.setattr("files_app.terminal.send.time.monotonic", lambda: now[0])
        send = sending(served, source, *[300_000] * 8)
        offset = [0]

        def pass_time() -> None:
            offset[0] += 300_000
            wait_until(lambda: served.server.registry.live()[0].done == offset[0])
            now[0] += 0.9 * send_module.PATIENCE

        send.line.cut = pass_time  # type: ignore[attr-defined]
        assert send.run(nothing) == "big.iso"

    def test_one_that_somebody_cancels_is_not_begun_again(
        self, served: Served, source: Path, cache: Path
    ) -> None:
        send = sending(served, source, 1000, 1000)

        def cancel() -> None:
            live = served.server.registry.live()
            with served.client() as other:
                other.request("CANCEL", id=live[0].id)
            served.events.wait_for_kind(TransferFinished)

        send.line.cut = cancel  # type: ignore[attr-defined]
        with pytest.raises(SendError, match="was cancelled at the server; nothing of it was kept"):
            send.run(nothing)
        assert len(served.events.of(TransferStarted)) == 1
        assert remembered(cache) == []

    @pytest.mark.parametrize("content", [DATA[:10], DATA + b"x", DATA[::-1]])
    def test_a_file_that_changes_meanwhile_is_said_at_once(
        self, served: Served, source: Path, content: bytes
    ) -> None:
        send = sending(served, source, 1000, 1000)
        send.line.cut = lambda: source.write_bytes(content)  # type: ignore[attr-defined]
        with pytest.raises(SendError, match="was changed while it was sent"):
            send.run(nothing)
        assert not (served.folder / "big.iso").exists()

    def test_a_file_that_goes_meanwhile_is_an_error_of_the_file(self, served: Served, source: Path) -> None:
        send = sending(served, source, 1000, 1000)
        send.line.cut = source.unlink  # type: ignore[attr-defined]
        with pytest.raises(FileNotFoundError):
            send.run(nothing)

    @pytest.mark.parametrize("code", ["no-space", "too-large", "denied", "bad-name", "checksum"])
    def test_what_no_other_try_would_mend_is_not_tried_again(
        self, served: Served, source: Path, monkeypatch: pytest.MonkeyPatch, code: str
    ) -> None:
        tries: list[int] = []

        def refuse(*args: Any) -> None:
            tries.append(1)
            raise ErrorReply(code, "No.")

        monkeypatch.setattr(UploadStore, "begin", refuse)
        with pytest.raises(ErrorReply):
            sending(served, source).run(nothing)
        assert len(tries) == 1
