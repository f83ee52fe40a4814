"""The page in Chromium, against both servers as processes: what a person sees and does."""

import hashlib
import http.server
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.client.blocking import Client
from fileserver.pacing import SLOW_MOTION, Pace
from tests import browsing
from tests.browsing import PATIENCE, drop, expect, file_row, is_in, shows, upload_row
from tests.servers import numbered_bytes, wait_until
from tests.stack import Stack

browser, stack, page = browsing.browser, browsing.stack, browsing.page


def live_row(page: Any, name: str) -> Any:
    return page.locator(f'#live [data-id][data-name="{name}"]')


class SlowClient:
    """A client of the file server, not of the page, that downloads in a thread."""

    def __init__(self, stack: Stack, name: str, pace: Pace) -> None:
        self.outcome: object = None
        self._client = Client(port=stack.server_port)
        self._download = self._client.get(name, pace=pace)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.outcome = sum(len(piece) for piece in self._download)
        except (ConnectionError, OSError) as error:
            self.outcome = error

    def __enter__(self) -> "SlowClient":
        self._thread.start()
        return self

    def wait(self) -> object:
        self._thread.join(20)
        return self.outcome

    def __exit__(self, *exc: object) -> None:
        self._client._sock.shutdown(socket.SHUT_RDWR) if self._thread.is_alive() else None
        self._thread.join(20)
        self._client.close()


def test_a_folder_that_cannot_be_read_is_said_while_it_lasts_and_no_file_goes(
    page: Any, stack: Stack
) -> None:
    (stack.files / "kept.txt").write_bytes(b"x")
    shows(file_row(page, "kept.txt"))
    away = stack.files.with_name("away")
    stack.files.rename(away)
    try:
        expect(page.locator("#banner-text")).to_contain_text("folder cannot be read now", timeout=PATIENCE)
        expect(page.locator("#status-word")).to_have_text("Online")
        shows(file_row(page, "kept.txt"))
    finally:
        away.rename(stack.files)
    expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    shows(file_row(page, "kept.txt"))


def test_a_dropped_file_is_uploaded_listed_and_recorded_without_a_reload(page: Any, stack: Stack) -> None:
    drop(page, {"dropped notes.txt": b"what I know"})
    is_in(upload_row(page, "dropped notes.txt"), "done")
    shows(file_row(page, "dropped notes.txt"))
    assert (stack.files / "dropped notes.txt").read_bytes() == b"what I know"
    shows(page.locator('#recent [data-name="dropped notes.txt"][data-outcome="complete"]'))
    assert stack.ending("dropped notes.txt")["direction"] == "upload"


def test_chosen_files_are_uploaded_byte_for_byte(page: Any, stack: Stack, tmp_path: Path) -> None:
    contents = {"a.bin": numbered_bytes(6 << 20), "ü ñ.bin": numbered_bytes(1000), "empty.bin": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    page.set_input_files("#file-input", [tmp_path / name for name in contents])
    for name, content in contents.items():
        shows(file_row(page, name))
        assert (stack.files / name).read_bytes() == content


def test_a_taken_name_is_asked_about_once_and_each_answer_is_done(page: Any, stack: Stack) -> None:
    (stack.files / "taken.txt").write_text("first")
    os.utime(stack.files / "taken.txt", (3e8, 3e8))
    shows(file_row(page, "taken.txt"))
    for answer, expected in (("skip", "first"), ("rename", "first"), ("replace", "third")):
        drop(page, {"taken.txt": b"third" if answer == "replace" else b"second"})
        shows(page.locator("#exists"))
        # A dropped file of these tests is of the first millisecond of 1970.
        expect(page.locator('#exists [data-slot="theirs"]')).to_have_text(
            re.compile(r"^5\sbytes, changed .*1979 \(newer\)$")
        )
        expect(page.locator('#exists [data-slot="mine"]')).to_have_text(
            re.compile(rf"^{5 if answer == 'replace' else 6}\sbytes, changed .*1970$")
        )
        page.click(f'#exists button[value="{answer}"]')
        is_in(upload_row(page, "taken.txt"), "skipped" if answer == "skip" else "done")
        assert (stack.files / "taken.txt").read_text() == expected
        page.click("#uploads-clear")
    assert (stack.files / "taken (1).txt").read_text() == "second"


def test_a_download_by_the_browser_is_the_file_byte_for_byte(page: Any, stack: Stack, tmp_path: Path) -> None:
    content = numbered_bytes(20 << 20)
    (stack.files / "big one.bin").write_bytes(content)
    shows(file_row(page, "big one.bin"))
    with page.expect_download() as download:
        file_row(page, "big one.bin").locator('[data-act="download"]').click()
    download.value.save_as(tmp_path / "saved")
    assert download.value.suggested_filename == "big one.bin"
    saved = (tmp_path / "saved").read_bytes()
    assert hashlib.sha256(saved).digest() == hashlib.sha256(content).digest()
    shows(page.locator('#recent [data-name="big one.bin"][data-outcome="complete"]'))
    expect(file_row(page, "big one.bin").locator(".f-count")).to_contain_text("1", timeout=PATIENCE)


def test_the_bar_of_another_client_moves_and_its_row_enters_the_history(page: Any, stack: Stack) -> None:
    (stack.files / "watched.bin").write_bytes(numbered_bytes(30_000))
    with SlowClient(stack, "watched.bin", Pace(1000, 0.1)) as client:
        bar = live_row(page, "watched.bin").locator("progress")
        shows(bar)
        values: list[float] = []

        def grew_twice() -> bool:
            value = bar.evaluate("bar => bar.value")
            if not values or value > values[-1]:
                values.append(value)
            return len(values) >= 3

        wait_until(grew_twice, 10)
        row = live_row(page, "watched.bin")
        expect(row).to_contain_text("ClientThread-")
        expect(row).to_contain_text("127.0.0.1:")
        assert client.wait() == 30_000
    expect(live_row(page, "watched.bin")).to_have_count(0, timeout=PATIENCE)
    shows(page.locator('#recent [data-name="watched.bin"][data-outcome="complete"]'))


def test_a_page_opened_in_the_middle_shows_the_transfer_at_once(page: Any, stack: Stack) -> None:
    (stack.files / "middle.bin").write_bytes(numbered_bytes(100_000))
    with SlowClient(stack, "middle.bin", SLOW_MOTION):
        shows(live_row(page, "middle.bin"))
        late = page.context.new_page()
        late.goto(stack.url)
        row = live_row(late, "middle.bin")
        shows(row)
        assert row.locator("progress").evaluate("bar => bar.value") > 0


def test_cancel_on_the_page_ends_the_transfer_of_another_client(page: Any, stack: Stack) -> None:
    (stack.files / "unwanted.bin").write_bytes(numbered_bytes(100_000))
    with SlowClient(stack, "unwanted.bin", SLOW_MOTION) as client:
        row = live_row(page, "unwanted.bin")
        shows(row)
        row.get_by_role("button").click()
        assert isinstance(client.wait(), ConnectionError)
    assert stack.ending("unwanted.bin")["outcome"] == "cancelled"
    shows(page.locator('#recent [data-name="unwanted.bin"][data-outcome="cancelled"]'))


def test_slow_motion_is_one_click_and_shows_its_pace(page: Any, stack: Stack) -> None:
    (stack.files / "lesson.bin").write_bytes(numbered_bytes(6000))
    shows(file_row(page, "lesson.bin"))
    with page.expect_download() as download:
        file_row(page, "lesson.bin").locator('[data-act="slow-motion"]').click()
        expect(live_row(page, "lesson.bin")).to_contain_text("1000 bytes each 0.2 s", timeout=PATIENCE)
    assert Path(download.value.path()).read_bytes() == numbered_bytes(6000)
    assert stack.ending("lesson.bin")["seconds"] > 0.9


def test_each_click_is_a_transfer_and_none_is_answered_by_the_browsers_cache(page: Any, stack: Stack) -> None:
    (stack.files / "tabs.bin").write_bytes(numbered_bytes(6000))
    tabs = [page, page.context.new_page(), page.context.new_page()]
    for tab in tabs[1:]:
        tab.goto(stack.url)
    for count, tab in enumerate([*tabs, page], start=1):
        with tab.expect_download():
            file_row(tab, "tabs.bin").locator('[data-act="slow-motion"]').click()
        wait_until(lambda count=count: len(stack.history(q="tabs.bin")) == count, 15)  # type: ignore[misc]
    wait_until(lambda: {row["outcome"] for row in stack.history(q="tabs.bin")} == {"complete"}, 15)


def test_delete_asks_first_and_then_removes_the_file(page: Any, stack: Stack) -> None:
    (stack.files / "old.txt").write_text("x")
    button = file_row(page, "old.txt").locator('[data-act="delete"]')
    shows(button)
    button.click()
    expect(page.locator("#confirm-delete")).to_contain_text("old.txt")
    page.keyboard.press("Escape")
    assert (stack.files / "old.txt").exists()
    button.click()
    page.click('#confirm-delete button[value="delete"]')
    expect(file_row(page, "old.txt")).to_have_count(0, timeout=PATIENCE)
    assert not (stack.files / "old.txt").exists()


def test_the_keyboard_alone_searches_and_deletes(page: Any, stack: Stack) -> None:
    (stack.files / "by keyboard.txt").write_text("x")
    shows(file_row(page, "by keyboard.txt"))
    page.focus("#search")
    page.keyboard.type("by key")
    expect(page.locator("#files tr[data-name]")).to_have_count(1, timeout=PATIENCE)
    for _ in range(12):  # from the search field on, the button is a few stops away
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.act") == "delete":
            break
    page.keyboard.press("Enter")
    shows(page.locator("#confirm-delete"))
    while page.evaluate("document.activeElement.value") != "delete":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(file_row(page, "by keyboard.txt")).to_have_count(0, timeout=PATIENCE)
    assert not (stack.files / "by keyboard.txt").exists()


def test_a_file_copied_into_the_folder_by_hand_appears_by_itself(page: Any, stack: Stack) -> None:
    (stack.files / "by hand.txt").write_text("x")
    shows(file_row(page, "by hand.txt"))
    (stack.files / "by hand.txt").unlink()
    expect(file_row(page, "by hand.txt")).to_have_count(0, timeout=PATIENCE)


def test_names_are_only_ever_text(page: Any, stack: Stack) -> None:
    name = "<img src=x onerror=alert(1)>&amp;.txt"
    (stack.files / name).write_text("x" * 100)
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    shows(page.locator("#files").get_by_text(name, exact=True))
    with SlowClient(stack, name, Pace(1, 0.1)):
        shows(page.locator("#live").get_by_text(name, exact=True))
    shows(page.locator("#recent").get_by_text(name, exact=True))
    page.goto(f"{stack.url}/history/")
    shows(page.get_by_text(name, exact=True).first)
    assert dialogs == []


def test_the_dot_turns_red_when_the_file_server_dies_and_green_again_by_itself(
    page: Any, stack: Stack
) -> None:
    stack.kill_server()
    status = page.locator("#status")
    expect(status).to_have_attribute("data-state", "offline", timeout=PATIENCE)
    expect(page.locator("body")).to_contain_text("python manage.py runfileserver")
    stack.start_server()
    expect(status).to_have_attribute("data-state", "online", timeout=PATIENCE)


@pytest.mark.parametrize("path", ["/", "/history/"])
def test_at_360_pixels_nothing_is_wider_than_the_screen(page: Any, stack: Stack, path: str) -> None:
    (stack.files / ("a-name-without-any-blank-" * 8 + ".txt")).write_text("x")
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(stack.url + path)
    shows(page.locator("main"))
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0


def test_the_history_is_filtered_by_a_link_that_can_be_shared(page: Any, stack: Stack) -> None:
    (stack.files / "filtered.txt").write_text("x")
    stack.request("GET", "/files/filtered.txt")
    stack.ending("filtered.txt")
    page.goto(f"{stack.url}/history/?q=filtered&outcome=complete")
    shows(page.get_by_text("filtered.txt", exact=True).first)
    page.goto(f"{stack.url}/history/?q=filtered&outcome=failed")
    expect(page.get_by_text("filtered.txt", exact=True)).to_have_count(0)


# --- a page of somebody else, open in the same browser


EVIL = """<!doctype html><meta charset="utf-8"><title>evil</title>
<form id="form" method="post" enctype="text/plain"><input name="DELETE victim.txt&#10;x"></form>
<script>
const site = "SITE", port = "PORT";
const settled = (promise) => promise.then(() => "sent", () => "refused");
window.attack = async () => ({
  put: await settled(fetch(site + "/files/evil.txt", {method: "PUT", body: "x"})),
  simplePut: await settled(fetch(site + "/files/evil.txt", {method: "POST", body: "x", mode: "no-cors"})),
  remove: await settled(fetch(site + "/files/victim.txt", {method: "DELETE", credentials: "include"})),
  read: await settled(fetch(site + "/files/victim.txt").then((answer) => answer.text())),
  cancel: await settled(fetch(site + "/transfers/1/cancel/", {method: "POST", mode: "no-cors"})),
  direct: await settled(fetch(port + "get/x/victim.txt").then((answer) => answer.text())),
  blind: await settled(fetch(port + "get/x/victim.txt", {mode: "no-cors"})),
  raw: await settled(fetch(port, {method: "POST", mode: "no-cors", body: "DELETE victim.txt\\n"})),
  websocket: await new Promise((resolve) => {
    const socket = new WebSocket(site.replace("http", "ws") + "/ws/live/");
    socket.onmessage = () => resolve("listens");
    socket.onclose = () => resolve("refused");
  }),
});
window.post = (to) => { const form = document.getElementById("form"); form.action = to; form.submit(); };
</script>"""


@pytest.fixture
def evil(stack: Stack) -> Iterator[str]:
    """The address of a web page of another origin: the same host, another port."""
    text = EVIL.replace("SITE", stack.url).replace("PORT", f"http://localhost:{stack.server_port}/")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_a_page_of_another_origin_can_change_nothing_and_see_nothing(
    page: Any, stack: Stack, evil: str
) -> None:
    (stack.files / "victim.txt").write_text("precious")
    tab = page.context.new_page()  # with the cookies of the site
    tab.goto(evil)
    answers = tab.evaluate("attack()")
    assert {key: answers[key] for key in ("put", "remove", "read", "direct", "blind", "websocket")} == {
        "put": "refused",
        "remove": "refused",
        "read": "refused",
        "direct": "refused",
        "blind": "refused",
        "websocket": "refused",
    }
    port = f"http://localhost:{stack.server_port}"
    for address in (f"{stack.url}/files/victim.txt", f"{port}/get/x/victim.txt", f"{port}/"):
        tab.goto(evil)
        with tab.expect_event("requestfinished", lambda request: request.method == "POST"):
            tab.evaluate("address => post(address)", address)
    assert (stack.files / "victim.txt").read_text() == "precious"
    assert not (stack.files / "evil.txt").exists()
    # The port itself is whole, and has not obeyed the lines of the body.
    with Client(port=stack.server_port) as client:
        assert client.request("STAT", name="victim.txt")["size"] == 8
