"""The websocket of a page: who may open it, what it is told, and what it leaves behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session

from cfsite.asgi import application
from files_app.access import snapshot as snapshot_module
from files_app.access.principals import relay_token
from files_app.access.snapshot import snapshots
from files_app.live import consumers as consumers_module
from files_app.live import feed as feed_module
from files_app.live.consumers import BEHIND, LiveConsumer
from files_app.live.feed import feed
from files_app.models import AccessRule, Transfer
from tests.files_app.conftest import Served, begin, logged_in
from tests.files_app.site import run

pytestmark = pytest.mark.usefixtures("database")

SECONDS = 5.0
OWN = {"host": "localhost:8000", "origin": "http://localhost:8000"}


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feed_module, "RECONNECT", 0.01)
    yield
    assert (feed._viewers, feed._task) == (0, None)
    assert get_channel_layer().groups.get(feed.group, {}) == {}
    get_channel_layer().channels.clear()


class Page:
    def __init__(self, headers: dict[str, str] | None = None, **scope: Any) -> None:
        given = [(k.encode(), v.encode("latin-1")) for k, v in (OWN if headers is None else headers).items()]
        self.socket = WebsocketCommunicator(application, "/ws/live/", given)
        self.socket.scope.update({"client": ("127.0.0.1", 5000), "scheme": "ws", **scope})

    async def connect(self) -> bool:
        accepted, _ = await self.socket.connect(SECONDS)
        return bool(accepted)

    async def news(self) -> dict[str, Any]:
        return dict(await self.socket.receive_json_from(SECONDS))

    async def news_with(self, is_wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        while not is_wanted(news := await self.news()):
            pass
        return news

    async def refresh(self) -> None:
        await self.socket.send_json_to({"type": "refresh"})

    async def leave(self) -> None:
        await self.socket.disconnect(timeout=SECONDS)


@contextlib.asynccontextmanager
async def open_page(**scope: Any) -> AsyncIterator[Page]:
    page = Page(**scope)
    assert await page.connect()
    try:
        yield page
    finally:
        await page.leave()


class TestWho:
    ALLOWED = [
        OWN,
        {"host": "localhost:8000", "origin": "HTTP://LOCALHOST:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": "localhost:8000"},  # no browser: no origin, no cookie, no Sec-Fetch-Site
    ]
    REFUSED = [
        {"host": "localhost:8000", "origin": "http://localhost:3000"},
        {"host": "localhost:8000", "origin": "https://localhost:8000"},
        {"host": "localhost:8000", "origin": "ftp://localhost:8000"},
        {"host": "localhost:8000", "origin": "http://127.0.0.1:8000"},
        {"host": "localhost:8000", "origin": "http://evil.example"},
        {"host": "localhost:8000", "origin": "null"},
        {"host": "localhost:8000", "origin": ""},
        {"host": "localhost:8000", "cookie": "cfs_session=x"},
        {"host": "localhost:8000", "sec-fetch-site": "same-origin"},
        {"host": "rebound.evil.example", "origin": "http://rebound.evil.example"},
        {"host": "0.0.0.0:8000", "origin": "http://0.0.0.0:8000"},
        {"host": "", "origin": "http://"},
        {"host": "a b", "origin": "http://a b"},
        {"origin": "http://localhost:8000"},
    ]

    @pytest.mark.parametrize("headers", ALLOWED)
    def test_our_own_page_and_no_page_may_listen(self, served: Served, headers: dict[str, str]) -> None:
        async def visit() -> None:
            page = Page(headers)
            assert await page.connect()
            assert (await page.news())["online"] is True
            await page.leave()

        run(visit())

    @pytest.mark.parametrize("headers", REFUSED)
    def test_any_other_page_may_not(self, headers: dict[str, str]) -> None:
        async def visit() -> None:
            page = Page(headers)
            assert not await page.connect()
            await page.leave()

        run(visit())

    def test_over_tls_the_own_origin_is_https(self, served: Served) -> None:
        async def visit() -> None:
            page = Page({"host": "localhost:8000", "origin": "https://localhost:8000"}, scheme="wss")
            assert await page.connect()
            await page.leave()

        run(visit())

    def test_only_a_page_of_the_same_scheme_is_our_own(self, served: Served) -> None:
        origin = {"host": "localhost:8000", "origin": "https://localhost:8000"}

        async def visit() -> None:
            for scheme, is_own in (("wss", True), ("ws", False)):
                page = Page(origin, scheme=scheme)
                assert bool(await page.connect()) is is_own
                await page.leave()

        run(visit())


ELSEWHERE = ("192.0.2.7", 5000)


def speaking_for(user: User | None) -> dict[str, Any]:
    """The fields with which the site asks for somebody from elsewhere."""
    principal = f"user:{user.pk}" if user else "guest"
    return {"client": "192.0.2.7:1", "user": user and user.username, "principal": principal, "via": "web"}


class TestViewer:
    """What a page is told depends on who looks at it."""

    async def visit(self, served: Served, owner: User | None, headers: dict[str, str], client: Any) -> Any:
        """The names of what a page sees move, in its first message and in one about an ending."""
        with served.peer(receive_buffer=4096) as peer:
            await asyncio.to_thread(peer.ask, "AUTH", token=relay_token())
            moving = await asyncio.to_thread(lambda: peer.ask("GET", name="big.bin", **speaking_for(owner)))
            page = Page(OWN | headers, client=client)
            assert await page.connect()
            first = await page.news()
            peer.close()
            await asyncio.to_thread(served.events.ending, moving["id"])
            last = await page.news_with(lambda news: news["status"]["transfers"] == 0)
            await page.leave()
        return [[row["name"] for row in news[key]] for news, key in ((first, "transfers"), (last, "ended"))]

    @pytest.mark.parametrize(
        ("rights", "is_own", "sees"),
        [
            (None, False, False),
            (None, True, True),
            ({"list", "get"}, False, False),
            ({"get"}, True, True),
            ({"get", "watch"}, False, True),
        ],
    )
    def test_others_are_seen_by_those_alone_who_may_watch(
        self, served: Served, rights: set[str] | None, is_own: bool, sees: bool
    ) -> None:
        served.put("big.bin", bytes(12 << 20))
        logged_in({"get"}, "other")
        other = User.objects.get()
        headers = {} if rights is None else logged_in(rights)
        if rights is None:
            AccessRule.objects.create(folder="", whom="guest", can_get=True)
            snapshots.refresh()
            owner = None if is_own else other
        else:
            owner = User.objects.get(username="ann") if is_own else other
        names = run(self.visit(served, owner, headers, ELSEWHERE))
        assert names == ([["big.bin"], ["big.bin"]] if sees else [[], []])

    def test_who_loses_the_right_to_watch_sees_others_no_more(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(snapshot_module, "MAX_AGE", 0.01)
        served.put("big.bin", bytes(12 << 20))
        headers = logged_in({"watch"})
        ann = User.objects.get()

        async def visit() -> None:
            with served.peer(receive_buffer=4096) as peer:
                await asyncio.to_thread(peer.ask, "GET", name="big.bin")
                page = Page(OWN | headers, client=ELSEWHERE)
                assert await page.connect()
                assert len((await page.news())["transfers"]) == 1
                await sync_to_async(ann.user_permissions.clear)()
                news = await page.news_with(lambda news: news["full"])
                assert news["transfers"] == []
                assert news["status"]["transfers"] == 1
                await page.leave()

        run(visit())

    @pytest.mark.parametrize("how", ["logged out", "closed"])
    def test_who_is_not_logged_in_any_more_is_disconnected(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        monkeypatch.setattr(consumers_module, "SESSION_LOOK", 0.01)
        headers = logged_in({"watch"})

        async def visit() -> None:
            page = Page(OWN | headers, client=ELSEWHERE)
            assert await page.connect()
            await page.news()
            if how == "closed":
                await User.objects.aupdate(is_active=False)
            else:
                await Session.objects.all().adelete()
            while (said := await page.socket.receive_output(SECONDS))["type"] != "websocket.close":
                pass
            assert (said["code"], said["reason"]) == (4401, "You are not logged in any more.")
            await page.leave()

        run(visit())


class TestNews:
    def test_a_page_that_opens_in_the_middle_of_a_transfer_sees_it_at_once(self, served: Served) -> None:
        served.put("big.bin", bytes(12 << 20))

        async def visit() -> None:
            with served.peer(receive_buffer=4096) as peer:
                header = peer.ask("GET", name="big.bin")
                async with open_page() as page:
                    first = await page.news()
                    assert (first["type"], first["online"], first["full"]) == ("live", True, True)
                    assert [(row["id"], row["name"]) for row in first["transfers"]] == [
                        (header["id"], "big.bin")
                    ]
                    assert first["status"]["clients"] >= 1
                async with open_page() as page:  # the second one, of a feed that is started anew
                    assert len((await page.news())["transfers"]) == 1

        run(visit())

    def test_a_second_page_sees_the_state_of_the_running_feed(self, served: Served) -> None:
        served.put("big.bin", bytes(12 << 20))

        async def visit() -> None:
            async with open_page() as first:
                assert (await first.news())["transfers"] == []
                with served.peer(receive_buffer=4096) as peer:
                    peer.ask("GET", name="big.bin")
                    await first.news_with(lambda news: news["transfers"])
                    async with open_page() as second:
                        assert len((await second.news())["transfers"]) == 1

        run(visit())

    def test_news_come_within_a_second(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                begun = asyncio.get_running_loop().time()
                (served.folder / "new.txt").write_bytes(b"x")
                await page.news_with(lambda news: news["files_changed"])
                assert asyncio.get_running_loop().time() - begun < 2.0

        run(visit())

    def test_an_ending_is_told_once_with_its_outcome(self, served: Served) -> None:
        served.put("a.txt", b"hello")

        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                with served.client() as client:
                    download = client.get("a.txt")
                    list(download)
                ended = (await page.news_with(lambda news: news["ended"]))["ended"]
                assert [(row["id"], row["outcome"], row["done"]) for row in ended] == [
                    (download.id, "complete", 5)
                ]
                await page.refresh()
                assert (await page.news_with(lambda news: news["full"]))["ended"] == []

        run(visit())
        served.settle()
        assert Transfer.objects.get().outcome == "complete"

    def test_names_arrive_as_they_are(self, served: Served) -> None:
        name = '<img src=x onerror="alert(1)"> Übung 🎉.txt'
        served.put(name, bytes(12 << 20))

        async def visit() -> None:
            with served.peer(receive_buffer=4096) as peer:
                peer.ask("GET", name=name)
                async with open_page() as page:
                    assert (await page.news())["transfers"][0]["name"] == name

        run(visit())

    def test_offline_is_said_at_once_and_online_comes_by_itself(
        self, folder: Path, settings: Any, quick_looks: None
    ) -> None:
        settings.SERVER_PORT = 1

        async def visit() -> None:
            async with open_page() as page:
                first = await page.news()
                assert (first["online"], first["full"]) == (False, True)
                assert "python manage.py runfileserver" in first["message"]
                with contextlib.ExitStack() as server:
                    served = await asyncio.to_thread(begin, server, folder)
                    settings.SERVER_PORT = served.port
                    back = await page.news_with(lambda news: news["online"])
                    assert (back["full"], back["files_changed"]) == (True, True)
                    await asyncio.to_thread(server.close)
                gone = await page.news_with(lambda news: not news["online"])
                assert gone["full"] is True

        run(visit())


class TestNumbers:
    async def tell(self, number: int, text: str) -> None:
        await get_channel_layer().group_send(
            feed.group, {"type": "live.news", "number": number, "text": text}
        )

    def test_news_that_the_state_already_contains_are_not_told_again(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                await self.tell(feed.snapshot()[0], '{"old": true}')
                await page.refresh()
                assert "old" not in await page.news()

        run(visit())

    def test_a_gap_in_the_numbers_brings_the_whole_state(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                await self.tell(feed.snapshot()[0] + 7, '{"type": "live", "full": false, "late": true}')
                news = await page.news_with(lambda news: news.get("full") or news.get("late"))
                assert news["full"] is True
                assert "status" in news

        run(visit())


class TestSlowPage:
    def test_a_slow_page_gets_nothing_while_it_is_behind_and_then_the_newest_state(
        self, served: Served
    ) -> None:
        waiting = [0]
        served.put("big.bin", bytes(12 << 20))

        async def visit() -> None:
            async with (
                open_page(extensions={"cfsite.backlog": lambda: waiting[0]}) as slow,
                open_page() as quick,
            ):
                await quick.news()
                await slow.news()
                waiting[0] = BEHIND + 1
                while not slow.socket.output_queue.empty():
                    slow.socket.output_queue.get_nowait()
                with served.peer(receive_buffer=4096) as peer:
                    peer.ask("GET", name="big.bin")
                    for _ in range(3):
                        (served.folder / "x.txt").write_bytes(bytes(_))
                        await quick.news_with(lambda news: news["files_changed"])
                    assert slow.socket.output_queue.empty()
                    waiting[0] = 0
                    (served.folder / "y.txt").write_bytes(b"x")
                    first = await slow.news()
                    assert first["full"] is True
                    assert [row["name"] for row in first["transfers"]] == ["big.bin"]

        run(visit())

    def test_a_page_that_is_not_behind_gets_each_news(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page(extensions={"cfsite.backlog": lambda: BEHIND}) as page:
                assert (await page.news())["full"] is True
                (served.folder / "y.txt").write_bytes(b"x")
                assert (await page.news_with(lambda news: news["files_changed"]))["full"] is False

        run(visit())


class TestMessages:
    def test_refresh_gives_the_whole_state(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                await page.refresh()
                news = await page.news_with(lambda news: news["full"])
                assert news["online"] is True

        run(visit())

    def test_files_that_changed_before_the_page_was_connected_are_news_to_it(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                assert (await page.news())["files_changed"] is True
                await page.refresh()  # as it does every few seconds, having missed nothing
                assert (await page.news_with(lambda news: news["full"]))["files_changed"] is False

        run(visit())

    def test_files_that_changed_while_a_page_was_dropped_are_news_to_it(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                del get_channel_layer().groups[feed.group]
                async with open_page() as other:
                    await other.news()
                    (served.folder / "y.txt").write_bytes(b"x")
                    await other.news_with(lambda news: news["files_changed"])
                    await page.refresh()
                    assert (await page.news_with(lambda news: news["full"]))["files_changed"] is True

        run(visit())

    def test_a_page_that_was_dropped_from_the_group_is_back_after_a_refresh(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                get_channel_layer().groups.clear()
                await page.refresh()
                await page.news()
                (served.folder / "y.txt").write_bytes(b"x")
                await page.news_with(lambda news: news["files_changed"])

        run(visit())

    @pytest.mark.parametrize(
        "message",
        [
            "nonsense",
            "[]",
            '"refresh"',
            "null",
            '{"type": "cancel", "id": 1}',
            "{}",
            "NaN",
            "[" * 100_000,
            b"\x00binary",
        ],
    )
    def test_any_other_message_closes_with_a_sentence(self, served: Served, message: str | bytes) -> None:
        async def visit() -> None:
            async with open_page() as page:
                await page.news()
                if isinstance(message, bytes):
                    await page.socket.send_to(bytes_data=message)
                else:
                    await page.socket.send_to(text_data=message)
                while (answer := await page.socket.receive_output(SECONDS))["type"] == "websocket.send":
                    pass
                assert answer["type"] == "websocket.close"
                assert answer["code"] == 4400
                assert answer["reason"] == 'Only {"type": "refresh"} is understood here.'
                assert len(answer["reason"].encode()) <= 123

        run(visit())


class TestEndings:
    def test_the_last_page_that_closes_ends_task_and_connection(self, served: Served) -> None:
        async def visit() -> None:
            async with open_page() as first, open_page() as second:
                await first.news()
                await second.news()
                assert feed._viewers == 2
            assert feed._task is None
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "live feed"]
            async with asyncio.timeout(SECONDS):
                while served.server.registry.ping()["clients"]:  # noqa: ASYNC110 - another thread counts
                    await asyncio.sleep(0.001)

        run(visit())

    def test_a_page_whose_consumer_is_cancelled_counts_as_left(self, served: Served) -> None:
        async def visit() -> None:
            page = Page()
            assert await page.connect()
            await page.news()
            page.socket.future.cancel()
            await asyncio.gather(page.socket.future, return_exceptions=True)
            assert feed._viewers == 0
            assert feed._task is None
            get_channel_layer().groups.clear()

        run(visit())

    def test_a_page_whose_consumer_fails_counts_as_left(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(self: LiveConsumer) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(LiveConsumer, "_send_state", broken)

        async def visit() -> None:
            page = Page()
            assert await page.connect()
            with pytest.raises(RuntimeError):
                await page.socket.wait(SECONDS)
            assert feed._viewers == 0
            get_channel_layer().groups.clear()

        run(visit())

    def test_a_page_that_closes_before_the_state_is_known_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def never() -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(feed_module, "connect", never)

        async def visit() -> None:
            page = Page()
            assert await page.connect()
            page.socket.future.cancel()
            await asyncio.gather(page.socket.future, return_exceptions=True)
            assert feed._viewers == 0
            assert feed._task is None

        run(visit())

    def test_another_address_is_no_websocket(self) -> None:
        async def visit() -> None:
            headers = [(k.encode(), v.encode()) for k, v in OWN.items()]
            socket = WebsocketCommunicator(application, "/ws/other/", headers)
            assert (await socket.connect(SECONDS))[0] is False
            await socket.disconnect(timeout=SECONDS)

        run(visit())
