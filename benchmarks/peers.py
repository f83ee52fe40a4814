"""The servers that ours is measured beside, each on a free port, with the same files."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import run

from benchmarks.servers import free_port, process

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass(frozen=True)
class Peer:
    """``start(home, files)`` gives its port. ``home`` is for what it leaves behind."""

    name: str
    start: Callable[[Path, Path], AbstractContextManager[int]]
    packages: tuple[str, ...] = ()
    program: str | None = sys.executable

    @property
    def missing(self) -> list[str]:
        absent = [package for package in self.packages if not importlib.util.find_spec(package)]
        return absent if self.program else [self.name, *absent]

    @property
    def version(self) -> str:
        """Of what is installed."""
        return " ".join(f"{package} {version(package)}" for package in self.packages)


def is_here(peer: Peer) -> bool:
    """Says so if it is not."""
    if peer.missing:
        print(f"{peer.name} is left out: {', '.join(peer.missing)} not installed", file=sys.stderr)
    return not peer.missing


@contextlib.contextmanager
def nginx(home: Path, files: Path, tls: tuple[Path, Path] | None = None) -> Iterator[int]:
    """``tls``: a certificate and its key."""
    port = free_port()
    listen = _NGINX_TLS.format(*tls) if tls else "backlog=4096"
    folder = home / "nginx"
    folder.mkdir()
    (folder / "nginx.conf").write_text(
        _NGINX_CONFIGURATION.format(folder=folder, files=files, port=port, listen=listen, user=_USER)
    )
    command = [
        str(NGINX),
        "-p",
        str(folder),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(folder / "nginx.conf"),
    ]
    with process(command, port, folder):
        yield port


# As Debian ships it (sendfile, tcp_nopush), with nothing in its way: no log, no limit of requests, all cores.
_USER = "user root;" if os.name == "posix" and os.geteuid() == 0 else ""
_NGINX_TLS = "ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3"
_NGINX_CONFIGURATION = """
daemon off;
{user}
worker_processes auto;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 600;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port} {listen}; root {files}; }}
}}
"""


@contextlib.contextmanager
def http_server(home: Path, files: Path) -> Iterator[int]:
    """With HTTP/1.1, so that it can keep connections."""
    port = free_port()
    options = ["--bind", "127.0.0.1", "--directory", str(files), "--protocol", "HTTP/1.1"]
    with process([sys.executable, "-m", "http.server", *options, str(port)], port, home):
        yield port


@contextlib.contextmanager
def starlette(home: Path, files: Path) -> Iterator[int]:
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--log-level", "warning"]
    here = {"PYTHONPATH": str(Path(__file__).parent.parent), "BENCHMARK_FILES": str(files)}
    command = [sys.executable, "-m", "uvicorn", *options, "benchmarks.starlette_app:app"]
    with process(command, port, home, here):
        yield port


@contextlib.contextmanager
def copyparty(home: Path, files: Path, rights: str = "r") -> Iterator[int]:
    """Anybody has the ``rights``."""
    port = free_port()
    options = ["-i", "127.0.0.1", "-p", str(port), "-q", "--no-reload", "-j", "1", "-v", f"{files}::{rights}"]
    # It searches more ports than these for a folder of its own, and finds one of this run.
    where = {"XDG_CONFIG_HOME": str(home / "copyparty-config")}
    with process([sys.executable, "-m", "copyparty", *options], port, home, where):
        yield port


@contextlib.contextmanager
def uploadserver(home: Path, files: Path) -> Iterator[int]:
    port = free_port()
    options = ["--bind", "127.0.0.1", "-d", str(files), "--allow-replace"]
    with process([sys.executable, "-m", "uploadserver", *options, str(port)], port, home):
        yield port


@contextlib.contextmanager
def pyftpdlib(home: Path, files: Path) -> Iterator[int]:
    """Anonymous, and for reading only."""
    port = free_port()
    options = ["-i", "127.0.0.1", "-p", str(port), "-d", str(files)]
    with process([sys.executable, "-m", "pyftpdlib", *options], port, home):
        yield port


def nginx_version() -> str:
    if NGINX is None:
        return ""
    return run([NGINX, "-v"], capture_output=True, text=True).stderr.partition("version: ")[2].strip()


NGINX_PEER = Peer("nginx", nginx, program=NGINX)
HTTP_SERVER = Peer("http.server", http_server)
STARLETTE = Peer("uvicorn + Starlette", starlette, ("uvicorn", "starlette"))
COPYPARTY = Peer("copyparty", copyparty, ("copyparty",))
UPLOADSERVER = Peer("uploadserver", uploadserver, ("uploadserver",))
PYFTPDLIB = Peer("pyftpdlib", pyftpdlib, ("pyftpdlib",))

PEERS = [NGINX_PEER, HTTP_SERVER, STARLETTE, COPYPARTY, UPLOADSERVER, PYFTPDLIB]
PYTHON_HTTP = [HTTP_SERVER.name, STARLETTE.name, COPYPARTY.name]
