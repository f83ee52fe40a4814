"""The page in Chromium: all its parts tell the same, in words and in units, and axe finds nothing wrong."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.client.blocking import Client
from fileserver.pacing import SLOW_MOTION
from tests import browsing
from tests.browsing import MIB, PATIENCE, Network, expect, file_row, is_in, press, shows, starts, upload_row
from tests.files_app.test_sizes import TABLE
from tests.servers import wait_until
from tests.stack import Stack

browser, stack, page = browsing.browser, browsing.stack, browsing.page
network, make = browsing.network, browsing.make

AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js"


# --- there or not there


def test_an_idle_page_says_one_thing_about_the_servers(page: Any, stack: Stack) -> None:
    idle, banner = page.locator("#live-empty"), page.locator("#banner")

    def says(state: str, words: str, sentence: str, has_banner: bool) -> None:
        expect(page.locator("#status")).to_have_attribute("data-state", state, timeout=PATIENCE)
        expect(page.locator("#status-word")).to_have_text(words)
        expect(idle).to_have_text(re.compile(sentence))
        assert banner.is_visible() == has_banner

    steps: list[tuple[Callable[[], None], tuple[str, str, str, bool]]] = [
        (lambda: None, ("online", "Online", "Nothing is moving right now", False)),
        (stack.kill_server, ("offline", "Offline", "Nothing can move", True)),
        (stack.start_server, ("online", "Online", "Nothing is moving right now", False)),
        (stack.kill_site, ("unreachable", "Site not reachable", "cannot be seen", True)),
        (stack.start_site, ("online", "Online", "Nothing is moving right now", False)),
    ]
    for act, expected in steps:
        act()
        says(*expected)


def test_downloads_go_direct_after_the_server_was_away_when_the_page_was_opened(
    page: Any, stack: Stack
) -> None:
    (stack.files / "later there.txt").write_text("x")
    shows(file_row(page, "later there.txt"))
    stack.kill_server()
    page.reload()
    expect(page.locator("#status")).to_have_attribute("data-state", "offline", timeout=PATIENCE)
    stack.start_server()
    link = file_row(page, "later there.txt").locator('[data-act="download"]')
    expect(link).to_have_attribute("href", re.compile("[?&]direct=1$"), timeout=PATIENCE)


def test_history_own_row_and_live_row_agree_about_an_upload_that_waits(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("waits.bin", 20 * MIB)
    row = starts(page, network, path)
    press(row, "pause")
    is_in(row, "paused")
    expect(page.locator('#live [data-name="waits.bin"]')).to_contain_text(
        "Waiting for the sender", timeout=PATIENCE
    )
    history = page.context.new_page()
    recorded = history.locator('#history [data-name="waits.bin"] .outcome')

    def records(words: str) -> None:
        expect(recorded).to_have_text(words, timeout=PATIENCE)

    wait_until(lambda: stack.history(q="waits.bin"), 15)
    history.goto(f"{stack.url}/history/")
    records("Not ended")
    # What has not ended is in the live table, and nowhere else on the page.
    expect(page.locator('#recent [data-name="waits.bin"]')).to_have_count(0)
    assert not page.get_by_text("Running", exact=True).count()
    stack.kill_server()
    expect(history.locator("#status")).to_have_attribute("data-state", "offline", timeout=PATIENCE)
    records("Not ended")
    stack.start_server()
    records("Interrupted")
    network.speed(-1)
    press(row, "resume")
    is_in(row, "done")
    shows(page.locator('#recent [data-name="waits.bin"][data-outcome="complete"]'))
    history.reload()
    records("Complete")


def test_the_history_says_by_itself_how_a_transfer_has_ended(page: Any, stack: Stack) -> None:
    (stack.files / "slow ending.bin").write_bytes(bytes(100_000))
    with Client(port=stack.server_port) as client:
        pieces = iter(client.get("slow ending.bin", pace=SLOW_MOTION))
        next(pieces)
        wait_until(lambda: stack.history(q="slow ending.bin"), 15)
        page.goto(f"{stack.url}/history/?q=slow+ending")
        recorded = page.locator('#history [data-name="slow ending.bin"] .outcome')
        expect(recorded).to_have_text("Not ended", timeout=PATIENCE)
    expect(recorded).to_have_text("Aborted", timeout=PATIENCE)
    assert "q=slow+ending" in page.url


# --- units


def test_the_scripts_of_the_page_have_the_servers_words_for_sizes(page: Any) -> None:
    said = page.evaluate(
        """async (counts) => {
            const app = document.querySelector('script[type="module"]').src;
            const { size } = await import(new URL("common/format.js", app));
            return counts.map((count) => size(Number(count)));
        }""",
        [str(count) for count, _ in TABLE],
    )
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in said] == [words for _, words in TABLE]


# --- for everybody


def violations(page: Any) -> list[str]:
    """What axe finds, by all its rules, in what is shown now."""
    found = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map("
        "({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`))"
    )
    assert isinstance(found, list)
    return [f"{page.url} {text}" for text in found]


@pytest.fixture(params=["light 1280", "light 360", "dark 1280", "dark 360"])
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Without the content security policy, which axe does not keep when it measures colours."""
    scheme, width = request.param.split()
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": int(width), "height": 900}
    )
    yield context.new_page()
    context.close()


def test_axe_finds_nothing(tab: Any, stack: Stack, make: Callable[..., Path]) -> None:
    _fill(stack)
    found = []
    with Client(port=stack.server_port) as client:
        pieces = iter(client.get("many 000.txt", pace=SLOW_MOTION))
        next(pieces)
        for path in ("/", "/?page=2", "/?q=nothing+of+it", "/history/", "/history/?page=2", "/nowhere"):
            tab.goto(stack.url + path)
            if path == "/":
                shows(tab.locator("#live [data-id]").first)
            tab.evaluate(AXE.read_text())
            found += violations(tab)
        tab.goto(stack.url)
        tab.evaluate(AXE.read_text())
        tab.set_input_files("#file-input", [make("many 001.txt", 10), make("what?.txt", 10)])
        shows(tab.locator("#exists"))
        found += violations(tab)
        tab.click('#exists button[value="skip"]')
        is_in(upload_row(tab, "many 001.txt"), "skipped")
        is_in(upload_row(tab, "what?.txt"), "failed")
        found += violations(tab)
    assert found == []


def _fill(stack: Stack) -> None:
    """More files and transfers than there are on one page of either."""
    if (stack.files / "many 000.txt").exists():
        return
    for number in range(60):
        (stack.files / f"many {number:03}.txt").write_bytes(bytes(5_000_000 if number == 0 else 100))
    for _ in range(30):
        for number in (2, 3):
            stack.request("GET", f"/files/many%20{number:03}.txt")
    wait_until(lambda: b"many 059" in stack.request("GET", "/api/files?q=many+059")[1], 15)
    wait_until(lambda: b'"pages": 2' in stack.request("GET", "/api/history?q=many")[1], 15)
