"""Downloads from the page in Chromium: directly from the file server's port where it is reached."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests import browsing
from tests.browsing import PATIENCE, drop, expect, file_row, is_in, shows, upload_row
from tests.servers import numbered_bytes, wait_until
from tests.stack import Stack, run_stack

browser, stack, page = browsing.browser, browsing.stack, browsing.page


@pytest.fixture(scope="module")
def relaying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("relaying"), DIRECT_DOWNLOADS="False") as running:
        yield running


def link(page: Any, name: str, act: str = "download") -> Any:
    return file_row(page, name).locator(f'[data-act="{act}"]')


def put(stack: Stack, name: str, content: bytes) -> None:
    """A file that the site lists."""
    (stack.files / name).write_bytes(content)
    asked = f"/api/files?q={quote(name)}"
    wait_until(lambda: json.loads(stack.request("GET", asked)[1])["files"], 15)


def leads_direct(link: Any) -> None:
    expect(link).to_have_attribute("href", re.compile("[?&]direct=1$"), timeout=PATIENCE)


def saved(page: Any, link: Any, path: Path) -> tuple[int | None, str]:
    """Click; the port from which the file has come, and the name that it got."""
    with page.expect_download() as download:
        link.click()
    download.value.save_as(path)
    return urlsplit(download.value.url).port, download.value.suggested_filename


def test_the_address_of_the_file_server_leads_to_the_page(page: Any, stack: Stack) -> None:
    page.goto(f"http://localhost:{stack.server_port}/")
    assert page.url == f"http://127.0.0.1:{stack.web_port}/"
    expect(page.locator("#status")).to_have_attribute("data-state", "online", timeout=PATIENCE)


def test_a_click_fetches_the_file_from_the_port_itself(page: Any, stack: Stack, tmp_path: Path) -> None:
    content = numbered_bytes(20 << 20)
    put(stack, "big ü #1.bin", content)
    shows(file_row(page, "big ü #1.bin"))
    leads_direct(link(page, "big ü #1.bin"))
    port, name = saved(page, link(page, "big ü #1.bin"), tmp_path / "saved")
    assert (port, name) == (stack.server_port, "big ü #1.bin")
    assert (tmp_path / "saved").read_bytes() == content
    row = stack.ending("big ü #1.bin")
    assert (row["outcome"], row["via"], row["done"]) == ("complete", "web", len(content))
    assert row["client"].startswith("127.0.0.1:")
    assert row["thread"].startswith("ClientThread-")
    shows(page.locator('#recent [data-name="big ü #1.bin"][data-outcome="complete"]'))


def test_rows_that_come_later_lead_direct_as_well(page: Any, stack: Stack) -> None:
    for number in range(3):
        put(stack, f"later {number}.txt", b"x")
    leads_direct(link(page, "later 2.txt"))
    leads_direct(link(page, "later 2.txt", "slow-motion"))
    page.fill("#search", "later 1")
    expect(file_row(page, "later 2.txt")).to_have_count(0, timeout=PATIENCE)
    leads_direct(link(page, "later 1.txt"))
    page.click('#files th a[href*="sort"]')
    leads_direct(link(page, "later 1.txt"))


def test_slow_motion_goes_direct_and_can_be_cancelled_on_the_page(page: Any, stack: Stack) -> None:
    put(stack, "slow.bin", bytes(1_000_000))
    leads_direct(link(page, "slow.bin", "slow-motion"))
    with page.expect_download() as download:
        link(page, "slow.bin", "slow-motion").click()
    assert urlsplit(download.value.url).port == stack.server_port
    row = page.locator('#live [data-id][data-name="slow.bin"]')
    shows(row)
    row.locator('[data-act="cancel"]').click()
    assert download.value.failure()
    ending = stack.ending("slow.bin")
    assert (ending["outcome"], ending["pace"]) == ("cancelled", "1000 bytes each 0.2 s")
    assert 0 < ending["done"] < 1_000_000


def test_a_download_in_the_middle_of_an_upload_is_relayed_and_leaves_it_alone(
    page: Any, stack: Stack, tmp_path: Path
) -> None:
    """The page asks before it is left while it uploads, and to a browser the way to a port is a leaving."""
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    put(stack, "meanwhile.bin", numbered_bytes(100_000))
    leads_direct(link(page, "meanwhile.bin"))
    cdp = page.context.new_cdp_session(page)
    cdp.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    cdp.send("Network.emulateNetworkConditions", slow)
    drop(page, {"long upload.bin": b"x" * 1_000_000})
    is_in(upload_row(page, "long upload.bin"), "sending")
    assert saved(page, link(page, "meanwhile.bin"), tmp_path / "saved") == (stack.web_port, "meanwhile.bin")
    assert (tmp_path / "saved").read_bytes() == numbered_bytes(100_000)
    assert asked == []
    cdp.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    is_in(upload_row(page, "long upload.bin"), "done")
    port, _ = saved(page, link(page, "meanwhile.bin"), tmp_path / "saved")
    assert port == stack.server_port


# --- the port is not reached


def aborts(route: Any) -> None:
    route.abort()


def says_nothing(route: Any) -> None:
    """As behind a firewall that throws packets away."""


def is_somebody_else(route: Any) -> None:
    """Another program on this machine has that port: a tunnel leads to the site alone."""
    headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/html"}
    route.fulfill(status=200, headers=headers, body="Welcome!")


def refuses(route: Any) -> None:
    route.fulfill(status=403, headers={"Content-Type": "text/plain"}, body="Not for you.")


@pytest.mark.parametrize("how", [aborts, says_nothing, is_somebody_else, refuses])
def test_where_the_port_is_not_reached_the_site_relays(
    page: Any, stack: Stack, tmp_path: Path, how: Callable[[Any], None]
) -> None:
    name = f"{how.__name__}.bin"
    put(stack, name, numbered_bytes(300_000))
    page.route("**/get/**", how)
    with page.expect_event("request", lambda request: "/get/" in request.url):
        page.reload()
    if how is says_nothing:
        with page.expect_event("requestfailed", lambda request: "/get/" in request.url):
            pass
    shows(file_row(page, name))
    assert saved(page, link(page, name), tmp_path / "saved") == (stack.web_port, name)
    assert (tmp_path / "saved").read_bytes() == numbered_bytes(300_000)
    assert stack.ending(name)["outcome"] == "complete"
    assert "direct" not in link(page, name).get_attribute("href")


def test_turned_off_everything_is_relayed_and_the_port_is_not_asked(
    browser: Any, relaying: Stack, tmp_path: Path
) -> None:
    put(relaying, "a.bin", numbered_bytes(300_000))
    asked: list[str] = []
    with browser.new_context(accept_downloads=True) as context:
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(relaying.url)
        shows(file_row(page, "a.bin"))
        assert saved(page, link(page, "a.bin"), tmp_path / "saved") == (relaying.web_port, "a.bin")
    assert (tmp_path / "saved").read_bytes() == numbered_bytes(300_000)
    assert not [url for url in asked if urlsplit(url).port == relaying.server_port]
    assert relaying.ending("a.bin")["outcome"] == "complete"


def test_without_scripts_the_plain_link_is_relayed(browser: Any, stack: Stack, tmp_path: Path) -> None:
    put(stack, "plain.bin", numbered_bytes(300_000))
    with browser.new_context(accept_downloads=True, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(stack.url)
        assert saved(page, link(page, "plain.bin"), tmp_path / "saved") == (stack.web_port, "plain.bin")
    assert (tmp_path / "saved").read_bytes() == numbered_bytes(300_000)
