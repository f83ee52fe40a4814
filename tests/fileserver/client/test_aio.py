"""The asyncio client against a real server."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import CHUNK, Incomplete
from fileserver.events import TransferStarted
from fileserver.rights import Principal
from fileserver.wire.replies import ErrorReply
from tests.servers import ALL, RELAY, Running, accounts, numbered_bytes, run_server, sha256, wait_until

ACCESS = accounts({None: (Principal("guest"), ALL), "secret": (RELAY, ALL)})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path, access=ACCESS) as running:
        yield running


def with_client(
    running: Running, work: Callable[[AsyncClient], Coroutine[Any, Any, Any]], token: str | None = None
) -> Any:
    async def main() -> Any:
        async with await AsyncClient.connect(*running.address, token=token) as client:
            return await asyncio.wait_for(work(client), 10)

    return asyncio.run(main())


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_download_arrives_whole_and_the_connection_goes_on(
    running: Running, tmp_path: Path, size: int
) -> None:
    data = numbered_bytes(size)
    (tmp_path / "a").write_bytes(data)

    async def work(client: AsyncClient) -> None:
        download = await client.get("a")
        assert (download.length, download.header["size"]) == (size, size)
        assert b"".join([piece async for piece in download]) == data
        assert (await client.request("RECEIPT", id=download.id, sha256=sha256(data)))["verified"]

    with_client(running, work)


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (b'END {"id": 1, "sent": 9}\n', None),
        (b'ERR {"code": "changed", "message": "It was changed."}\n', ErrorReply),
        (b"", Incomplete),
        (b'END {"id": 1', Incomplete),
    ],
)
@pytest.mark.parametrize("bytes_ahead", [0, 8, 9])
def test_the_last_byte_is_not_handed_out_before_the_server_has_said_how_it_ended(
    verdict: bytes, error: type[Exception] | None, bytes_ahead: int
) -> None:
    data, asked = b"123456789", asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'OK {"id": 1, "length": 9}\n' + data[:bytes_ahead])
        await asked.wait()
        writer.write(data[bytes_ahead:] + verdict)
        writer.close()

    async def main() -> tuple[bytes, Exception | None]:
        got = b""
        async with (
            await asyncio.start_server(serve, "127.0.0.1", 0) as server,
            await AsyncClient.connect(*server.sockets[0].getsockname()) as client,
        ):
            pieces = aiter(await client.get("a"))
            reading = asyncio.ensure_future(anext(pieces))
            # Long enough for bytes that are there already, and no part of what is tested.
            done, _ = await asyncio.wait({reading}, timeout=0.05)
            assert not done or len(reading.result()) < len(data)
            asked.set()
            try:
                got += await reading
                async for piece in pieces:
                    got += piece
            except (ErrorReply, Incomplete) as ending:
                return got, ending
        return got, None

    got, ending = asyncio.run(asyncio.wait_for(main(), 10))
    if error is None:
        assert (got, ending) == (data, None)
    else:
        assert isinstance(ending, error)
        assert len(got) < len(data)


def test_a_relayed_download_is_complete_with_its_receipt(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    async def work(client: AsyncClient) -> None:
        download = await client.get("a", via="web", client="10.0.0.7:1", user="ann")
        assert [piece async for piece in download] == [b"abc"]
        await client.request("RECEIPT", id=download.id)

    with_client(running, work, "secret")
    assert running.events.ending(1).outcome == "complete"
    assert running.events.of(TransferStarted)[0].user == "ann"


def test_a_view_that_is_cancelled_cuts_the_download(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(20_000_000))

    async def work(client: AsyncClient) -> None:
        async def view() -> None:
            try:
                async for _ in await client.get("a", via="web"):
                    reading.set()
                    await asyncio.Event().wait()
            finally:
                client.close()

        reading = asyncio.Event()
        task = asyncio.create_task(view())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with_client(running, work, "secret")
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")


def test_who_reads_slowly_makes_the_server_wait(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(50_000_000))

    async def work(client: AsyncClient) -> int:
        download = await client.get("a")
        transfer = running.live()
        before = -1
        while before != transfer.done:  # until nothing moves any more
            before = transfer.done
            await asyncio.sleep(0.2)
        assert before < 50_000_000
        return sum([len(piece) async for piece in download])

    assert with_client(running, work) == 50_000_000


def test_an_upload_arrives_whole(running: Running, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        end = await client.put("a", 6, pieces(b"abc", b"", b"def"), sha256=sha256(b"abcdef"))
        assert end["size"] == 6
        assert (await client.put("a", 1, pieces(b"x"), exists="rename"))["name"] == "a (1)"
        sock = client._writer.get_extra_info("socket")
        assert 2 * CHUNK <= sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 4 * CHUNK

    with_client(running, work)
    assert (tmp_path / "a").read_bytes() == b"abcdef"


def test_an_upload_by_parts_sends_what_each_part_lacks(running: Running, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        end = await client.put("a", 6, pieces(b"ab"), length=0)
        assert (end["upload"], end["offset"]) == (client.upload, 0)
        part = {"upload": client.upload}
        # What a part has too much would be read as requests.
        end = await client.put("a", 6, pieces(b"ab", b"cDELETE a\n"), length=3, **part)
        assert (end["upload"], end["offset"]) == (client.upload, 3)
        async with await AsyncClient.connect(*running.address) as other:  # a refusal ends the connection
            with pytest.raises(ErrorReply) as refusal:
                await other.put("a", 6, pieces(b"x"), offset=2, **part)
        assert (refusal.value.code, refusal.value.extra) == ("offset", {"offset": 3})
        end = await client.put("a", 6, pieces(b"def"), offset=3, length=99, **part)
        assert end["sha256"] == sha256(b"abcdef")
        assert (await client.request("STAT", upload=client.upload))["published"] == "a"
        assert (await client.put("a", 6, pieces(), offset=6, **part))["name"] == "a"

    with_client(running, work)
    assert (tmp_path / "a").read_bytes() == b"abcdef"


def test_a_part_shorter_than_its_length_is_incomplete_and_waits(running: Running) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(Incomplete):
            await client.put("a", 6, pieces(b"ab"), length=3)

    with_client(running, work)
    wait_until(lambda: running.live().state == "waiting")
    assert running.live().done == 2


def test_a_source_longer_than_its_size_sends_no_request(running: Running, tmp_path: Path) -> None:
    async def work(client: AsyncClient) -> None:
        await client.put("a", 3, pieces(b"ab", b"c\nDELETE a\n", b"QUIT\n"))
        assert (await client.request("STAT", name="a"))["size"] == 3

    with_client(running, work)


def test_a_source_shorter_than_its_size_is_incomplete(running: Running) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(Incomplete):
            await client.put("a", 4, pieces(b"abc"))

    with_client(running, work)
    assert running.events.ending(1).outcome == "aborted"


def test_an_upload_that_is_refused_says_why(running: Running) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(ErrorReply) as refusal:
            await client.put("a", 3, pieces(b"abc"), sha256="0" * 64)
        assert refusal.value.code == "checksum"

    with_client(running, work)


def test_a_server_that_goes_leaves_the_download_incomplete(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(20_000_000))

    async def work(client: AsyncClient) -> None:
        download = await client.get("a")
        await asyncio.to_thread(running.server.shutdown, 0)
        with pytest.raises((Incomplete, ConnectionError)):
            async for _ in download:
                pass
        with pytest.raises((Incomplete, ConnectionError)):
            await client.request("PING")

    with_client(running, work)


def test_a_watcher_gets_lines_until_the_server_goes(running: Running) -> None:
    async def work(client: AsyncClient) -> None:
        lines = client.watch()
        assert (await anext(lines))["full"]
        await asyncio.to_thread(running.server.shutdown, 0)
        with pytest.raises(ErrorReply) as refusal:
            async for _ in lines:
                pass
        assert refusal.value.code == "shutting-down"

    with_client(running, work)


def test_a_wrong_token_leaves_nothing_open(running: Running) -> None:
    async def work(client: AsyncClient) -> None:
        raise AssertionError

    with pytest.raises(ErrorReply):
        with_client(running, work, "wrong")
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
