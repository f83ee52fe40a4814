"""A large file over TLS, from our file server's port and from nginx, both with one certificate and cipher."""

import contextlib
import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import peers
from benchmarks.load import PATIENCE, LoadFailed
from benchmarks.measure import MEBIBYTE, Contender, Run, random_file, take_turns
from benchmarks.result import Bench, Family, Result, Scenario, Target, bytes_table, ratio_to
from benchmarks.servers import Installation
from benchmarks.stand import OURS, SIZES

NAME = "big.bin"
CIPHER = "TLS_AES_256_GCM_SHA384"  # which both servers choose if they may
NGINX = peers.NGINX_PEER.name


@dataclass(frozen=True)
class Stand:
    bench: Bench
    ours: Installation
    nginx_port: int | None
    authority: Path

    def contenders(self) -> list[Contender]:
        mine = Contender(OURS, lambda: self.fetch(self.direct_link()))
        if self.nginx_port is None:
            return [mine]
        url = f"https://127.0.0.1:{self.nginx_port}/{NAME}"
        return [mine, Contender(NGINX, lambda: self.fetch(url))]

    def direct_link(self) -> str:
        """Where the site sends a browser for the file; asking for it is not counted."""
        command = ["-o", "/dev/null", "-w", "%{redirect_url}"]
        return self._curl(f"https://127.0.0.1:{self.ours.web_port}/files/{NAME}?direct=1", command)

    def fetch(self, url: str) -> Run:
        before = _cpu_of_children()
        told = json.loads(self._curl(url, ["-o", "/dev/null", "-w", "%{json}"]))
        size = self.bench.pick(*SIZES[NAME])
        if told["http_code"] != 200 or told["size_download"] != size:
            raise LoadFailed(
                f"{urlsplit(url).netloc}: {told['http_code']}, {told['size_download']} of {size}"
            )
        seconds = float(told["time_total"])
        return Run(seconds, size, 1, _cpu_of_children() - before, *(5 * [seconds]))

    def _curl(self, url: str, options: list[str]) -> str:
        command = ["curl", "-sS", "--cacert", str(self.authority), "-m", str(PATIENCE)]
        command += ["--tlsv1.3", "--tls13-ciphers", CIPHER, *options, url]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise LoadFailed(f"curl: {done.stderr.strip()}")
        return done.stdout


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def download(stand: Stand) -> Result:
    rounds = take_turns(stand.contenders(), stand.bench.rounds)
    return bytes_table(rounds, [Target("≥ 0.8 of nginx", ratio_to(rounds, NGINX), 0.8)])


@contextlib.contextmanager
def with_tls(bench: Bench) -> Iterator[Stand]:
    if shutil.which("curl") is None:
        raise LoadFailed("curl is not installed, which is the client here")
    certificate, key = bench.home / "tls-cert.pem", bench.home / "tls-key.pem"
    files = bench.home / "files"
    installation = Installation(bench.home, files, TLS_CERT=certificate, TLS_KEY=key)
    installation.migrate()
    installation.run("makecert")
    random_file(files / NAME, bench.pick(*SIZES[NAME]))
    with contextlib.ExitStack() as running:
        running.enter_context(installation.server())
        running.enter_context(installation.site())
        port = None
        if peers.is_here(peers.NGINX_PEER):
            port = running.enter_context(peers.nginx(bench.home, files, tls=(certificate, key)))
        yield Stand(bench, installation, port, bench.home / "tls-cert-authority.pem")


FAMILY = Family(
    with_tls,
    [
        Scenario(
            "tls-download",
            "1 GiB over TLS",
            "From the file server's port over HTTP with a ticket, and from nginx: the same certificate, "
            f"TLS 1.3 with `{CIPHER}`, a new connection each time. The client is `curl`, which throws the "
            f"{SIZES[NAME][0] // MEBIBYTE} MiB away.",
            download,
        )
    ],
)
