"""What tests of the page in Chromium share: the browser, both servers as processes, and an open page.

A test module takes the fixtures by their names: ``page = browsing.page``.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import wait_until
from tests.stack import Stack, run_stack

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
]
MIB = 1 << 20
PATIENCE = 15_000  # milliseconds until a condition in the page must hold


@contextlib.contextmanager
def chromium_by(program: Callable[[str], str | Path] = str) -> Iterator[Any]:
    """Chromium; ``program`` makes of its path that of what is to be started."""
    if not CHROMIUM:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("Chromium is missing, and REQUIRE_BROWSER is set")
        pytest.skip("Chromium is not installed: the page is not tested")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=str(program(CHROMIUM)), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium_by() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@contextlib.contextmanager
def new_page(browser: Any) -> Iterator[Any]:
    """An empty page. Whatever breaks the content security policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def page(browser: Any, stack: Stack) -> Iterator[Any]:
    """A page that is open and online."""
    with new_page(browser) as page:
        page.goto(stack.url)
        is_online(page)
        yield page


def is_online(page: Any) -> None:
    expect(page.locator("#status")).to_have_attribute("data-state", "online", timeout=PATIENCE)


def shows(locator: Any) -> None:
    expect(locator).to_be_visible(timeout=PATIENCE)


def file_row(page: Any, name: str) -> Any:
    return page.locator(f'#files tr[data-name="{name}"]')


def drop(page: Any, files: dict[str, bytes]) -> None:
    """Let files of these names fall on the drop zone, as from a file manager."""
    data = page.evaluate_handle(
        """(files) => {
            const data = new DataTransfer();
            for (const [name, text] of files) data.items.add(new File([text], name, { lastModified: 1 }));
            return data;
        }""",
        [[name, content.decode()] for name, content in files.items()],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#dropzone", event, {"dataTransfer": data})


def upload_row(page: Any, name: str) -> Any:
    """The one of that name in the list of own uploads."""
    return page.locator(f'#uploads li[data-name="{name}"]')


def is_in(row: Any, state: str) -> None:
    expect(row).to_have_attribute("data-state", state, timeout=PATIENCE)


class Network:
    """The browser's own: how fast it sends, if at all, and which parts it has sent."""

    def __init__(self, page: Any) -> None:
        self._cdp = page.context.new_cdp_session(page)
        self._page = page
        self.offsets: list[int] = []  # of the parts
        page.on("request", self._sees)
        self._cdp.send("Network.enable")

    def speed(self, bytes_per_second: int, offline: bool = False) -> None:
        """-1: as fast as it can."""
        conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
        self._cdp.send("Network.emulateNetworkConditions", {"offline": offline, **conditions})

    def cut(self) -> None:
        self.speed(-1, offline=True)

    def _sees(self, request: Any) -> None:
        if request.method == "PATCH":
            self.offsets.append(int(request.headers["upload-offset"]))

    def drop(self, *paths: Path) -> None:
        """As from a file manager: unlike scripts, it can drop folders."""
        box = self._page.locator("#dropzone").bounding_box()
        where = {"x": box["x"] + 40, "y": box["y"] + 40}
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._cdp.send("Input.dispatchDragEvent", {"type": kind, "data": data, **where})


@pytest.fixture
def network(page: Any) -> Network:
    return Network(page)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """A file of random bytes in a folder of the person who uploads."""

    def make_file(name: str, size: int) -> Path:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        return path

    return make_file


def value_of(row: Any) -> float:
    value: float = row.locator("progress").evaluate("bar => bar.value")
    return value


def reaches(row: Any, percent: float) -> None:
    wait_until(lambda: value_of(row) >= percent, 30)


def press(row: Any, act: str) -> None:
    row.locator(f'[data-act="{act}"]').click()


def starts(page: Any, network: Network, path: Path, percent: float = 5, speed: int = 4 * MIB) -> Any:
    """The row of an upload that has begun and will take its time."""
    network.speed(speed)
    page.set_input_files("#file-input", path)
    row = upload_row(page, path.name)
    reaches(row, percent)
    return row
