"""What tests of the page in Chromium share: the browser, both servers as processes, and an open page.

A test module takes the fixtures by their names: ``page = browsing.page``.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

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
PATIENCE = 15_000  # milliseconds until a condition in the page must hold


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("Chromium is missing, and REQUIRE_BROWSER is set")
        pytest.skip("Chromium is not installed: the page is not tested")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def page(browser: Any, stack: Stack) -> Iterator[Any]:
    """A page that is open and online. Whatever breaks the content security policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    page.goto(stack.url)
    expect(page.locator("#status")).to_have_attribute("data-state", "online", timeout=PATIENCE)
    yield page
    context.close()
    assert complaints == []


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
    """The newest one of that name in the list of own uploads."""
    return page.locator(f'#uploads li[data-name="{name}"]').last


def is_in(row: Any, state: str) -> None:
    expect(row).to_have_attribute("data-state", state, timeout=PATIENCE)
