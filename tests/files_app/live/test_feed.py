"""One task watches the file server for all pages: it knows the state, comes back by itself, and ends."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import get_channel_layer

from files_app.live import feed as feed_module
from files_app.live.feed import Feed, encode
from files_app.views.relay import connect
from fileserver.client.aio import AsyncClient
from tests.files_app.conftest import Served, begin
from tests.files_app.site import run

pytestmark = pytest.mark.usefixtures("database")

SECONDS = 5.0
BIG = 12 << 20


@pytest.fixture(autouse=True)
def _quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feed_module, "RECONNECT", 0.01)
    yield
    get_channel_layer().groups.clear()
    get_channel_layer().channels.clear()


@contextlib.asynccontextmanager
async def viewing(feed: Feed) -> AsyncIterator["Viewer"]:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(feed.group, channel)
    async with asyncio.timeout(SECONDS):
        await feed.join()
    try:
        yield Viewer(feed, channel)
    finally:
        await layer.group_discard(feed.group, channel)
        await feed.leave()


class Viewer:
    def __init__(self, feed: Feed, channel: str) -> None:
        self._feed = feed
        self._channel = channel
        self.numbers: list[int] = []

    async def news(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            event = await get_channel_layer().receive(self._channel)
        assert event["type"] == "live.news"
        self.numbers.append(event["number"])
        return dict(json.loads(event["text"]))

    async def news_with(self, is_wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        while not is_wanted(news := await self.news()):
            pass
        return news

    def state(self) -> dict[str, Any]:
        return dict(json.loads(encode(self._feed.snapshot()[1])))


def live_feeds() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "live feed"]


def test_the_state_is_known_when_the_first_viewer_has_joined(served: Served) -> None:
    async def view() -> None:
        async with viewing(Feed()) as viewer:
            state = viewer.state()
            assert (state["online"], state["full"], state["transfers"]) == (True, True, [])
            assert state["status"]["max_clients"] == 1000
            assert state["address"] == f"127.0.0.1:{served.port}"

    run(view())


def test_a_transfer_is_news_from_its_beginning_to_its_end(served: Served) -> None:
    served.put("big.bin", bytes(BIG))

    async def view() -> None:
        async with viewing(Feed()) as viewer, await connect() as client:
            download = await client.get("big.bin", client="127.0.0.1:7", via="web", principal="local")
            begun = await viewer.news_with(lambda news: news["transfers"])
            row = begun["transfers"][0]
            assert (row["id"], row["name"], row["client"], row["via"]) == (
                download.id,
                "big.bin",
                "127.0.0.1:7",
                "web",
            )
            assert viewer.state()["transfers"][0]["id"] == download.id
            async for _ in download:
                pass
            await client.request("RECEIPT", id=download.id)
            ended = await viewer.news_with(lambda news: news["ended"])
            assert [(row["id"], row["outcome"]) for row in ended["ended"]] == [(download.id, "complete")]
            assert viewer.state()["transfers"] == []

    run(view())


def test_news_are_numbered_without_gaps_and_the_state_has_the_last_number(served: Served) -> None:
    async def view() -> None:
        feed = Feed()
        async with viewing(feed) as viewer:
            for number in range(3):
                (served.folder / f"{number}.txt").write_bytes(b"x")
                await viewer.news_with(lambda news: news["files_changed"])
            first = viewer.numbers[0]
            assert viewer.numbers == list(range(first, first + len(viewer.numbers)))
            assert feed.snapshot()[0] == viewer.numbers[-1]

    run(view())


def test_all_viewers_share_one_task_and_one_connection_and_the_last_one_ends_both(served: Served) -> None:
    def clients() -> int:
        return int(served.server.registry.ping()["clients"])

    async def view() -> None:
        feed = Feed()
        async with viewing(feed):
            async with viewing(feed), viewing(feed):
                assert len(live_feeds()) == 1
                assert clients() == 1
            assert len(live_feeds()) == 1
        assert live_feeds() == []
        async with asyncio.timeout(SECONDS):
            while clients():  # noqa: ASYNC110 - counted by another thread
                await asyncio.sleep(0.001)

    run(view())


def test_a_viewer_who_comes_again_finds_a_fresh_state(served: Served, settings: Any) -> None:
    async def view() -> None:
        feed = Feed()
        async with viewing(feed) as viewer:
            assert viewer.state()["online"] is True
        settings.SERVER_PORT = 1  # nobody listens there
        async with viewing(feed) as viewer:
            assert viewer.state()["online"] is False

    run(view())


def test_a_viewer_who_leaves_before_the_state_is_known_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(longest_line: int) -> AsyncClient:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(feed_module, "connect", never)

    async def view() -> None:
        feed = Feed()
        joining = asyncio.create_task(feed.join())
        while not live_feeds():  # noqa: ASYNC110 - made by the other task
            await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert live_feeds() == []
        assert feed._viewers == 0

    run(view())


def test_leaving_ends_the_task_also_when_news_come_in_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until Python 3.12 ``wait_for`` forgets a cancel that comes together with a result."""
    line = {"full": True, "status": {}, "transfers": [], "ended": [], "files_changed": False}

    class Stub:
        def __init__(self) -> None:
            self.next = asyncio.Event()

        async def watch(self) -> AsyncIterator[dict[str, Any]]:
            yield dict(line)
            await self.next.wait()
            yield dict(line)
            await asyncio.Event().wait()

        def close(self) -> None:
            pass

    async def view() -> None:
        stub, feed = Stub(), Feed()

        async def connect_to_stub(longest_line: int) -> Any:
            return stub

        monkeypatch.setattr(feed_module, "connect", connect_to_stub)
        await feed.join()
        await asyncio.sleep(0)
        stub.next.set()
        async with asyncio.timeout(SECONDS):
            await feed.leave()
        assert live_feeds() == []

    run(view())


def test_offline_is_known_at_once_and_names_address_and_command(settings: Any) -> None:
    settings.SERVER_PORT = 1

    async def view() -> None:
        async with viewing(Feed()) as viewer:
            state = viewer.state()
            assert (state["online"], state["full"]) == (False, True)
            assert "127.0.0.1:1 is not running" in state["message"]
            assert "python manage.py runfileserver" in state["message"]

    run(view())


def test_the_feed_goes_offline_and_comes_back_by_itself(
    folder: Path, settings: Any, quick_looks: None
) -> None:
    async def view() -> None:
        feed = Feed()
        with contextlib.ExitStack() as first:
            served = await asyncio.to_thread(begin, first, folder)
            settings.SERVER_PORT = served.port
            async with viewing(feed) as viewer:
                assert viewer.state()["online"] is True
                await asyncio.to_thread(first.close)
                gone = await viewer.news_with(lambda news: not news["online"])
                assert gone["full"] is True
                assert viewer.state()["online"] is False
                with contextlib.ExitStack() as second:
                    again = await asyncio.to_thread(begin, second, folder)
                    settings.SERVER_PORT = again.port
                    back = await viewer.news_with(lambda news: news["online"])
                    assert back["full"] is True
                    assert back["files_changed"] is True  # nobody knows what happened meanwhile
                    assert viewer.state()["online"] is True
                    await feed.leave()  # before the server, which would wait for its watcher
                    await feed.join()
                    await asyncio.to_thread(second.close)
        assert live_feeds() == []

    run(view())


def test_offline_is_told_once_and_not_at_each_try(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.SERVER_PORT = 1
    tries: list[None] = []

    async def counting(longest_line: int) -> AsyncClient:
        tries.append(None)
        return await connect(longest_line)

    monkeypatch.setattr(feed_module, "connect", counting)

    async def view() -> None:
        feed = Feed()
        async with viewing(feed), asyncio.timeout(SECONDS):
            while len(tries) < 5:  # noqa: ASYNC110 - counted by the feed
                await asyncio.sleep(0.001)
            assert feed.snapshot()[0] == 1

    run(view())


@pytest.mark.parametrize("line", [b"[]\n", b"nonsense\n", b'{"full": true}\n', b"", b"x" * 2_000_000])
def test_a_file_server_that_talks_nonsense_is_offline_and_does_not_end_the_feed(
    settings: Any, line: bytes
) -> None:
    visits: list[None] = []

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(None)
        with contextlib.suppress(ConnectionError):
            await reader.readline()
            writer.write(b'OK {"user": null, "can": []}\n')
            await reader.readline()
            writer.write(b"OK {}\n" + line)
            writer.close()
            await writer.wait_closed()

    async def view() -> None:
        server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
        async with server:
            settings.SERVER_PORT = server.sockets[0].getsockname()[1]
            async with viewing(Feed()) as viewer, asyncio.timeout(SECONDS):
                assert viewer.state()["online"] is False
                while len(visits) < 3:  # noqa: ASYNC110 - counted by the server
                    await asyncio.sleep(0.001)

    run(view())


def test_a_file_server_that_falls_silent_is_offline(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "SILENCE", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readline()
            writer.write(b'OK {"user": null, "can": []}\n')
            await reader.readline()
            writer.write(b"OK {}\n")
            await reader.read()
        writer.close()

    async def view() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            settings.SERVER_PORT = server.sockets[0].getsockname()[1]
            async with viewing(Feed()) as viewer:
                assert viewer.state()["online"] is False

    run(view())


def test_a_channel_layer_that_fails_does_not_end_the_feed(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def view() -> None:
        feed = Feed()
        async with viewing(feed) as viewer:
            layer = get_channel_layer()
            with monkeypatch.context() as patch:

                async def broken(*args: Any) -> None:
                    raise OSError("the layer is away")

                patch.setattr(layer, "group_send", broken)
                (served.folder / "a.txt").write_bytes(b"x")
                async with asyncio.timeout(SECONDS):
                    while "could not be passed on" not in caplog.text:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            (served.folder / "b.txt").write_bytes(b"x")
            await viewer.news_with(lambda news: news["online"])
            assert viewer.state()["online"] is True
            assert live_feeds()

    run(view())
