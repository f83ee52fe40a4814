"""The benchmarks run, at tiny sizes: everybody takes part and gets everything. Nothing is about speed."""

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load, peers, report, uploads
from benchmarks.__main__ import FAMILIES
from benchmarks.live import ages, waits
from benchmarks.measure import Contender, Rounds, Run, percentile, rate, ratio, take_turns
from benchmarks.result import Scenario, Target, bytes_table, ratio_to, ratio_to_best
from tests.servers import wait_until

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
MISSING = {peer.name for peer in peers.PEERS if peer.missing}  # as the tests begin

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the measuring client needs epoll")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def run_benchmarks(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


def measured(tmp_path: Path, *names: str) -> dict[str, Any]:
    return measured_beside(tmp_path, *names)[0]


def measured_beside(tmp_path: Path, *names: str) -> tuple[dict[str, Any], set[str]]:
    """The results, and whom the run says that it left out: a peer may be installed meanwhile."""
    done = run_benchmarks("--quick", "--json", str(tmp_path / "results.json"), *names)
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == list(names)
    said = [line.partition(" is left out: ") for line in done.stderr.splitlines()]
    left_out = {name for name, separator, _ in said if separator}
    assert left_out <= MISSING, "a peer that was here when the tests began was left out"
    return results, left_out


def runs_of(result: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    return {each["name"]: each["runs"] for each in result["rounds"]}


def assert_sane(result: dict[str, Any], size: int, requests: int) -> None:
    for name, runs in runs_of(result).items():
        assert len(runs) == 2, name
        for run in runs:
            assert run["bytes"] == size * requests, name
            assert run["requests"] == requests, name
            assert 0 < run["seconds"] < SECONDS, name
            assert 0 <= run["least"] <= run["median"] <= run["p95"] <= run["p99"] <= run["most"], name
            assert run["most"] <= run["seconds"], name


@needs_compiler
def test_downloads_are_measured_with_every_server_that_is_here(tmp_path: Path) -> None:
    results, left_out = measured_beside(tmp_path, "download", "relay", "small-new", "small-kept")
    web = (peers.NGINX_PEER, peers.HTTP_SERVER, peers.STARLETTE, peers.COPYPARTY)
    by_http = {peer.name for peer in web} - left_out
    by_any = by_http | ({peers.PYFTPDLIB.name} - left_out)
    assert set(runs_of(results["download"])) == {"this server"} | by_any
    assert set(runs_of(results["relay"])) == {"this server"} | by_http
    ours = {"this server", "textbook: a thread for each, no more"}
    assert set(runs_of(results["small-new"])) == ours | by_http
    assert set(runs_of(results["small-kept"])) == ours | by_http - {"http.server"}
    assert_sane(results["small-new"], 10 * 1024, 100)
    assert_sane(results["small-kept"], 10 * 1024, 100)
    for name in ("download", "relay"):
        for runs in runs_of(results[name]).values():
            assert {run["bytes"] for run in runs} == {4 << 20}
            assert all(run["seconds"] > 0 for run in runs)


@needs_compiler
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_downloads_over_tls_are_measured_beside_nginx(tmp_path: Path) -> None:
    results, left_out = measured_beside(tmp_path, "tls-download")
    runs = runs_of(results["tls-download"])
    assert set(runs) == {"this server"} | ({peers.NGINX_PEER.name} - left_out)
    assert {run["bytes"] for each in runs.values() for run in each} == {4 << 20}


@needs_compiler
def test_every_short_transfer_has_its_row_in_the_history(tmp_path: Path) -> None:
    result = measured(tmp_path, "history-kept")["history-kept"]
    assert set(runs_of(result)) == {"manage.py runfileserver", "without history, catalogue and log"}
    assert_sane(result, 10 * 1024, 200)
    assert result["targets"][0] == {
        "text": "every transfer has its row",
        "figure": 1.0,
        "bound": 1,
        "at_most": False,
    }


@needs_compiler
def test_uploads_arrive_whole_from_every_client(tmp_path: Path) -> None:
    results, left_out = measured_beside(tmp_path, "upload-http")
    result = results["upload-http"]
    others = {uploads.COPYPARTY: peers.COPYPARTY, uploads.UPLOADSERVER: peers.UPLOADSERVER}
    expected = {name for name, peer in others.items() if peer.name not in left_out}
    assert set(runs_of(result)) == {"page's path (tus)", "curl -T"} | expected
    assert {run["bytes"] for runs in runs_of(result).values() for run in runs} == {4 << 20}


@needs_compiler
def test_many_clients_are_held_and_paced(tmp_path: Path) -> None:
    results = measured(tmp_path, "idle", "slow-motion")
    assert results["idle"]["targets"][0]["figure"] == 1.0
    assert results["slow-motion"]["targets"][0]["figure"] >= 1


def test_a_name_that_does_not_exist_is_told_with_those_that_do() -> None:
    done = run_benchmarks("warp-speed")
    assert done.returncode == 2
    assert "there is no benchmark warp-speed; there are: download, crowd," in done.stderr


# --- the client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load.compiled(tmp_path_factory.mktemp("client"))


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """Servers of one client each: they read a request, send the bytes given, and close. Gives their ports."""
    threads: list[threading.Thread] = []

    def serve(reply: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=attend, args=(listener, reply))
        thread.start()
        threads.append(thread)
        return int(listener.getsockname()[1])

    def attend(listener: socket.socket, reply: bytes) -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(reply)

    yield serve
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@needs_compiler
@pytest.mark.parametrize(
    ("protocol", "reply", "size"),
    [
        ("cfs", b'OK {"id": 1, "length": 5}\nhelloEND {"id": 1}\n', 5),
        ("cfs", b'OK {"id": 1, "length": 0}\nEND {"id": 1}\n', 0),
        ("http", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 5),
        ("http", b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000), 100_000),
    ],
)
def test_the_client_takes_a_whole_reply(
    client: Path, answering: Callable[[bytes], int], protocol: str, reply: bytes, size: int
) -> None:
    done = load.run(client, protocol, answering(reply), "/x")
    assert (done.requests, done.bytes) == (1, size)
    assert 0 < done.least == done.most <= done.seconds


@needs_compiler
@pytest.mark.parametrize(
    ("protocol", "reply", "message"),
    [
        ("cfs", b'OK {"id": 1, "length": 5}\nhell', "with 1 bytes missing"),
        ("cfs", b'OK {"id": 1, "length": 5}\nhello', "ended early"),
        ("cfs", b'OK {"id": 1, "length": 5}\nhelloERR {"code": "changed"}\n', "in place of END"),
        ("cfs", b'ERR {"code": "busy", "message": "No room."}\n', "the reply is ERR"),
        ("cfs", b'OK {"id": 1, "length": 6}\nhello!END {}\n', "6 bytes promised, not 5"),
        ("cfs", b'OK {"id": 1}\nhelloEND {}\n', "no  length :  in the reply"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "with 1 bytes missing"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", "1 bytes behind the end"),
        ("http", b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", "the reply is HTTP/1.1 404"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\nhello", "no   Content-Length:  in the reply"),
        ("http", b"", "ended early"),
    ],
)
def test_the_client_fails_at_any_other_reply(
    client: Path, answering: Callable[[bytes], int], protocol: str, reply: bytes, message: str
) -> None:
    with pytest.raises(load.LoadFailed) as failed:
        load.run(client, protocol, answering(reply), "/x", length=5)
    assert message in str(failed.value)


# --- the figures


def test_contenders_take_turns_and_the_warm_up_is_not_counted() -> None:
    turns: list[str] = []

    def contender(name: str) -> Contender:
        return Contender(name, lambda: Run(1.0, 1), lambda: turns.append(name))

    rounds = take_turns([contender("a"), contender("b")], rounds=2)
    assert turns == ["b", "a", "a", "b", "b", "a"]
    assert [(each.name, len(each.runs)) for each in rounds] == [("a", 2), ("b", 2)]


def rounds_of(name: str, *seconds: float) -> Rounds:
    return Rounds(name, [Run(each, 1 << 20) for each in seconds])


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    ours, theirs = rounds_of("ours", 1, 10, 2), rounds_of("theirs", 2, 10, 2)
    assert ratio(ours, theirs) == 1
    assert ours.median(rate) == 0.5
    assert ratio_to([ours, theirs], "theirs") == 1
    assert ratio_to([ours, theirs], "somebody who is not here") is None
    best = [ours, rounds_of("slow", 4, 40, 8), rounds_of("fast", 0.5, 5, 1), rounds_of("slower", 8, 80, 16)]
    assert ratio_to_best(best, ["slow", "fast", "slower"]) == 0.5


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, part) for part in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.95) == 7


def test_a_target_is_met_at_its_bound_and_open_without_a_peer() -> None:
    assert Target("", 2, 2).is_met
    assert Target("", 2, 2, at_most=True).is_met
    assert not Target("", 1.9, 2).is_met
    assert not Target("", 2.1, 2, at_most=True).is_met
    assert not Target("", None, 2, at_most=True).is_met


def test_the_page_says_what_is_met_and_when_the_client_is_the_limit() -> None:
    busy = Rounds("theirs", [Run(1.0, 1 << 20, cpu=0.95)])
    targets = [Target("twice", 0.5, 2), Target("at all", 0.5, 0.1), Target("of nobody", None, 1)]
    result = bytes_table([rounds_of("ours", 2), busy], targets)
    text = report.section(Scenario("x", "A title", "What it is.", lambda stand: result), result)
    assert text.startswith("## A title\n\nWhat it is.\n")
    assert "| ours | 0 | 2.00 s | 1.00 |  |  |" in text
    assert "| theirs | 1 | 1.00 s | 1.00 | 95% | 0.50 |" in text
    assert "| twice | 0.5 | **not met** |" in text
    assert "| at all | 0.5 | met |" in text
    assert "| of nobody | nothing to compare with | open |" in text
    assert "With theirs the client was at work for 95% of the time" in text


def test_the_page_tells_of_the_machine_and_the_versions() -> None:
    text = report.page(["## One\n", "## Two\n"], 0.25)
    assert text.startswith("# How fast it is\n")
    assert text.endswith("## One\n\n## Two\n")
    assert f"{len(os.sched_getaffinity(0))} cores" in text
    assert f"Python {platform.python_version()} " in text
    assert "| load average before the run | 0.25;" in text


def test_news_are_as_old_as_the_bytes_that_they_tell_of() -> None:
    trace = {7: [(10.0, 1000), (10.2, 2000), (10.4, 3000)]}
    page = [(10.1, {7: 1000}), (10.35, {7: 2000}), (10.6, {7: 3000, 8: 5})]
    assert ages([page], trace) == pytest.approx([0.1, 0.15, 0.2])
    assert waits([page, page[:2]], trace, 10.0, 10.3) == pytest.approx([0.1, 0.15] * 2)
    assert waits([page[:1]], trace, 10.2, 10.3) == [float("inf")]


# --- what is said


def test_scenarios_have_names_of_their_own_and_judge_something() -> None:
    names = [scenario.name for family in FAMILIES for scenario in family.scenarios]
    assert len(names) == len(set(names)) == 17


def test_an_upload_is_sent_in_parts_of_the_size_that_the_page_has() -> None:
    script = (ROOT / "static" / "js" / "upload" / "tus.js").read_text("utf-8")
    assert "export const PART = 64 * 1024 * 1024;" in script
    assert uploads.PART == 64 * 1024 * 1024


@needs_compiler
def test_a_run_that_is_stopped_takes_its_servers_with_it() -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "slow-motion"]
    running = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    with running:
        assert running.stderr is not None
        wait_until(lambda: b"runfileserver" in children_of(running.pid), 60)
        running.terminate()
        assert running.stderr.read() == "measuring slow-motion …\nstopped\n".encode()
    assert running.returncode == 1
    with pytest.raises(ProcessLookupError):  # nobody is left in its group
        os.killpg(running.pid, 0)


def children_of(pid: int) -> bytes:
    """Their command lines."""
    found = b""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found += Path(f"/proc/{child}/cmdline").read_bytes()
    return found


def test_quick_figures_are_never_written_to_the_page(tmp_path: Path) -> None:
    done = run_benchmarks("--quick", "--write", "download")
    assert done.returncode == 2
    assert "--write and --quick do not go together" in done.stderr


def test_what_is_left_beside_a_flood_is_told_for_each() -> None:
    command = [sys.executable, "-m", "benchmarks.flood", "nobody", "LF"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    head, *rows = (line.split() for line in done.stdout.splitlines())
    assert head[:2] == ["flood", "GETs/s"]
    assert [row[0] for row in rows] == ["nobody", "LF"]
    assert all(int(row[1].replace(",", "")) > 0 for row in rows)
    assert [int(row[-1].replace(",", "")) > 1 for row in rows] == [
        False,
        True,
    ]  # it is cut off, and comes back
