"""What the pages for people say is what the code does."""

import ast
import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.urls import resolve

from fileserver.wire import fields, lines, replies, verbs
from fileserver.wire.http import STATUS_OF_CODE
from tests.servers import run_server

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SAMPLES = ROOT / "server_files"


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one that is not below it."""
    text = page.read_text("utf-8")
    begin = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert begin, f"{page.name} has no section {heading}"
    rest = text[begin.end() :]
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables in ``text``, cell by cell, without their headings."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("|") and not line.startswith("|---") and not below.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def code(text: str) -> list[str]:
    """What stands between backquotes on a line."""
    return re.findall(r"`([^`\n]+)`", text)


# --- settings


def settings_in_code() -> dict[str, str]:
    """Each variable that the settings read, with its default as one would write it in ``.env``."""
    found = {}
    tree = ast.parse((ROOT / "cfsite" / "settings.py").read_text("utf-8"))
    for call in ast.walk(tree):
        reads = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if not reads or ast.unparse(call.func.value) != "env" or call.func.attr == "read_env":
            continue
        default = [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "default")]
        assert default, f"{ast.unparse(call)} has no default: a fresh installation could not start"
        found[ast.literal_eval(call.args[0])] = as_in_env(ast.literal_eval(default[0]))
    return found


def as_in_env(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_env_example_lists_every_setting_with_its_default() -> None:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    assert not [line for line in lines if line and not line.startswith("#")], "defaults must be commented out"
    pairs = [line[1:].partition("=") for line in lines if re.match(r"#[A-Z_]+=", line)]
    assert {name: value for name, _, value in pairs} == settings_in_code()
    assert len(pairs) == len(settings_in_code())


def test_readme_lists_every_setting_with_its_default() -> None:
    listed = {code(name)[0]: "".join(code(default)) for name, default, _ in rows(section(README, "Settings"))}
    assert listed == settings_in_code()


# --- commands


def options_of(name: str) -> set[str]:
    command = load_command_class(get_commands()[name], name)
    return set(command.create_parser("manage.py", name)._option_string_actions)


def commands_in_readme() -> Iterator[tuple[str, list[str]]]:
    """Each ``manage.py`` line, and what starts one, as (command, words)."""
    for line in re.findall(r"(?:manage\.py|\./start_all\.sh)(?: [^\n`]*)?", README.read_text("utf-8")):
        program, *words = line.replace("[", " ").replace("]", " ").split()
        if program == "./start_all.sh":
            yield "start", words
        elif words and words[0] != "…":
            yield words[0], words[1:]


def test_every_command_and_option_of_readme_exists() -> None:
    found = list(commands_in_readme())
    assert len(found) > 10
    for name, words in found:
        assert name in get_commands(), f"README speaks of manage.py {name}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(name), f"README gives {name} options that it does not have"


def own_commands() -> list[str]:
    folder = ROOT / "files_app" / "management" / "commands"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", own_commands())
def test_readme_tells_of_every_command_and_its_options(name: str) -> None:
    table = section(README, "Commands")
    lines = [span for span in code(table) if span.startswith(f"manage.py {name}")]
    assert lines, f"README does not tell of manage.py {name}"
    if name in ("runserver", "migrate"):  # their options are Daphne's and Django's
        return
    of_all = set(BaseCommand().create_parser("manage.py", name)._option_string_actions)
    own = {option for option in options_of(name) - of_all if option.startswith("--")}
    assert own <= set(re.findall(r"--[\w-]+", " ".join(lines)))


def test_choices_of_upload_are_those_of_the_protocol() -> None:
    assert "--exists fail/replace/rename" in section(README, "Commands")
    parser = load_command_class("files_app", "upload").create_parser("manage.py", "upload")
    assert list(parser._option_string_actions["--exists"].choices or ()) == ["fail", "replace", "rename"]


# --- pages, files and messages


def test_every_url_of_readme_resolves() -> None:
    urls = [code(url)[0] for url, _ in rows(section(README, "Pages"))]
    assert len(urls) >= 8
    for url in urls:
        if url.startswith("/ws/"):
            patterns = import_module("files_app.live.routing").websocket_urlpatterns
            assert any(route.resolve(url[1:]) for route in patterns), url
        else:
            assert resolve(url.replace("<name>", "week 3/slides.pdf").replace("<secret>", "a" * 26)), url


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in filter(None, (first or second for first, second in links)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def anchors(page: Path) -> set[str]:
    """The names that headings get when the page is shown on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_between_backquotes_exist(page: Path) -> None:
    made_later = {".venv/bin/python", "static/vendor"}
    for span in code(page.read_text("utf-8")):
        path = span.removeprefix("./").split(" ")[0]
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?[\w-]+\.(py|sh|bat|md|txt)", path) and path not in made_later:
            found = (ROOT / path).exists() or any(ROOT.glob(f"**/{path}"))
            assert found or path in ("notes.txt", "CON.txt", "a.txt"), f"{page.name} names {span}"


def test_messages_of_the_troubleshooting_are_those_of_the_programs() -> None:
    folders = ("fileserver", "files_app", "cfsite", "scripts", "static/js")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    said = "\n".join(
        path.read_text("utf-8") for path in sources if path.suffix in (".py", ".sh", ".bat", ".js")
    )
    messages = [span for seen, _ in rows(section(README, "When something is wrong")) for span in code(seen)]
    sentences = [message for message in messages if " " in message]
    assert len(sentences) >= 8
    assert not [sentence for sentence in sentences if sentence not in said]


# --- the protocol


def test_documented_verbs_are_those_of_the_table() -> None:
    headings = re.findall(r"^### (\w+)$", section(PROTOCOL, "Verbs"), re.MULTILINE)
    assert headings == list(verbs.VERBS)


@pytest.mark.parametrize("verb", verbs.VERBS)
def test_documented_fields_and_right_are_those_of_the_verb(verb: str) -> None:
    text, known = section(PROTOCOL, verb), verbs.VERBS[verb]
    fields = {cells[0] for cells in rows(text) if re.fullmatch(r"(\*\*)?`\w+`(\*\*)?", cells[0])}
    assert {code(cell)[0] for cell in fields} == known.fields.keys() - verbs.RELAY_FIELDS.keys()
    bold = [code(cell)[0] for cell in fields if cell.startswith("**")]
    assert bold == [known.main][: bool(known.main)]
    assert re.findall(r"Right: `(\w+)`", text) == [known.right][: bool(known.right)]


def test_documented_relay_fields_are_those_of_the_code() -> None:
    fields = {code(cells[0])[0] for cells in rows(section(PROTOCOL, "Speaking for somebody else"))}
    assert fields == verbs.RELAY_FIELDS.keys()


def test_documented_error_codes_are_those_of_the_code() -> None:
    documented = {code(cells[0])[0] for cells in rows(section(PROTOCOL, "Error codes"))}
    assert documented == error_codes()


def error_codes() -> set[str]:
    """Every code that ``fileserver`` may answer with: the words where an ``ErrorReply`` is made."""
    found = set(replies.CLOSING_CODES)
    for path in (ROOT / "fileserver").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ErrorReply":
                found |= texts(node.args[0])
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
                found |= texts(node.value)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MEANINGS":
                found |= {
                    meaning[0] for meaning in import_module("fileserver.storage.place").MEANINGS.values()
                }
    return found


def texts(node: ast.expr) -> set[str]:
    """The texts that an expression may have as its value."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_documented_statuses_are_those_of_the_code() -> None:
    documented = {int(status) for status, _ in rows(section(PROTOCOL, "HTTP on this port"))}
    rooms = [ROOT / "fileserver" / room / "http.py" for room in ("wire", "sessions")]
    refusals = re.findall(r"Refused\((\d+)", "".join(path.read_text("utf-8") for path in rooms))
    # Of all codes, a download can be refused with these; a head that is late or too long has its own status.
    codes = {"bad-name", "bad-request", "denied", "not-found", "not-a-file", "shutting-down", "unavailable"}
    told = {STATUS_OF_CODE[code] for code in codes}
    assert documented == {200, 204, 206, 304} | {*map(int, refusals)} | told


def test_each_error_code_has_a_status_of_http() -> None:
    assert set(STATUS_OF_CODE) == error_codes()


def test_limits_are_those_of_the_code() -> None:
    limits = import_module("fileserver.context").Limits()
    table = section(PROTOCOL, "Limits")
    assert f"{lines.MAX_LINE_BYTES:,} bytes" in table
    assert f"| silence before the first request | {limits.first_silence:g} s |" in table
    assert f"| silence between two requests | {limits.silence:g} s |" in table
    assert f"| from the first byte of a line to its LF | {limits.line:g} s |" in table
    assert (
        f"| empty lines in a row | {import_module('fileserver.sessions.session').MAX_EMPTY_LINES} |" in table
    )
    assert f"| {import_module('fileserver.net.connection').NOISE_BYTES:,} | `bad-request`" in table
    http = import_module("fileserver.wire.http")
    assert f"{http.MAX_HEADER_LINES}, and {http.MAX_HEAD_BYTES:,} bytes with the first line" in table
    assert f"| all lines of a request over HTTP | {limits.line:g} s | 408" in table
    assert f"| silence between two requests over HTTP | {limits.keep_alive:g} s |" in table
    assert f"under {import_module('fileserver.net.stall').STALL_FLOOR} bytes/s" in table
    assert f"| {limits.stall:g} s | closed; in the history: aborted, stalled |" in table
    assert f"| {limits.grace:g} s, a second signal: none |" in table
    assert f"| the next part of an upload that is sent in parts | {limits.waiting:g} s |" in table
    assert f"`PARTIAL_UPLOAD_HOURS`, {limits.keep_partial / 3600:g} h |" in table
    assert f"1 to {fields.MAX_LIST:,}" in section(PROTOCOL, "LIST")


# --- the samples


def test_the_example_by_hand_works() -> None:
    request = shlex.split(
        section(README, "The protocol in ten lines").partition("printf ")[2].splitlines()[0]
    )[0]
    content = (SAMPLES / "sample.txt").read_bytes()
    with run_server(SAMPLES) as running:
        reply = running.talk(request.replace("\\n", "\n").encode())
    header, _, rest = reply.partition(b"\n")
    assert replies.parse_reply(header)["length"] == len(content)
    assert rest.startswith(content)
    assert replies.parse_reply(rest[len(content) :].splitlines()[0])["sent"] == len(content)
    assert f'"size": {len(content)}' in README.read_text("utf-8")
    assert f'"sent": {len(content)}' in PROTOCOL.read_text("utf-8")


@pytest.mark.parametrize("name", ["sample.txt", "sample.pdf", "no such file", "sämple.txt"])
def test_the_sample_client_downloads_a_whole_file_or_says_why_not(name: str, tmp_path: Path) -> None:
    with run_server(SAMPLES) as running:
        host, port = running.address
        done = subprocess.run(
            [sys.executable, str(SAMPLES / "sample.py"), name, host, str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
        )
    if (SAMPLES / name).exists():
        assert done.returncode == 0, done.stderr
        assert sha256(tmp_path / name) == sha256(SAMPLES / name)
    else:
        assert done.returncode == 1
        assert "There is no file" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name][: done.returncode == 0]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
