"""One file on its way to this disk."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from files_app.models import Transfer
from files_app.terminal.fetch import Fetch, FetchError
from fileserver.client.blocking import Client, Incomplete
from fileserver.events import TransferStarted
from fileserver.pacing import Pace
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served
from tests.servers import numbered_bytes, sha256

pytestmark = pytest.mark.usefixtures("database")

DATA = numbered_bytes(2_000_000)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with served.client() as client:
        yield client


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def run(fetch: Fetch, pace: Pace | None = None) -> list[tuple[int, int]]:
    return list(fetch.run(pace))


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def broken_fetch(served: Served, client: Client, target: Path, name: str = "big.bin") -> None:
    """Begin to fetch, and have the server cut it in the middle."""

    def fetch() -> None:
        for _ in Fetch(client, name, target).run(None):
            for transfer in served.server.registry.live():
                transfer.control.stop("cancelled")

    with pytest.raises(Incomplete):
        fetch()


def offsets(served: Served) -> list[int]:
    return [event.offset for event in served.events.of(TransferStarted)]


def test_a_file_arrives_whole_is_verified_and_leaves_nothing_beside_it(
    served: Served, client: Client, home: Path
) -> None:
    served.put("a.bin", DATA)
    steps = run(Fetch(client, "a.bin", home / "a.bin"))
    assert (home / "a.bin").read_bytes() == DATA
    assert names(home) == ["a.bin"]
    assert steps[-1] == (len(DATA), len(DATA))
    assert steps == sorted(steps)
    row = served.row_of(1)
    assert (row.outcome, row.verified) == ("complete", True)


def test_an_empty_file_arrives_too(served: Served, client: Client, home: Path) -> None:
    served.put("empty", b"")
    assert run(Fetch(client, "empty", home / "empty")) == []
    assert (home / "empty").read_bytes() == b""


def test_a_file_in_slow_motion_is_paced(served: Served, client: Client, home: Path) -> None:
    served.put("a.txt", b"x" * 30)
    run(Fetch(client, "a.txt", home / "a.txt"), Pace(10, 0.01))
    assert served.row_of(1).pace == "10 bytes each 0.01 s"


@pytest.mark.parametrize(
    "name", ["x" * 251 + ".txt", "ü" * 127 + "x", "🎉" * 63 + "abc", "x" * 250 + ".part"]
)
def test_a_name_of_255_bytes_can_be_had_and_resumed(
    served: Served, client: Client, home: Path, name: str
) -> None:
    assert len(name.encode()) == 255
    served.put(name, bytes(12 << 20))
    broken_fetch(served, client, home / name, name)
    left = names(home)
    assert len(left) == 2
    for beside in left:
        beside.encode()  # valid UTF-8, which some systems ask for
        assert len(beside.encode()) <= 255
    with served.client() as again:
        run(Fetch(again, name, home / name))
    assert names(home) == [name]


class TestBreaks:
    def test_what_broke_off_is_kept_and_said(self, served: Served, client: Client, home: Path) -> None:
        served.put("big.bin", bytes(12 << 20))
        fetch = Fetch(client, "big.bin", home / "big.bin")
        assert fetch.what_is_kept() == "Nothing was kept."
        broken_fetch(served, client, home / "big.bin")
        assert names(home) == ["big.bin.part", "big.bin.part.etag"]
        assert 0 < (home / "big.bin.part").stat().st_size < 12 << 20
        assert "are kept: the same command goes on from there." in fetch.what_is_kept()

    def test_the_next_run_goes_on_where_the_last_one_ended(
        self, served: Served, client: Client, home: Path
    ) -> None:
        data = numbered_bytes(12 << 20)
        served.put("big.bin", data)
        broken_fetch(served, client, home / "big.bin")
        kept = (home / "big.bin.part").stat().st_size
        with served.client() as again:
            steps = run(Fetch(again, "big.bin", home / "big.bin"))
        assert offsets(served) == [0, kept]
        assert steps[0][0] > kept
        assert sha256((home / "big.bin").read_bytes()) == sha256(data)
        assert names(home) == ["big.bin"]
        assert served.row_of(2).verified is True

    def test_a_file_that_changed_meanwhile_is_begun_anew(
        self, served: Served, client: Client, home: Path
    ) -> None:
        served.put("big.bin", bytes(12 << 20))
        broken_fetch(served, client, home / "big.bin")
        other = numbered_bytes(3_000_000)
        served.put("big.bin", other)
        with served.client() as again:
            run(Fetch(again, "big.bin", home / "big.bin"))
        assert (home / "big.bin").read_bytes() == other
        assert offsets(served) == [0, 0]

    def test_a_part_that_is_longer_than_the_file_is_begun_anew(
        self, served: Served, client: Client, home: Path
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"much longer than it should be")
        (home / "a.txt.part.etag").write_text(served.storage.stat("a.txt").etag)
        run(Fetch(client, "a.txt", home / "a.txt"))
        assert (home / "a.txt").read_bytes() == b"hello"

    @pytest.mark.parametrize("etag", [b"", b"nonsense", b"\xff\xfe", b"1-2-3\n"])
    def test_a_part_of_an_unknown_state_is_begun_anew(
        self, served: Served, client: Client, home: Path, etag: bytes
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"HE")
        (home / "a.txt.part.etag").write_bytes(etag)
        run(Fetch(client, "a.txt", home / "a.txt"))
        assert (home / "a.txt").read_bytes() == b"hello"

    def test_a_part_without_its_state_is_begun_anew(self, served: Served, client: Client, home: Path) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"HE")
        run(Fetch(client, "a.txt", home / "a.txt"))
        assert (home / "a.txt").read_bytes() == b"hello"

    def test_a_part_that_has_everything_is_only_checked_and_named(
        self, served: Served, client: Client, home: Path
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"hello")
        (home / "a.txt.part.etag").write_text(served.storage.stat("a.txt").etag)
        assert run(Fetch(client, "a.txt", home / "a.txt")) == []
        assert (home / "a.txt").read_bytes() == b"hello"
        assert offsets(served) == [5]

    def test_forgotten_parts_are_gone(self, served: Served, client: Client, home: Path) -> None:
        served.put("big.bin", bytes(12 << 20))
        broken_fetch(served, client, home / "big.bin")
        Fetch(client, "big.bin", home / "big.bin").forget()
        assert names(home) == []

    def test_a_file_that_changes_while_it_is_sent_never_gets_its_name(
        self, served: Served, client: Client, home: Path
    ) -> None:
        served.put("big.bin", bytes(12 << 20))

        def fetch() -> None:
            for done, _ in Fetch(client, "big.bin", home / "big.bin").run(None):
                if done < 1_000_000:
                    with (served.folder / "big.bin").open("ab") as file:
                        file.write(b"more")

        with pytest.raises(ErrorReply) as refusal:
            fetch()
        assert refusal.value.code == "changed"
        assert not (home / "big.bin").exists()


class TestChecked:
    def test_a_part_that_was_damaged_is_thrown_away(self, served: Served, client: Client, home: Path) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"HE")
        (home / "a.txt.part.etag").write_text(served.storage.stat("a.txt").etag)
        with pytest.raises(FetchError, match="arrived with a wrong hash and was thrown away: try again"):
            run(Fetch(client, "a.txt", home / "a.txt"))
        assert names(home) == []
        row = served.row_of(1)
        assert (row.outcome, row.error, row.verified) == ("failed", "checksum", False)

    def test_a_file_that_is_not_what_its_hash_says_is_thrown_away(
        self, served: Served, client: Client, home: Path
    ) -> None:
        served.put("a.txt", b"hello")
        served.storage.remember_hash("a.txt", served.storage.stat("a.txt").etag, "0" * 64)
        with pytest.raises(FetchError, match="wrong hash"):
            run(Fetch(client, "a.txt", home / "a.txt"))
        assert names(home) == []


class TestTarget:
    def test_a_target_that_is_that_very_file_is_left_as_it_is(
        self, served: Served, client: Client, home: Path
    ) -> None:
        with served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5)
            peer.send(b"hello")
            peer.end()
        served.settle()
        before = Transfer.objects.count()
        (home / "a.txt").write_bytes(b"hello")
        os.utime(home / "a.txt", (1, 1))
        assert run(Fetch(client, "a.txt", home / "a.txt")) == []
        assert (home / "a.txt").stat().st_mtime == 1
        assert Transfer.objects.count() == before

    @pytest.mark.parametrize("content", [b"other", b"longer than it", b""])
    def test_any_other_target_is_not_overwritten(
        self, served: Served, client: Client, home: Path, content: bytes
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt").write_bytes(content)
        with pytest.raises(FetchError, match="exists and is another file: remove it, or use --to"):
            run(Fetch(client, "a.txt", home / "a.txt"))
        assert (home / "a.txt").read_bytes() == content

    def test_a_file_that_is_not_there_leaves_nothing(
        self, served: Served, client: Client, home: Path
    ) -> None:
        with pytest.raises(ErrorReply) as refusal:
            run(Fetch(client, "nothing", home / "nothing"))
        assert refusal.value.code == "not-found"
        assert names(home) == []
