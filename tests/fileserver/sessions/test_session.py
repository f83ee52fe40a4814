"""One client's conversation to the letter of the protocol: each verb, each code, and what closes."""

import contextlib
import itertools
import json
import os
import select
import shutil
import socket
import sys
import threading
import time
import unicodedata
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileserver.events import FileDeleted, FileHashed, FilePublished, TransferStarted, TransferVerified
from fileserver.limits import Limits
from fileserver.rights import Access, Principal, Right
from fileserver.sessions import control as control_module
from fileserver.sessions import session as session_module
from fileserver.sessions.required_rights import ASKS
from fileserver.storage.folder import Storage
from fileserver.transfers import watch as watch_module
from fileserver.wire.verbs import VERBS
from tests.servers import (
    ALL,
    Peer,
    Running,
    accounts,
    no_descriptor_left,
    numbered_bytes,
    parsed,
    request,
    run_server,
    sha256,
    wait_until,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    served = tmp_path / "served"
    served.mkdir()
    (tmp_path / "secret.txt").write_text("outside")
    return served


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    with run_server(folder) as running:
        yield running


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


# --- framing


def test_a_client_that_sends_nothing_is_sent_nothing(peer: Peer) -> None:
    peer.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.sock.recv(1)


def test_requests_in_one_segment_are_answered_in_order(running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"EOF")
    answer = running.talk(b"PING\nGET a\r\nSTAT b\nhelp\nGET a\nQUIT\nPING\n")
    lines = answer.split(b"\n")
    words = [line.split(b" ")[0] for line in lines]
    assert words == [b"OK", b"OK", b"EOFEND", b"ERR", b"OK", b"OK", b"EOFEND", b"OK", b""]
    assert lines[7] == b"OK {}"


@pytest.mark.parametrize(
    "line", [b"PING\n", b"PING\r\n", b"ping\n", b"pInG \n", b"PING {}\n", b"\n\r\nPING\n"]
)
def test_lines_end_in_lf_with_or_without_cr_and_verbs_have_no_case(running: Running, line: bytes) -> None:
    answer = running.talk(line)
    assert answer.startswith(b'OK {"protocol": "CFS/1"')
    assert answer.count(b"\n") == 1


def test_a_file_is_had_by_hand_as_the_protocol_says(running: Running, folder: Path) -> None:
    (folder / "week 3").mkdir()
    (folder / "week 3" / "my notes.txt").write_bytes(b"text")
    answer = running.talk(b"GET week 3/my notes.txt\n")
    header, rest = answer.split(b"\n", 1)
    fields = json.loads(header.removeprefix(b"OK "))
    assert list(fields) == ["id", "name", "size", "mtime", "etag", "offset", "length", "sha256"]
    assert rest == b'textEND {"id": 1, "sent": 4}\n'


def test_a_name_that_begins_with_a_brace_is_sent_as_json(peer: Peer, folder: Path) -> None:
    (folder / "{a}.txt").write_bytes(b"x")
    assert peer.refusal(b"STAT {a}.txt\n")["code"] == "bad-request"
    assert peer.ask("STAT", name="{a}.txt")["size"] == 1


def test_a_line_of_8192_bytes_is_answered_and_one_of_9000_ends_the_conversation(peer: Peer) -> None:
    assert peer.refusal(b"STAT " + b"x" * 8187 + b"\n")["code"] == "bad-name"
    assert peer.refusal(b"STAT " + b"x" * 8995 + b"\nPING\n")["code"] == "too-long"
    assert peer.rest() == b""


def test_a_line_without_its_end_is_answered_once(running: Running) -> None:
    answer = running.talk(b"PING\nPIN")
    assert [line[:3] for line in answer.split(b"\n")] == [b"OK ", b"ERR", b""]
    assert b'"bad-request"' in answer


EMPTY = session_module.MAX_EMPTY_LINES


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"PING\n"])
def test_a_stream_of_empty_lines_is_cut_off(
    running: Running, folder: Path, before: bytes, end: bytes
) -> None:
    (folder / "x").write_bytes(b"")
    answer = running.talk(before + end * (EMPTY + 1) + b"DELETE x\n")
    refusal = parsed(answer.splitlines()[-1])
    assert (refusal[0], refusal[1]["code"]) == ("ERR", "bad-request")
    assert answer.count(b"\n") == 1 + len(before.split())
    assert (folder / "x").exists()


def test_a_few_empty_lines_before_each_request_are_skipped(running: Running) -> None:
    answer = running.talk((b"\n" * EMPTY + b"PING\n") * 3)
    assert [line[:3] for line in answer.splitlines()] == [b"OK "] * 3


def test_empty_lines_buy_no_time(folder: Path) -> None:
    limits = Limits(first_silence=0.2, silence=0.2)
    with run_server(folder, limits=limits) as running, running.peer() as peer:
        peer.send(b"PING\n")
        peer.ok()
        begun = time.monotonic()
        for _ in range(EMPTY):  # each well within the limit, all of them not
            peer.send(b"\n")
            if select.select([peer.sock], [], [], 0.1)[0]:
                break
        assert peer.err()["code"] == "timeout"
        assert time.monotonic() - begun < 0.1 * EMPTY


def test_an_empty_line_is_no_first_request(folder: Path) -> None:
    limits = Limits(first_silence=0.2, silence=60)
    with run_server(folder, limits=limits) as running, running.peer() as peer:
        assert peer.refusal(b"\n")["code"] == "timeout"


# line, code; the connection stays usable after each of them
REFUSED = [
    (b"GET \xff\xfe\n", "bad-request"),
    (b'GET {"name": "a"\n', "bad-request"),
    (b'GET {"name": "a", "colour": 1}\n', "bad-request"),
    (b'GET {"name": "a", "name": "a"}\n', "bad-request"),
    (b'GET {"name": "a", "offset": NaN}\n', "bad-request"),
    (b'GET {"name": "a", "offset": true}\n', "bad-request"),
    (b'GET {"name": ' + b"[" * 8000 + b"\n", "bad-request"),
    (b'GET {"name": "a", "offset": 9223372036854775808}\n', "bad-range"),
    (b'GET {"name": "a", "offset": -1}\n', "bad-range"),
    (b'GET {"name": "a", "offset": 11}\n', "bad-range"),
    (b'GET {"name": "a", "etag": "another"}\n', "changed"),
    (b"GET ../secret.txt\n", "bad-name"),
    (b"GET /etc/passwd\n", "bad-name"),
    (b"GET \n", "bad-name"),
    (b'GET {"name": "nul\\u0000"}\n', "bad-name"),
    (b'GET {"name": "\\ud800"}\n', "bad-name"),
    (b"GET nul\0\n", "bad-name"),
    (b"GET .hidden\n", "bad-name"),
    (b"GET a\r\r\n", "bad-name"),
    (b"GET missing\n", "not-found"),
    (b"GET folder\n", "not-a-file"),
    (b"STAT missing\n", "not-found"),
    (b"STAT folder\n", "not-a-file"),
    (b"STAT ../secret.txt\n", "bad-name"),
    (b"STAT\n", "bad-request"),
    (b'STAT {"name": "a", "upload": "3f9c"}\n', "bad-request"),
    (b'STAT {"upload": ""}\n', "not-found"),
    (b'STAT {"upload": "3f9c"}\n', "not-found"),
    (b'STAT {"upload": "../a"}\n', "not-found"),
    (b"DELETE missing\n", "not-found"),
    (b"DELETE folder\n", "not-a-file"),
    (b"DELETE ../secret.txt\n", "bad-name"),
    (b'DELETE {"upload": ""}\n', "not-found"),
    (b'DELETE {"upload": "3f9c"}\n', "not-found"),
    (b'DELETE {"upload": "../a"}\n', "not-found"),
    (b"PUT a\n", "bad-request"),
    (b'PUT {"name": "a", "size": 1}\n', "exists"),
    (b'PUT {"name": "folder", "size": 1, "exists": "replace"}\n', "not-a-file"),
    (b'PUT {"name": "a/b", "size": 1}\n', "not-a-file"),
    (b'PUT {"name": "../b", "size": 1}\n', "bad-name"),
    (b'PUT {"name": "con.txt", "size": 1}\n', "bad-name"),
    (b'PUT {"name": "b", "size": 9223372036854775807}\n', "no-space"),
    (b'PUT {"name": "b", "size": 1, "upload": "", "offset": 0}\n', "not-found"),
    (b'PUT {"name": "b", "size": 1, "upload": "3f9c", "offset": 0}\n', "not-found"),
    (b'PUT {"name": "b", "size": 1, "upload": "../a", "offset": 0}\n', "not-found"),
    (b'PUT {"name": "b", "size": 2, "offset": 1}\n', "offset"),
    (b'LIST {"limit": 10001}\n', "bad-range"),
    (b"CANCEL 99\n", "not-running"),
    (b"CANCEL x\n", "bad-request"),
    (b"RECEIPT 99\n", "not-running"),
    (b"AUTH wrong\n", "denied"),
    (b'GET {"name": "a", "via": "web"}\n', "denied"),
    (b'GET {"name": "a", "client": "1.2.3.4:5"}\n', "denied"),
    (b'DELETE {"name": "a", "user": "ann"}\n', "denied"),
    (b"WATCH me\n", "bad-request"),
]


@pytest.mark.parametrize(("line", "code"), REFUSED)
def test_a_refusal_has_its_code_and_leaves_the_connection_usable_but_for_bytes_on_their_way(
    peer: Peer, folder: Path, line: bytes, code: str
) -> None:
    (folder / "a").write_bytes(b"0123456789")
    (folder / "folder").mkdir()
    (folder / ".hidden").write_bytes(b"")
    refusal = peer.refusal(line)
    assert refusal["code"] == code
    assert refusal["message"].endswith(".")
    assert str(folder.parent) not in refusal["message"]
    if line.startswith(b"PUT"):
        assert peer.rest() == b""
    else:
        assert peer.is_usable()
    assert sorted(os.listdir(folder)) == [".hidden", "a", "folder"]


@pytest.mark.parametrize(
    "line", [b"FETCH a\n", b"\x00\x01\x02\xff\n", b"PAUSE 1\n", b"RESUME 1\n", b'PACE {"id":1}\n']
)
def test_an_unknown_verb_ends_the_conversation(running: Running, folder: Path, line: bytes) -> None:
    (folder / "x").write_bytes(b"")
    answer = running.talk(line + b"DELETE x\n")
    assert b'"unknown-verb"' in answer
    assert answer.count(b"\n") == 1
    assert (folder / "x").exists()


FOREIGN = [
    b"DELETE x HTTP/1.1\r\n\r\nDELETE x\n",
    b"PING HTTP/1.1\nDELETE x\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\nDELETE x\n",
    b"SSH-2.0-OpenSSH_9.6\r\nDELETE x\n",
    b"SSH-2.0 /x\r\nDELETE x\n",
]
HTTP = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nDELETE x\n",
    b"POST / HTTP/1.0\r\n\r\nDELETE x\r\n",
]


@pytest.mark.parametrize(
    ("before", "data"), [(b"", data) for data in FOREIGN] + [(b"PING\n", data) for data in FOREIGN + HTTP]
)
def test_another_protocol_is_cut_at_its_first_line_and_nothing_behind_it_is_done(
    running: Running, folder: Path, before: bytes, data: bytes
) -> None:
    (folder / "x").write_bytes(b"")
    answer = running.talk(before + data)
    assert answer.count(b"\n") == 1 + len(before.split())
    assert answer.splitlines()[-1].startswith(b"ERR ")
    assert (folder / "x").exists()
    assert running.events.of(FileDeleted) == []


LINES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([verb.encode() for verb in VERBS if verb != "WATCH"]),
    st.builds(
        b"%b %b".__mod__, st.tuples(st.sampled_from([v.encode() for v in VERBS]), st.binary(max_size=30))
    ),
    st.sampled_from([b'PUT {"name": "n", "size": 3, "exists": "rename"}', b"GET a", b"DELETE n", b"LIST"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(LINES, max_size=8))
def test_whatever_is_sent_is_answered_and_the_server_goes_on(running: Running, lines: list[bytes]) -> None:
    (running.storage.root / "a").write_bytes(b"a")
    with running.peer() as peer:
        peer.send(b"\n".join(lines) + b"\n")
        peer.sock.shutdown(socket.SHUT_WR)
        assert b'"internal"' not in peer.rest()
    assert running.talk(b"PING\n").startswith(b"OK")


# --- verbs


def test_ping_tells_how_busy_the_server_is(folder: Path) -> None:
    with run_server(folder, limits=Limits(max_clients=9)) as running, running.peer() as peer, running.peer():
        answer = wait_until(lambda: found if (found := peer.ask("PING"))["clients"] == 2 else None)
        assert answer.pop("uptime") >= 0
        assert answer.pop("folder_error") is None
        assert answer == {"protocol": "CFS/1", "clients": 2, "max_clients": 9, "transfers": 0}


def test_help_has_one_line_for_each_verb(peer: Peer) -> None:
    verbs = peer.ask("HELP")["verbs"]
    assert set(verbs) == set(VERBS)
    assert all(text and "\n" not in text for text in verbs.values())


def test_every_verb_of_the_table_has_its_method_and_asks_for_its_rights(running: Running) -> None:
    with running.peer() as peer:
        peer.ask("PING")
        session = running.server._current()[0].session
        assert set(session._methods) == set(ASKS) == set(VERBS)


def test_list_gives_names_sizes_and_times_in_order_and_by_pages(peer: Peer, folder: Path) -> None:
    for name in ("b", "a/x", "é", "a b"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"12345")
        os.utime(folder / name, (1, 1763800000.25))
    assert peer.ask("LIST") == {"count": 4, "more": False}
    rows = [peer.json() for _ in range(4)]
    assert [row["name"] for row in rows] == ["a b", "a/x", "b", "é"]
    assert rows[0] == {"name": "a b", "size": 5, "mtime": 1763800000.25}
    assert peer.ask("LIST", limit=2) == {"count": 2, "more": True}
    assert [peer.json()["name"] for _ in range(2)] == ["a b", "a/x"]
    assert peer.ask("LIST", after="a/x", limit=2) == {"count": 2, "more": False}
    assert [peer.json()["name"] for _ in range(2)] == ["b", "é"]
    peer.send(b"LIST a/\n")
    assert peer.ok()["count"] == 1
    assert peer.json()["name"] == "a/x"
    assert peer.is_usable()


def test_stat_gives_the_state_of_a_file(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(b"12345")
    os.utime(folder / "a", (1, 1763800000.25))
    state = peer.ask("STAT", name="a")
    etag = state.pop("etag")
    assert state == {"name": "a", "size": 5, "mtime": 1763800000.25, "sha256": None}
    assert peer.ask("GET", name="a", etag=etag)["etag"] == etag


def test_stat_tells_a_file_and_a_folder_from_whatever_takes_their_place(peer: Peer, folder: Path) -> None:
    (folder / "week 1").mkdir()
    (folder / "week 1" / "a").write_bytes(b"12345")
    found = peer.ask("STAT", name="week 1/", identity=True)
    assert found == {"name": "week 1/", "identity": found["identity"]}
    file = peer.ask("STAT", name="week 1/a", identity=True)
    assert file["size"] == 5
    (folder / "week 1").rename(folder / "away")
    (folder / "week 1").mkdir()
    (folder / "week 1" / "a").write_bytes(b"12345")
    assert peer.ask("STAT", name="week 1/", identity=True)["identity"] != found["identity"]
    assert peer.ask("STAT", name="week 1/a", identity=True)["identity"] != file["identity"]
    assert peer.ask("STAT", name="away/", identity=True)["identity"] == found["identity"]
    assert peer.ask("STAT", name="", identity=True)["name"] == ""
    assert peer.refusal(request("STAT", name="gone/", identity=True))["code"] == "not-found"
    assert peer.refusal(b"STAT week 1/\n")["code"] == "bad-name"


def test_mkdir_makes_a_folder_that_stays(peer: Peer, folder: Path) -> None:
    made = peer.ask("MKDIR", name="class 7/week 1")
    assert made["name"] == "class 7/week 1/"
    assert made == peer.ask("STAT", name="class 7/week 1/", identity=True)
    assert (folder / "class 7" / "week 1").is_dir()
    assert peer.ask("LIST") == {"count": 0, "more": False}
    (folder / "a").write_bytes(b"x")
    assert peer.refusal(b"MKDIR a\n")["code"] == "not-a-file"
    assert peer.refusal(b"MKDIR ../a\n")["code"] == "bad-name"


def test_an_offset_at_the_end_gives_no_bytes_and_an_end(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(b"12345")
    header = peer.ask("GET", name="a", offset=5)
    assert (header["offset"], header["length"], header["size"]) == (5, 0, 5)
    assert peer.end() == {"id": header["id"], "sent": 0}


def test_a_length_beyond_the_end_is_a_length_to_the_end(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(b"12345")
    assert peer.ask("GET", name="a", offset=2, length=100)["length"] == 3
    assert peer.read(3) == b"345"
    assert peer.end()["sent"] == 3


@pytest.mark.parametrize("use_dir_fd", [True, False])
@pytest.mark.parametrize("verb", ["GET", "STAT", "DELETE"])
@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "/etc/passwd",
        "link",
        "folder-link/secret.txt",
        "dangling",
        "pipe",
        ".hidden",
        "a/../../secret.txt",
    ],
)
def test_no_name_reaches_outside(folder: Path, verb: str, name: str, use_dir_fd: bool) -> None:
    (folder / "link").symlink_to("../secret.txt")
    (folder / "folder-link").symlink_to("..")
    (folder / "dangling").symlink_to("nowhere")
    (folder / ".hidden").write_text("hidden")
    os.mkfifo(folder / "pipe")
    with run_server(folder, use_dir_fd=use_dir_fd) as running:
        answer = running.talk(request(verb, name=name))
        assert json.loads(answer.removeprefix(b"ERR "))["code"] in ("bad-name", "not-found", "not-a-file")
    assert (folder.parent / "secret.txt").read_text() == "outside"
    assert sorted(os.listdir(folder)) == [".hidden", "dangling", "folder-link", "link", "pipe"]


@pytest.mark.parametrize("use_dir_fd", [True, False])
@pytest.mark.parametrize("exists", ["fail", "replace", "rename"])
@pytest.mark.parametrize(
    "name", ["../new", "/tmp/new", "folder-link/new", "folder-link/secret.txt", ".new", "a\\b"]
)
def test_no_upload_reaches_outside(folder: Path, name: str, exists: str, use_dir_fd: bool) -> None:
    (folder / "folder-link").symlink_to("..")
    with run_server(folder, use_dir_fd=use_dir_fd) as running, running.peer() as peer:
        refusal = peer.refusal(request("PUT", name=name, size=3, exists=exists))
        assert refusal["code"] in ("bad-name", "not-a-file")
    assert sorted(os.listdir(folder.parent)) == ["secret.txt", "served"]
    assert (folder.parent / "secret.txt").read_text() == "outside"


def test_an_upload_is_published_at_once_and_announced(peer: Peer, running: Running, folder: Path) -> None:
    peer.ask("PUT", name="w/a", size=3)
    peer.send(b"abc")
    end = peer.end()
    assert end == {"id": 1, "name": "w/a", "size": 3, "sha256": sha256(b"abc"), "replaced": False}
    state = peer.ask("STAT", name="w/a")
    assert state["sha256"] == sha256(b"abc")
    published = running.events.of(FilePublished)[0]
    assert (published.name, published.size, published.etag) == ("w/a", 3, state["etag"])
    assert (published.sha256, published.mtime, published.user) == (sha256(b"abc"), state["mtime"], None)


def test_an_upload_with_rename_tells_the_name_that_it_took(peer: Peer, folder: Path) -> None:
    (folder / "big.iso").write_bytes(b"old")
    peer.ask("PUT", name="big.iso", size=3, exists="rename")
    peer.send(b"new")
    end = peer.end()
    assert (end["name"], end["replaced"]) == ("big (1).iso", False)
    assert (folder / "big.iso").read_bytes() == b"old"
    assert (folder / "big (1).iso").read_bytes() == b"new"


def test_an_upload_with_replace_takes_the_place_of_the_old_one(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(b"old")
    peer.ask("PUT", name="a", size=5, exists="replace")
    peer.send(b"newer")
    end = peer.end()
    assert (end["name"], end["replaced"]) == ("a", True)
    assert (folder / "a").read_bytes() == b"newer"


def test_an_empty_file_is_uploaded_without_a_byte(peer: Peer, folder: Path) -> None:
    peer.ask("PUT", name="a", size=0)
    assert peer.end()["sha256"] == sha256(b"")
    assert (folder / "a").read_bytes() == b""


def test_bytes_may_be_sent_without_waiting_and_the_next_request_behind_them(
    running: Running, folder: Path
) -> None:
    answer = running.talk(request("PUT", name="a", size=9) + b"DELETE x\nPING\n")
    assert [line.split(b" ")[0] for line in answer.splitlines()] == [b"OK", b"END", b"OK"]
    assert (folder / "a").read_bytes() == b"DELETE x\n"


REFUSED_PUTS = [
    request("PUT", name="a", size=9),
    request("PUT", name="../a", size=9),
    request("PUT", name="b", size=9, colour="red"),
    request("PUT", name="b", size=9, via="web"),
    request("PUT", name="b", size="9"),
    b'put {"name": "b", "size": 9\n',
    b"PUT b\n",
]


@pytest.mark.parametrize("line", REFUSED_PUTS)
def test_bytes_behind_a_refused_upload_are_never_taken_for_a_request(
    running: Running, folder: Path, line: bytes
) -> None:
    (folder / "a").write_bytes(b"")
    (folder / "x").write_bytes(b"")
    answer = running.talk(line + b"DELETE x\n")
    assert answer.startswith(b"ERR ")
    assert answer.count(b"\n") == 1
    assert (folder / "x").exists()


def test_a_file_above_the_limit_is_too_large(folder: Path) -> None:
    with run_server(folder, limits=Limits(max_upload_size=10)) as running, running.peer() as peer:
        assert peer.refusal(request("PUT", name="a", size=11, length=0))["code"] == "too-large"
        peer.ask("PUT", name="a", size=10)
        peer.send(b"0123456789")
        assert peer.end()["size"] == 10


def test_no_room_is_told_before_the_first_byte(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(100, 95, 5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refusal = peer.refusal(request("PUT", name="a", size=6, length=0))
    assert refusal["code"] == "no-space"
    assert peer.is_usable()


def test_delete_takes_the_file_away_and_tells_it(peer: Peer, running: Running, folder: Path) -> None:
    (folder / "w").mkdir()
    (folder / "w" / "a b").write_bytes(b"")
    peer.send(b"DELETE w/a b\n")
    assert peer.ok() == {"name": "w/a b"}
    assert os.listdir(folder) == []
    deleted = running.events.of(FileDeleted)
    assert [(event.name, event.user) for event in deleted] == [("w/a b", None)]
    assert deleted[0].client.startswith("127.0.0.1:")
    assert peer.refusal(b"DELETE w/a b\n")["code"] == "not-found"


@pytest.mark.parametrize(
    ("given", "verified"),
    [(sha256(b"content"), True), (sha256(b"content").upper(), True), ("0" * 64, False), (None, None)],
)
def test_a_receipt_is_compared_with_what_was_sent(
    peer: Peer, running: Running, folder: Path, given: str | None, verified: bool | None
) -> None:
    (folder / "a").write_bytes(b"content")
    header = peer.ask("GET", name="a")
    peer.read(7)
    peer.end()
    assert running.events.ending(header["id"]).outcome == "complete"
    assert peer.ask("RECEIPT", id=header["id"], sha256=given) == {"verified": verified}
    told = [(event.id, event.name, event.verified) for event in running.events.of(TransferVerified)]
    assert told == ([] if verified is None else [(header["id"], "a", verified)])
    hashed = [(event.name, event.sha256) for event in running.events.of(FileHashed)]
    assert hashed == ([] if given is None else [("a", sha256(b"content"))])
    if given:
        assert peer.ask("STAT", name="a")["sha256"] == sha256(b"content")


def test_a_receipt_for_a_state_that_is_gone_is_neither_right_nor_wrong(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(b"content")
    ids = []
    for _ in range(2):
        ids.append(peer.ask("GET", name="a")["id"])
        peer.read(7)
        peer.end()
    (folder / "a").write_bytes(b"other content")
    assert peer.ask("RECEIPT", id=ids[0], sha256=sha256(b"content")) == {"verified": None}
    os.unlink(folder / "a")
    assert peer.ask("RECEIPT", id=ids[1], sha256=sha256(b"content")) == {"verified": None}


def test_a_receipt_is_for_ones_own_transfers_only(peer: Peer, running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"content")
    header = peer.ask("GET", name="a")
    peer.read(7)
    peer.end()
    with running.peer() as other:
        assert other.refusal(request("RECEIPT", id=header["id"]))["code"] == "not-running"


def test_a_finished_transfer_cannot_be_cancelled(peer: Peer, running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"content")
    header = peer.ask("GET", name="a")
    peer.read(7)
    peer.end()
    running.events.ending(header["id"])
    assert peer.refusal(request("CANCEL", id=header["id"]))["code"] == "not-running"


def test_quit_says_ok_and_closes(peer: Peer) -> None:
    peer.send(b"QUIT\nPING\n")
    assert peer.ok() == {}
    assert peer.rest() == b""


# --- rights


ACCESS = accounts(
    {
        None: (Principal("guest"), {"read"}),
        "ann": (Principal("user", "ann"), {"read", "write"}),
        "site": (Principal("relay"), ALL),
    }
)


NEEDS = [
    ("LIST\n", "read"),
    ("STAT a\n", "read"),
    ("GET a\n", "read"),
    ("RECEIPT 1\n", "read"),
    ('PUT {"name": "b", "size": 0}\n', "write"),
    ("DELETE a\n", "delete"),
    ("CANCEL 1\n", "control"),
]


@pytest.mark.parametrize(("line", "right"), NEEDS)
def test_a_verb_needs_its_right(folder: Path, line: str, right: str) -> None:
    (folder / "a").write_bytes(b"")

    rest = ALL - {right}
    access = accounts({None: (Principal("guest"), rest), "ann": (Principal("user", "ann"), rest)})
    with run_server(folder, access=access) as running, running.peer() as peer:
        refusal = peer.refusal(line.encode())
        assert refusal["code"] == "auth-required"
        assert right in refusal["message"]
        assert peer.ask("AUTH", token="ann") == {
            "user": "ann",
            "can": [word for word in ("read", "write", "delete", "watch", "control") if word != right],
        }
        assert peer.refusal(line.encode())["code"] == "denied"
        assert peer.is_usable()
        assert os.listdir(folder) == ["a"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_right_is_asked_about_the_same_name_in_either_form(folder: Path, form: str) -> None:
    """As the file is found in either: a rule about one form must not be passed by with the other."""
    kept, asked = unicodedata.normalize("NFC", "caf\u00e9"), unicodedata.normalize(form, "caf\u00e9")
    (folder / kept).write_bytes(b"x")
    access = Access(may=lambda principal, right, name: name != kept)
    with run_server(folder, access=access) as running, running.peer() as peer:
        put = {"size": 0, "exists": "replace"}
        for verb, fields in (("GET", {}), ("STAT", {}), ("DELETE", {}), ("PUT", put)):
            assert peer.refusal(request(verb, name=asked, **fields))["code"] == "auth-required"
    assert (folder / kept).read_bytes() == b"x"


def test_a_list_has_the_names_alone_that_one_may_list(folder: Path) -> None:
    for name in ("a", "b/c", "b/d", "e"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    access = Access(may=lambda principal, right, name: name.startswith("b/"))
    with run_server(folder, access=access) as running, running.peer() as peer:
        for given, names, more in (({}, ["b/c", "b/d"], False), ({"limit": 1}, ["b/c"], True)):
            reply = peer.ask("LIST", **given)
            assert (reply["count"], reply["more"]) == (len(names), more)
            assert [peer.json()["name"] for _ in names] == names
        assert peer.ask("LIST", after="b/d", prefix="b/")["count"] == 0
        for prefix in ("", "e", "x"):
            assert peer.refusal(request("LIST", prefix=prefix, after="b/d"))["code"] == "auth-required"


def test_somebody_without_any_right_is_refused_a_list_before_the_folder_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def may_somewhere(principal: Principal, right: Right, name: str) -> bool:
        asked.append((right, name))
        return False

    monkeypatch.setattr(Storage, "entries", None)
    with run_server(folder, access=Access(may_somewhere=may_somewhere)) as running, running.peer() as peer:
        assert peer.refusal(request("LIST", prefix="cafe\u0301/"))["code"] == "auth-required"
    assert asked == [("list", "caf\u00e9/")]


def only_own(principal: Principal, right: Right, name: str) -> bool:
    return principal.is_relay or right not in ("watch", "control")


PEOPLE = {
    None: Principal(),
    "ann": Principal("user", "ann", key=1),
    "ann's token": Principal("token", "ann", key=7),
    "bob": Principal("user", "bob", key=2),
    "site": Principal("relay"),
}
OWN = Access(lambda token, address: PEOPLE.get(token), only_own)


@pytest.mark.usefixtures("quick_ticks")
@pytest.mark.parametrize(
    ("viewer", "seen"), [(None, {"guest"}), ("ann", {"ann"}), ("ann's token", {"ann"}), ("bob", set())]
)
def test_who_may_not_watch_others_sees_and_stops_what_is_their_own(
    folder: Path, viewer: str | None, seen: set[str]
) -> None:
    for name in ("guest", "ann", "site"):
        (folder / name).write_bytes(bytes(20_000_000))
    with run_server(folder, access=OWN) as running, contextlib.ExitStack() as stack:
        ids = {}
        for name, token in (("guest", None), ("ann", "ann"), ("site", "site")):
            peer = stack.enter_context(running.peer())
            if token:
                peer.ask("AUTH", token=token)
            named = {"client": "192.0.2.9:1", "via": "web"} if token == "site" else {}
            ids[name] = peer.ask("GET", name=name, **named)["id"]
        watcher, other = stack.enter_context(running.peer()), stack.enter_context(running.peer())
        if viewer:
            for one in (watcher, other):
                one.ask("AUTH", token=viewer)
        watcher.ask("WATCH")
        assert {row["name"] for row in watcher.json()["transfers"]} == seen
        for name in set(ids) - seen:
            code = "denied" if viewer else "auth-required"
            assert other.refusal(request("CANCEL", id=ids[name]))["code"] == code
        for name in seen:
            assert other.ask("CANCEL", id=ids[name])["state"] == "cancelled"
            assert running.events.ending(ids[name]).outcome == "cancelled"


def test_a_relay_stops_for_somebody_what_is_theirs(folder: Path) -> None:
    (folder / "a").write_bytes(bytes(20_000_000))
    ann = {"client": "192.0.2.9:1", "via": "web", "user": "ann", "principal": "user:1"}
    with run_server(folder, access=OWN) as running, running.peer() as peer, running.peer() as other:
        for one in (peer, other):
            one.ask("AUTH", token="site")
        number = peer.ask("GET", name="a", **ann)["id"]
        assert running.events.of(TransferStarted)[0].principal == "user:1"
        bob = {**ann, "user": "bob", "principal": "user:2"}
        assert other.refusal(request("CANCEL", id=number, **bob))["code"] == "denied"
        assert other.refusal(request("CANCEL", id=number, client="192.0.2.9:1"))["code"] == "auth-required"
        other.ask("CANCEL", id=number, **ann)
        assert running.events.ending(number).outcome == "cancelled"


# --- rights that are taken back


class Revocable:
    """A policy that can be changed while the server runs."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.unknown: set[str] = set()

    def access(self) -> Access:
        return Access(
            lambda token, address: PEOPLE.get(token),
            lambda principal, right, name: right not in self.denied,
            is_known=lambda principal: principal.user not in self.unknown,
        )


def test_a_download_that_may_not_be_had_any_more_breaks(folder: Path) -> None:
    (folder / "a").write_bytes(bytes(50_000_000))
    policy = Revocable()
    with run_server(folder, access=policy.access()) as running, running.peer(receive_buffer=4096) as peer:
        number = peer.ask("GET", name="a")["id"]
        policy.denied = {"delete"}
        running.server.recheck()
        policy.denied = {"get"}
        running.server.recheck()
        end = running.events.ending(number)
    assert (end.outcome, end.error) == ("aborted", "revoked")
    assert end.done < 50_000_000


@pytest.mark.parametrize("is_waiting", [False, True])
@pytest.mark.parametrize(("exists", "right"), [("fail", "add"), ("replace", "add"), ("replace", "replace")])
def test_an_upload_that_may_not_be_made_any_more_ends(
    folder: Path, is_waiting: bool, exists: str, right: str
) -> None:
    (folder / "a").write_bytes(b"old")
    policy = Revocable()
    name = "a" if exists == "replace" else "b"
    with run_server(folder, access=policy.access()) as running, running.peer() as peer:
        part = {"length": 5} if is_waiting else {}
        number = peer.ask("PUT", name=name, size=10, exists=exists, **part)["id"]
        peer.send(b"hello")
        if is_waiting:
            assert peer.end()["offset"] == 5
        policy.denied = {right}
        running.server.recheck()
        end = running.events.ending(number)
    assert (end.outcome, end.error) == ("aborted", "revoked")
    assert not (folder / "b").exists()
    assert (folder / "a").read_bytes() == b"old"


def test_who_is_not_known_any_more_is_sent_away_and_nobody_else(folder: Path) -> None:
    policy = Revocable()
    with run_server(folder, access=policy.access()) as running, contextlib.ExitStack() as stack:
        ann, bob, guest, site = (stack.enter_context(running.peer()) for _ in range(4))
        for peer, token in ((ann, "ann"), (bob, "bob"), (site, "site")):
            peer.ask("AUTH", token=token)
        guest.ask("PING")
        policy.unknown = {"ann"}
        running.server.recheck()
        assert ann.rest() == b""
        for peer in (bob, guest, site):
            peer.ask("PING")


def test_auth_changes_who_one_is_and_a_wrong_token_does_not(folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    with run_server(folder, access=ACCESS) as running, running.peer() as peer:
        assert peer.refusal(b'PUT {"name": "b", "size": 0}\n')["code"] == "auth-required"
        peer.send(b"AUTH ann\n")
        assert peer.ok() == {"user": "ann", "can": ["read", "write"]}
        assert peer.refusal(b"AUTH nobody\n")["code"] == "denied"
        peer.ask("PUT", name="b", size=0)
        peer.end()
        assert running.events.of(TransferStarted)[0].user == "ann"
        assert running.events.of(FilePublished)[0].user == "ann"
        assert peer.refusal(b'GET {"name": "a", "via": "web"}\n')["code"] == "denied"


def test_the_relay_speaks_for_others_in_every_verb_that_moves(folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    with run_server(folder, access=ACCESS) as running, running.peer() as peer:
        assert peer.ask("AUTH", token="site")["user"] is None
        peer.ask("PUT", name="b", size=0, via="web", user="bob", client="10.0.0.7:1")
        peer.end()
        started = running.events.of(TransferStarted)[0]
        assert (started.via, started.user, started.client) == ("web", "bob", "10.0.0.7:1")
        assert running.events.ending(1).outcome == "complete"
        peer.ask("DELETE", name="b", via="web", user="bob", client="10.0.0.7:1")
        deleted = running.events.of(FileDeleted)[0]
        assert (deleted.user, deleted.client) == ("bob", "10.0.0.7:1")


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("10.0.0.7:1", "10.0.0.7"),
        ("10.0.0.7", "10.0.0.7"),
        ("[2001:db8::7]:1", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("localhost.example", "localhost.example"),
        ("unknown", "unknown"),
        ("", ""),
        (":1", ""),
    ],
)
def test_whom_a_relay_names_is_never_taken_for_the_relay(folder: Path, client: str, address: str) -> None:
    asked: list[str] = []

    def may(principal: Principal, right: Right, name: str) -> bool:
        if not principal.is_relay:
            asked.append(principal.address)
        return principal.is_relay

    access = Access(lambda token, address: Principal("relay", address=address), may)
    with run_server(folder, access=access) as running, running.peer() as peer:
        assert peer.refusal(request("DELETE", name="a", client=client))["code"] == "auth-required"
    assert asked == [address]


def test_a_relay_may_do_no_more_than_the_one_it_speaks_for(folder: Path) -> None:
    (folder / "a").write_bytes(b"x")

    def may(principal: Principal, right: Right, name: str) -> bool:
        return principal.user != "bob" and principal.address != "10.0.0.7"

    access = Access(lambda token, address: Principal("relay"), may)
    with run_server(folder, access=access) as running, running.peer() as peer:
        for somebody, code in (({"user": "bob"}, "denied"), ({"client": "10.0.0.7:1"}, "auth-required")):
            for verb, fields in (("GET", {}), ("PUT", {"size": 0}), ("DELETE", {})):
                refusal = peer.refusal(request(verb, name="a", via="web", **fields, **somebody))
                assert refusal["code"] == code
        peer.ask("GET", name="a", via="web", user="ann", client="10.0.0.8:1")
        assert peer.read(1) == b"x"
    assert os.listdir(folder) == ["a"]


def test_without_a_grant_there_is_nothing_but_ping_help_auth_and_quit(folder: Path) -> None:
    with run_server(folder, access=accounts({})) as running:
        answer = running.talk(b"PING\nHELP\nAUTH x\nLIST\nQUIT\n")
    words = [line.split(b" ")[0] for line in answer.splitlines()]
    assert words == [b"OK", b"OK", b"ERR", b"ERR", b"OK"]


def test_a_mistake_of_the_servers_own_is_internal_and_names_no_path(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def authenticate(token: str | None, address: str) -> Principal | None:
        raise RuntimeError(f"cannot reach {folder}")

    with run_server(folder, access=Access(authenticate)) as running:
        for line in (b"LIST\n", b"AUTH x\n"):
            answer = running.talk(line + b"PING\n")
            assert b'"internal"' in answer
            assert str(folder).encode() not in answer
            assert answer.count(b"\n") == 1
        assert running.talk(b"PING\n").startswith(b"OK")
    assert "cannot reach" in caplog.text


# --- timeouts


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        (Limits(first_silence=0.05), b""),
        (Limits(silence=0.05), b"PING\n"),
        (Limits(line=0.05), b"PIN"),
        (Limits(line=0.05), b"PING\nPIN"),
    ],
)
def test_silence_and_half_lines_are_a_timeout_and_the_end(folder: Path, limits: Limits, sent: bytes) -> None:
    with run_server(folder, limits=limits) as running, running.peer() as peer:
        peer.send(sent)
        if sent.startswith(b"PING"):
            peer.ok()
        assert peer.err()["code"] == "timeout"
        assert peer.rest() == b""


def test_between_two_requests_there_is_more_time_than_before_the_first(folder: Path) -> None:
    limits = Limits(first_silence=0.3, silence=30)
    with run_server(folder, limits=limits) as running, running.peer() as talker, running.peer() as silent:
        talker.ask("PING")
        assert silent.err()["code"] == "timeout"
        assert talker.is_usable()


# --- watching


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "TICK", 0.02)
    monkeypatch.setattr(watch_module, "HEARTBEAT", 0.2)
    monkeypatch.setattr(control_module, "CLOSED_INTERVAL", 0.05)


def line_with(peer: Peer, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    while not wanted(line := peer.json()):
        pass
    return line


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_sees_a_transfer_from_its_beginning_to_its_end(running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(bytes(20_000_000))
    with running.peer() as watcher, running.peer() as peer:
        assert watcher.ask("WATCH") == {}
        first = watcher.json()
        assert (first["type"], first["full"], first["transfers"], first["ended"]) == ("live", True, [], [])
        header = peer.ask("GET", name="a")
        row = line_with(watcher, lambda line: line["transfers"])["transfers"][0]
        assert (row["id"], row["name"], row["direction"], row["size"]) == (
            header["id"],
            "a",
            "download",
            20_000_000,
        )
        assert row["thread"].startswith("ClientThread-")
        with running.peer() as late:
            late.ask("WATCH")
            assert [row["id"] for row in late.json()["transfers"]] == [header["id"]]
        peer.read(10_000_000)
        row = line_with(
            watcher, lambda line: line["transfers"] and line["transfers"][0]["done"] >= 10_000_000
        )
        peer.close()
        line = line_with(watcher, lambda line: line["ended"])
        assert (line["ended"][0]["id"], line["ended"][0]["outcome"]) == (header["id"], "aborted")
        assert line["status"]["transfers"] == 0
        assert not line["full"]


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_sees_the_transfers_of_those_files_only_that_it_may_watch(folder: Path) -> None:
    def may(principal: Principal, right: Right, name: str) -> bool:
        return right != "watch" or not name.startswith("secret")

    for name in ("secret", "open"):
        (folder / name).write_bytes(bytes(20_000_000))
    access = Access(lambda token, address: Principal(user=token), may)
    with run_server(folder, access=access) as running, running.peer() as watcher:
        watcher.ask("AUTH", token="ann")
        watcher.ask("WATCH")
        with running.peer() as one, running.peer() as another:
            one.ask("GET", name="secret")
            another.ask("GET", name="open")
            line = line_with(watcher, lambda line: line["transfers"])
            assert [row["name"] for row in line["transfers"]] == ["open"]
            assert line["status"]["transfers"] == 2
        line = line_with(watcher, lambda line: line["status"]["transfers"] == 0)
        assert {row["name"] for row in line["ended"]} <= {"open"}


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_is_told_that_files_changed(running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    with running.peer() as watcher, running.peer() as peer:
        watcher.ask("WATCH")
        watcher.json()
        peer.ask("DELETE", name="a")
        line_with(watcher, lambda line: line["files_changed"])
        peer.ask("PUT", name="b", size=0)
        peer.end()
        line_with(watcher, lambda line: line["files_changed"])


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_hears_the_heart_beat(running: Running) -> None:
    with running.peer() as watcher:
        watcher.ask("WATCH")
        lines = [watcher.json() for _ in range(3)]
    assert [line["full"] for line in lines] == [True, False, False]
    gaps = [
        later["status"]["uptime"] - earlier["status"]["uptime"]
        for earlier, later in itertools.pairwise(lines)
    ]
    assert gaps[-1] >= 0.19


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_that_leaves_is_let_go(running: Running) -> None:
    with running.peer() as watcher:
        watcher.ask("WATCH")
        watcher.json()
        assert running.server.registry.ping()["clients"] == 1
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
    assert running.server.registry._watchers == set()


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_that_reads_slowly_gets_newer_lines_and_no_backlog(running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    with running.peer(receive_buffer=2048) as watcher, running.peer() as peer:
        watcher.ask("WATCH")
        watcher.json()
        count = 3000
        for _ in range(count):
            peer.send(b"GET a\n")
            peer.ok()
            peer.read(1)
            peer.end()
        last = line_with(watcher, lambda line: line["status"]["sent"] == count)
        assert len(last["ended"]) <= watch_module.MAX_ROWS


@pytest.mark.usefixtures("quick_ticks")
def test_what_a_watcher_says_is_thrown_away(running: Running, folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    with running.peer() as watcher:
        watcher.send(b"WATCH\nDELETE a\n")
        watcher.ok()
        for _ in range(3):
            watcher.send(b"DELETE a\nQUIT\n" + b"x" * 1000)
            assert watcher.json()["type"] == "live"
    assert (folder / "a").exists()


@pytest.mark.usefixtures("quick_ticks")
def test_a_watcher_that_sends_without_end_is_cut_off(running: Running) -> None:
    with running.peer() as watcher:
        watcher.ask("WATCH")

        def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    watcher.send(bytes(1 << 20))

        thread = threading.Thread(target=flood, name="Flood")
        thread.start()
        try:
            last = watcher.rest().splitlines()[-1]
        finally:
            watcher.sock.shutdown(socket.SHUT_RDWR)
            thread.join()
        assert parsed(last)[1]["code"] == "bad-request"
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)


# --- storage that disappears


def test_a_file_that_goes_between_two_requests_is_not_found(peer: Peer, folder: Path) -> None:
    (folder / "a").write_bytes(numbered_bytes(10))
    assert peer.ask("STAT", name="a")["size"] == 10
    os.unlink(folder / "a")
    assert peer.refusal(b"GET a\n")["code"] == "not-found"


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of POSIX")
def test_running_out_of_descriptors_is_unavailable_for_as_long_as_it_lasts(peer: Peer, folder: Path) -> None:
    """And never an empty folder, nor a file that is not found."""
    (folder / "sub").mkdir()
    (folder / "sub" / "a").write_bytes(b"x")
    peer.ask("PING")  # it is accepted
    with no_descriptor_left():
        for line in (b"LIST\n", b"LIST sub/\n", b"GET sub/a\n", b"STAT sub/a\n", b"DELETE sub/a\n"):
            refusal = peer.refusal(line)
            assert (refusal["code"], "oo many" in refusal["message"]) == ("unavailable", True), line
    assert peer.ask("STAT", name="sub/a")["size"] == 1
    assert peer.ask("LIST")["count"] == 1
