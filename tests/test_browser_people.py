"""The pages of people in Chromium, on a phone too: log in, hand out, collect, make a token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browsing
from tests.browsing import PATIENCE, expect, shows, upload_row
from tests.stack import Stack

browser = browsing.browser
stack = browsing.stack

AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js"
PASSWORD = "correct horse battery"
SIZES = {"wide": (1280, 900), "phone": (360, 740)}
MAKE = f"""
from django.contrib.auth.models import User
if not User.objects.filter(username="boss").exists():
    User.objects.create_superuser("boss", password={PASSWORD!r})
"""


def open_page(browser: Any, size: str, **options: Any) -> Any:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, bypass_csp=True, **options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    return page


@pytest.fixture(params=list(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, stack: Stack) -> Iterator[Any]:
    """Somebody who has logged in."""
    assert stack.manage("shell", "-c", MAKE).returncode == 0
    page = open_page(browser, request.param)
    page.size = request.param
    page.goto(f"{stack.url}/login/")
    is_well(page)
    page.fill("#id_username", "boss")
    page.fill("#id_password", PASSWORD)
    page.click("main button[type=submit]")
    shows(page.locator("#files-section"))
    yield page
    page.context.close()


def is_well(page: Any) -> None:
    """It fits the window, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page.url
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.map("
        "({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(' ')).join(', ')}`))"
    )
    assert found == [], page.url


def make_link(page: Any, stack: Stack, kind: str, target: str, title: str, **fields: str) -> str:
    """Its address."""
    page.goto(f"{stack.url}/links/new/")
    is_well(page)
    page.check(f"input[value={kind}]")
    for name, value in {"target": target, "title": title, **fields}.items():
        page.fill(f"input[name={name}]", value)
    page.click(".link-form button[type=submit]")
    shows(page.locator("#link-address"))
    is_well(page)
    path: str = page.get_attribute("#link-address", "href").split("/", 3)[3]
    return f"{stack.url}/{path}"


def test_homework_is_collected(page: Any, browser: Any, stack: Stack) -> None:
    url = make_link(page, stack, "drop", f"homework {page.size}", "Essay")
    for student in ("Ann", "Zoë"):
        theirs = open_page(browser, page.size)
        theirs.goto(url)
        is_well(theirs)
        theirs.fill("#sender", student)
        file = {"name": "essay.txt", "mimeType": "text/plain", "buffer": f"by {student}".encode()}
        theirs.set_input_files("#file-input", [file])
        expect(upload_row(theirs, "essay.txt")).to_have_attribute("data-state", "done", timeout=PATIENCE)
        expect(theirs.locator("#receipts")).to_contain_text("essay.txt", timeout=PATIENCE)
        is_well(theirs)
        theirs.context.close()
    folder = stack.files / f"homework {page.size}"
    found = {path.parent.name: path.read_text() for path in folder.glob("*/essay.txt")}
    assert found == {"Ann": "by Ann", "Zoë": "by Zoë"}
    page.reload()
    for student in ("Ann", "Zoë"):
        expect(page.locator("[aria-labelledby=h-uploads]").first).to_contain_text(student, timeout=PATIENCE)
    is_well(page)


def test_a_handout_with_a_password_is_fetched(page: Any, browser: Any, stack: Stack) -> None:
    (stack.files / "handout.txt").write_text("read this")
    url = make_link(page, stack, "share", "handout.txt", "Week 1", new_password="pear")
    theirs = open_page(browser, page.size, accept_downloads=True)
    theirs.goto(url)
    is_well(theirs)
    assert "handout" not in theirs.content().replace(url, "")
    theirs.fill("#password", "apple")
    theirs.click("main button[type=submit]")
    expect(theirs.locator("[role=alert]")).to_contain_text("That is not the password.")
    theirs.fill("#password", "pear")
    theirs.click("main button[type=submit]")
    shows(theirs.locator("text=handout.txt").first)
    is_well(theirs)
    with theirs.expect_download() as download:
        theirs.click("text=Download")
    assert Path(download.value.path()).read_text() == "read this"
    theirs.context.close()


def test_tokens_access_and_the_account_have_their_pages(page: Any, stack: Stack) -> None:
    page.goto(f"{stack.url}/account/tokens/")
    is_well(page)
    page.fill("input[name=name]", "nightly")
    page.click(".link-form button[type=submit]")
    shows(page.locator("#new-token"))
    is_well(page)
    for path in ("/account/", "/links/", "/access/?who=guest&name=a", "/access/?who=boss&name=a/b"):
        page.goto(stack.url + path)
        is_well(page)
    page.goto(f"{stack.url}/")
    page.click("text=Log out")
    expect(page.locator(".top-nav")).not_to_contain_text("boss", timeout=PATIENCE)
