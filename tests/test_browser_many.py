"""Many uploads at once in Chromium: nothing is lost without a word, and a person sees how far it is."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import browsing
from tests.browsing import PATIENCE, Network, expect, is_in, press, shows, upload_row
from tests.servers import wait_until
from tests.stack import Stack

browser, stack, page = browsing.browser, browsing.stack, browsing.page
network, make = browsing.network, browsing.make

NAMELESS = "(a name that the browser cannot read)"
# What Chromium answers where a person has no right to open a folder or a file, or a file has gone. Tests may
# run as an administrator, who may open everything.
LOCKS = """() => {
    const no = (name) => new DOMException("", name);
    const wrap = (entry) => entry && {
        name: entry.name,
        isFile: entry.isFile,
        file: (done, failed) => {
            if (entry.name === "gone.txt") failed(no("NotFoundError"));
            else entry.file(done, failed);
        },
        createReader: () => {
            const reader = entry.createReader();
            return {
                readEntries: (done, failed) => {
                    if (entry.name === "locked") failed(no("NoModificationAllowedError"));
                    else reader.readEntries((found) => done(found.map(wrap)), failed);
                },
            };
        },
    };
    const taken = DataTransferItem.prototype.webkitGetAsEntry;
    DataTransferItem.prototype.webkitGetAsEntry = function () { return wrap(taken.call(this)); };
    const slice = File.prototype.slice;
    File.prototype.slice = function (...at) {
        const part = slice.apply(this, at);
        if (this.name === "unreadable.txt") part.arrayBuffer = () => Promise.reject(no("NotReadableError"));
        return part;
    };
}"""


# What the live region has said so far, for each piece of news replaces the one before.
HEARS = """() => {
    window.heard = [];
    const region = document.getElementById("announce");
    new MutationObserver(() => window.heard.push(region.textContent)).observe(region, {childList: true});
}"""


def failed_with(row: Any, words: str) -> None:
    """It says why, and offers no try that cannot help."""
    is_in(row, "failed")
    expect(row).to_contain_text(words)
    expect(row.get_by_role("button")).to_have_count(1)


def test_what_a_dropped_folder_loses_is_a_row_with_the_reason(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    page.evaluate(LOCKS)
    page.evaluate(HEARS)
    for name in ("a.txt", "what?.txt", "gone.txt", "unreadable.txt", "locked/b.txt", "deep/er/c.txt"):
        make(f"lossy/{name}", 100)
    folder = make("lossy/.hidden", 10).parent
    os.close(os.open(os.fsencode(folder) + b"/deep/b\xffd.txt", os.O_CREAT))
    network.drop(folder)
    reasons = {
        "what?.txt": "cannot be used",
        "gone.txt": "was moved or deleted",
        "unreadable.txt": "cannot read the file",
        "locked/": "cannot read this folder",
        f"deep/{NAMELESS}": "cannot read the name",
    }
    for name, words in reasons.items():
        failed_with(upload_row(page, f"lossy/{name}"), words)
    for name in ("a.txt", "deep/er/c.txt"):
        is_in(upload_row(page, f"lossy/{name}"), "done")
    expect(page.locator("#uploads li")).to_have_count(7)
    expect(page.locator("#uploads-count")).to_have_text("2 of 7 done, 5 failed", timeout=PATIENCE)
    wait_until(lambda: "failed" in page.evaluate("heard.join()"), 15)
    # What failed stands before what is done.
    states = page.locator("#uploads li").evaluate_all("rows => rows.map((row) => row.dataset.state)")
    assert states == ["failed"] * 5 + ["done"] * 2
    # The one button takes the row away, and leaves the focus on the next.
    press(upload_row(page, "lossy/what?.txt"), "cancel")
    expect(page.locator("#uploads li")).to_have_count(6)
    assert page.evaluate("document.activeElement.dataset.act") == "cancel"


def test_what_cannot_be_read_at_all_is_a_row_too(
    page: Any, network: Network, tmp_path: Path, make: Callable[..., Path]
) -> None:
    page.evaluate(LOCKS)
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    network.drop(make("locked/b.txt", 10).parent)
    failed_with(upload_row(page, "locked/"), "cannot read this folder")
    network.drop(tmp_path / "nowhere")
    failed_with(page.locator("#uploads li").last, "cannot read")


def test_of_60_uploads_those_that_move_come_first_under_a_total(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    paths = [make(f"sixty/{number:02}.bin", 100_000) for number in range(60)]
    page.set_viewport_size({"width": 360, "height": 740})  # where fewer rows are seen
    network.speed(1_000_000)
    page.set_input_files("#file-input", paths)
    page.mouse.move(2, 2)  # away from the list
    rows = page.locator("#uploads li")
    total, count = page.locator("#uploads-total"), page.locator("#uploads-count")
    shows(total)
    seen: set[str] = set()

    def order() -> list[str]:
        states: list[str] = rows.evaluate_all("rows => rows.map((row) => row.dataset.state)")
        assert len(states) == 60
        return states

    def is_in_order() -> bool:
        rank = {"sending": 0, "retrying": 0, "waiting": 1, "done": 2}
        states = order()
        seen.update(states)
        ranks = [rank[state] for state in states]
        return ranks == sorted(ranks) and {"sending", "waiting", "done"} <= set(states)

    wait_until(is_in_order, 15)
    expect(count).to_have_text(re.compile(r"^[1-9]\d? of 60 done$"))
    expect(total).to_contain_text(re.compile(r"\d\s%.* of 5\.7\sMiB.*/s.*\ss left"), timeout=PATIENCE)
    percent = page.locator("#uploads-bar").evaluate("bar => bar.value")
    assert 0 < percent < 100
    wait_until(lambda: order().count("done") >= 12 and is_in_order(), 15)
    assert page.locator("#uploads").evaluate("list => list.scrollTop") == 0
    # The row that is pointed at stays where it is; the one with the focus keeps it while the others move.
    rows.nth(1).hover()
    pointed = rows.nth(1).get_attribute("data-name")
    done = order().count("done")
    wait_until(lambda: order().count("done") >= done + 4, 15)
    assert rows.nth(1).get_attribute("data-name") == pointed
    page.mouse.move(2, 2)
    kept = rows.nth(30).get_attribute("data-name")
    assert kept
    upload_row(page, kept).locator('[data-act="cancel"]').focus()
    done = order().count("done")
    wait_until(lambda: order().count("done") >= done + 4, 15)
    assert page.evaluate("document.activeElement.closest('li').dataset.name") == kept
    network.speed(-1)
    expect(count).to_have_text("60 of 60 done", timeout=PATIENCE)
    expect(total).to_be_hidden(timeout=PATIENCE)
    assert len(list(stack.files.glob("*.bin"))) == 60
