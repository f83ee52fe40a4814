"""What Django refuses by itself: a status, a sentence, and one line of the log without a traceback."""

import logging

import pytest
from django.core.exceptions import SuspiciousOperation

from cfsite.webserver.lines import OneLine
from tests.files_app.site import fetch

pytestmark = pytest.mark.usefixtures("database")

BAD_HOSTS = [
    "evil.example",
    "evil.example:8000",
    "a b",
    "localhost:port",
    "",
    "[::1",
    "localhost\n",
    "x" * 5000,
]


def lines_of(records: list[logging.LogRecord]) -> list[str]:
    """As the console has them."""
    formatter = OneLine("{message}", style="{")
    assert all(record.name.startswith("django.security.") for record in records)
    return [formatter.format(record) for record in records]


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("url", ["/", "/files/a.txt", "/api/files", "/admin/", "/static/app.css"])
def test_a_bad_host_is_answered_in_a_sentence(host: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("django.security").addHandler(caplog.handler)  # which does not propagate
    try:
        answer = fetch("GET", url, host=host)
    finally:
        logging.getLogger("django.security").removeHandler(caplog.handler)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.text.startswith("This site does not answer to the name in your address.")
    (line,) = lines_of(caplog.records)
    assert line.startswith("Invalid HTTP_HOST header: ")
    assert "\n" not in line


def test_a_browser_gets_a_page() -> None:
    answer = fetch("GET", "/", host="evil.example", headers={"accept": "text/html,*/*"})
    assert answer.status == 400
    assert "<h1>That cannot be done</h1>" in answer.text


def test_other_suspicious_requests_are_a_line_too(caplog: pytest.LogCaptureFixture) -> None:
    fields = "&".join(f"f{number}=1" for number in range(2000))
    headers = {"content-type": "application/x-www-form-urlencoded"}
    logging.getLogger("django.security").addHandler(caplog.handler)
    try:
        answer = fetch("POST", "/upload/", body=fields.encode(), headers=headers)
    finally:
        logging.getLogger("django.security").removeHandler(caplog.handler)
    assert answer.status == 400
    assert len(lines_of(caplog.records)) == 1
    assert answer.text == "Something in the address or in what was sent is not as it should be.\n"


def test_a_line_has_no_traceback_and_no_breaks() -> None:
    try:
        raise SuspiciousOperation("a\nb")
    except SuspiciousOperation as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "%s", (error,), (type(error), error, None))
    assert OneLine("{asctime} {message}", "%H", "{").format(record)[3:] == "a b"


@pytest.mark.parametrize(
    "url", ["/?q=%00", "/history/?q=a%00b", "/api/files?q=%00", "/api/history?q=%00&page=1"]
)
def test_a_nul_in_the_address_is_refused_as_no_database_can_be_asked_for_it(url: str) -> None:
    answer = fetch("GET", url)
    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert answer.text == "There is a NUL character (%00) in the address.\n"
