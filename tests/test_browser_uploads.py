"""Uploads on the page: many files, whole folders, and every kind of break."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browsing
from tests.browsing import (
    MIB,
    PATIENCE,
    Network,
    drop,
    expect,
    file_row,
    is_in,
    press,
    reaches,
    shows,
    starts,
    upload_row,
    value_of,
)
from tests.servers import wait_until
from tests.stack import Stack

browser, stack, page = browsing.browser, browsing.stack, browsing.page
network, make = browsing.network, browsing.make


@pytest.fixture
def nothing_left(stack: Stack, page: Any) -> Iterator[None]:
    """Hidden or not, uploads that have ended leave nothing behind but files.

    Takes the page, so that it is still open: it throws away in the background what was skipped.
    """
    yield
    wait_until(lambda: not partials(stack), 15)


def partials(stack: Stack) -> list[Path]:
    """What there is of uploads that are not files yet."""
    hidden = (path for path in stack.files.rglob("*") if path.is_file())
    return [path for path in hidden if path.parent.name.startswith(".") and not path.suffix]


def same(path: Path, other: Path) -> bool:
    """Asserted on hashes: no one reads the difference of a million bytes."""
    return hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def tab_until(page: Any, expression: str, value: str) -> None:
    while page.evaluate(expression) != value:
        page.keyboard.press("Tab")


@pytest.mark.usefixtures("nothing_left")
def test_a_dropped_folder_keeps_its_structure(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    names = ["week 3/slides.bin", "week 3/deep/er/ü ñ.bin", "week 3/empty.bin", "week 4/notes.bin"]
    paths = [make(name, 0 if "empty" in name else 300_000) for name in names]
    hidden = make("week 3/.hidden", 10)
    network.drop(hidden.parent, paths[-1].parent)
    for name, path in zip(names, paths, strict=True):
        is_in(upload_row(page, name), "done")
        assert same(stack.files / name, path)
        shows(file_row(page, name))
    expect(page.locator("#uploads li")).to_have_count(len(names))


def test_a_folder_can_be_chosen_with_a_button(page: Any, stack: Stack, make: Callable[..., Path]) -> None:
    path = make("chosen folder/sub/a.bin", 1000)
    make("chosen folder/.git/config", 10)
    page.set_input_files("#folder-input", path.parent.parent)
    is_in(upload_row(page, "chosen folder/sub/a.bin"), "done")
    assert same(stack.files / "chosen folder/sub/a.bin", path)
    expect(page.locator("#uploads li")).to_have_count(1)


@pytest.mark.usefixtures("nothing_left")
def test_a_paused_upload_stands_still_and_goes_on_where_it_was(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("paused.bin", 20 * MIB)
    row = starts(page, network, path)
    press(row, "pause")
    is_in(row, "paused")
    network.speed(-1)
    # Another one is not held up by it, and gives it the time to move if it did.
    page.set_input_files("#file-input", make("meanwhile.bin", MIB))
    is_in(upload_row(page, "meanwhile.bin"), "done")
    is_in(row, "paused")
    assert value_of(row) < 100
    press(row, "resume")
    is_in(row, "done")
    assert same(stack.files / "paused.bin", path)
    assert network.offsets[-1] > 0
    assert stack.ending("paused.bin")["outcome"] == "complete"


def test_a_cancelled_upload_leaves_nothing_on_the_disk(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    row = starts(page, network, make("unwanted upload.bin", 20 * MIB))
    assert partials(stack)
    press(row, "cancel")
    is_in(row, "cancelled")
    wait_until(lambda: not partials(stack), 15)
    assert stack.ending("unwanted upload.bin")["outcome"] == "cancelled"
    wait_until(lambda: page.evaluate("localStorage.length") == 0)
    # It was a mistake: all of it once more.
    network.speed(-1)
    press(row, "retry")
    is_in(row, "done")


def test_an_upload_survives_every_crash_as_one_transfer(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("crashes.bin", 200 * MIB)
    row = starts(page, network, path, percent=10, speed=40 * MIB)
    crashes = [
        (stack.kill_server, stack.start_server, 30),
        (stack.kill_site, stack.start_site, 55),
        (stack.kill_server, stack.start_server, 80),
    ]
    for kill, start, percent in crashes:
        kill()
        is_in(row, "retrying")
        start()
        reaches(row, percent)
    network.speed(-1)
    is_in(row, "done")
    assert same(stack.files / "crashes.bin", path)
    ending = stack.ending("crashes.bin", after="interrupted")  # there is but one row
    assert (ending["outcome"], ending["size"]) == ("complete", 200 * MIB)
    assert page.evaluate("localStorage.length") == 0


def test_without_a_network_it_waits_and_goes_on_at_once(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("cable.bin", 20 * MIB)
    row = starts(page, network, path)
    network.cut()
    stack.kill_site()  # of what is under way, the emulated network lets go on
    is_in(row, "retrying")
    expect(row).to_contain_text("Waiting for the network")
    stack.start_site()
    network.speed(-1)
    is_in(row, "done")
    assert same(stack.files / "cable.bin", path)


def interrupt(page: Any, network: Network, path: Path) -> None:
    """The page is loaded anew in the middle of an upload, against its warning."""
    starts(page, network, path, percent=30)
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    network.speed(-1)
    network.offsets.clear()
    expect(page.locator("#interrupted-text")).to_contain_text("1 upload was interrupted", timeout=PATIENCE)
    expect(page.locator("#interrupted-names")).to_contain_text(path.name)


@pytest.mark.usefixtures("nothing_left")
def test_after_a_reload_the_same_file_goes_on_where_it_was(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("reloaded.bin", 10 * MIB)
    interrupt(page, network, path)
    page.set_input_files("#file-input", path)
    is_in(upload_row(page, "reloaded.bin"), "done")
    assert same(stack.files / "reloaded.bin", path)
    assert network.offsets[0] > 2 * MIB
    expect(page.locator("#interrupted")).to_be_hidden()
    assert stack.ending("reloaded.bin")["outcome"] == "complete"


def test_interrupted_uploads_can_be_forgotten(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("forgotten.bin", 10 * MIB)
    interrupt(page, network, path)
    assert partials(stack)
    page.click("#interrupted-forget")
    expect(page.locator("#interrupted")).to_be_hidden(timeout=PATIENCE)
    assert not partials(stack)
    assert page.evaluate("localStorage.length") == 0


def test_another_tab_leaves_alone_what_is_being_sent(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    row = starts(page, network, make("my tab.bin", 10 * MIB))
    other = page.context.new_page()
    with other.expect_event("console", lambda said: said.text == "asked"):
        # The note is shown after the roll call of the tabs; of that, a script sees the timer.
        other.add_init_script(
            "const set = setTimeout; window.setTimeout = (run, ms, ...rest) =>"
            " set((...all) => { run(...all); if (ms === 200) set(console.log, 0, 'asked'); }, ms, ...rest);"
        )
        other.goto(stack.url)
    expect(other.locator("#interrupted")).to_be_hidden()
    assert page.evaluate("localStorage.length") == 1
    network.speed(-1)
    is_in(row, "done")


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("answer", ["rename", "replace", "skip"])
def test_a_name_that_is_taken_meanwhile_is_asked_about_at_the_end(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path], answer: str
) -> None:
    path = make(f"meanwhile {answer}.bin", 5 * MIB)
    row = starts(page, network, path)
    theirs = stack.files / path.name
    theirs.write_text("theirs")
    network.speed(-1)
    shows(page.locator("#exists"))
    network.offsets.clear()
    page.click(f'#exists button[value="{answer}"]')
    is_in(row, "skipped" if answer == "skip" else "done")
    mine = {"rename": theirs.with_name(f"meanwhile {answer} (1).bin"), "replace": theirs}
    if answer in mine:
        assert same(mine[answer], path)
        assert network.offsets == [5 * MIB]  # not a byte was sent twice
    if answer != "replace":
        assert theirs.read_text() == "theirs"


def test_a_question_that_a_reload_has_left_open_is_asked_again(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("open question.bin", 5 * MIB)
    starts(page, network, path)
    (stack.files / path.name).write_text("theirs")
    network.speed(-1)
    shows(page.locator("#exists"))
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    shows(page.locator("#interrupted"))
    network.offsets.clear()
    page.set_input_files("#file-input", path)
    shows(page.locator("#exists"))
    page.click('#exists button[value="replace"]')
    is_in(upload_row(page, path.name), "done")
    assert same(stack.files / path.name, path)
    assert set(network.offsets) == {5 * MIB}


def test_one_answer_is_enough_for_all_of_a_batch(page: Any, stack: Stack) -> None:
    names = [f"batch {number}.txt" for number in range(5)]
    for name in names:
        (stack.files / name).write_text("theirs")
    drop(page, dict.fromkeys(names, b"mine") | {"batch new.txt": b"mine"})
    shows(page.locator("#exists"))
    page.check('#exists [data-slot="all"]')
    page.click('#exists button[value="skip"]')
    for name in names:
        is_in(upload_row(page, name), "skipped")
        assert (stack.files / name).read_text() == "theirs"
    is_in(upload_row(page, "batch new.txt"), "done")


def test_what_is_ended_from_the_live_table_does_not_begin_again_by_itself(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path]
) -> None:
    path = make("ended.bin", 20 * MIB)
    row = starts(page, network, path)
    page.locator('#live [data-name="ended.bin"] button').click()
    is_in(row, "failed")
    expect(row).to_contain_text("ended from elsewhere")
    wait_until(lambda: not partials(stack), 15)
    network.speed(-1)
    press(row, "retry")
    is_in(row, "done")
    assert same(stack.files / "ended.bin", path)


def test_a_name_that_cannot_be_is_said_in_a_sentence(page: Any, stack: Stack) -> None:
    drop(page, {"what?.txt": b"x"})
    row = upload_row(page, "what?.txt")
    is_in(row, "failed")
    expect(row).to_contain_text("what?.txt' cannot be used")


def test_the_keyboard_alone_chooses_pauses_goes_on_and_cancels(
    page: Any, network: Network, make: Callable[..., Path]
) -> None:
    path, acting = make("keys.bin", 20 * MIB), "document.activeElement.dataset.act"
    page.once("filechooser", lambda chooser: chooser.set_files(path))
    network.speed(4 * MIB)
    page.focus("#theme")
    tab_until(page, "document.activeElement.id", "file-input")
    page.keyboard.press("Enter")
    row = upload_row(page, "keys.bin")
    shows(row)
    reaches(row, 1)
    tab_until(page, acting, "pause")
    page.keyboard.press("Enter")
    is_in(row, "paused")
    assert page.evaluate(acting) == "resume"
    page.keyboard.press("Space")
    is_in(row, "sending")
    page.keyboard.press("Tab")
    assert page.evaluate(acting) == "cancel"
    page.keyboard.press("Enter")
    is_in(row, "cancelled")
    assert page.evaluate(acting) == "cancel"
    page.keyboard.press("Enter")
    expect(row).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "file-input"


def test_without_scripts_a_plain_form_uploads(browser: Any, stack: Stack, make: Callable[..., Path]) -> None:
    path = make("no scripts.bin", MIB)
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(stack.url)
        expect(page.locator("#dropzone")).to_be_hidden()
        for _ in range(2):  # the second time, the name is taken
            page.set_input_files('input[name="file"]', path)
            page.get_by_role("button", name="Upload", exact=True).click()
        expect(page.locator("body")).to_contain_text("There is a file 'no scripts.bin' already")
    finally:
        context.close()
    assert same(stack.files / "no scripts.bin", path)


def place_of_cancel(row: Any) -> float:
    """Pixels from the top of the row."""
    place: float = row.evaluate(
        """(row) => row.querySelector('[data-act="cancel"]').getBoundingClientRect().top
            - row.getBoundingClientRect().top"""
    )
    return place


@pytest.mark.parametrize("state", ["paused", "retrying"])
def test_rows_fit_a_phone(
    page: Any, stack: Stack, network: Network, make: Callable[..., Path], state: str
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    name = f"{state} {'a-name-without-any-blank-' * 4}.bin"
    row = starts(page, network, make(name, 20 * MIB))
    before = place_of_cancel(row)
    if state == "paused":
        press(row, "pause")
    else:
        stack.kill_server()
    is_in(row, state)
    assert place_of_cancel(row) == before  # a button that moves is missed by whoever is about to press it
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    if state == "retrying":
        stack.start_server()
    press(row, "cancel")
    is_in(row, "cancelled")
    wait_until(lambda: not partials(stack), 15)
