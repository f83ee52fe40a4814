"""Who may import whom. Dependencies point down only; this table is the design, and the files must agree.

Imports are read from the source, so those inside functions and under ``TYPE_CHECKING`` count too.
"""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fileserver

ROOT = Path(__file__).resolve().parent.parent

# The project's packages, the upper first: each may import itself and those below it.
PACKAGES = ["cfsite", "files_app", "fileserver"]

# Inside a package, its rooms (folders, and modules beside them): each may import itself and those before it.
ROOMS = {
    "fileserver": [
        "events",
        "names",
        "pacing",
        "rights",
        "wire",
        "storage",
        "workers",
        "net",
        "limits",
        "transfers",
        "context",
        "sessions",
        "server",
    ],
    "files_app": [
        "sizes",
        "qr",
        "async_middleware",
        "database",
        "checks",
        "sqlite3",
        "models",
        "migrations",
        "access",
        "history",
        "hosting",
        "terminal",
        "views",
        "live",
        "templatetags",
        "admin",
        "apps",
        "middleware",
        "urls",
        "management",
    ],
    "cfsite": [
        "environment",
        "keys",
        "settings",
        "caching",
        "middleware",
        "webserver",
        "asgi",
        "urls",
    ],
}
# Beside the order: what speaks the protocol from the other side knows nothing of the server.
_WIRE = {"events", "names", "pacing", "wire"}
BESIDE: dict[str, dict[str, set[str]]] = {
    "fileserver": {"__init__": set(), "client": _WIRE},
    "files_app": {"__init__": set()},
    "cfsite": {"__init__": set()},
}

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def module_of(path: Path, root: Path = ROOT) -> str:
    """``fileserver/names.py`` is ``fileserver.names``; ``__init__`` stays as the last part of a package's."""
    return ".".join(path.relative_to(root).with_suffix("").parts)


def imports_of(source: str, module: str) -> Iterator[str]:
    """The full dotted name of everything that ``source`` imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, base] if base else above)
            # ``from package import module`` and ``from module import name`` look alike: both are told.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if called in ("import_module", "__import__"):
                name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "?"
                yield str(name)


def faults_of(source: str, module: str) -> list[str]:
    """Each import of ``source`` that its place in the table does not allow."""
    package, _, rest = module.partition(".")
    return [name for name in imports_of(source, module) if not _may_import(package, rest, name)]


def _may_import(package: str, module: str, name: str) -> bool:
    top, _, below = name.partition(".")
    if top in PACKAGES:
        if top != package:
            return PACKAGES.index(top) > PACKAGES.index(package)
        return package not in ROOMS or _may_enter(package, room_of(module), room_of(below))
    return package != "fileserver" or top in sys.stdlib_module_names


def room_of(module: str) -> str:
    return module.partition(".")[0]


def _may_enter(package: str, room: str, other: str) -> bool:
    if room in BESIDE[package]:
        return other == room or other in BESIDE[package][room]
    order = ROOMS[package]
    return room in order and other in order[: order.index(room) + 1]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    assert faults_of(path.read_text(encoding="utf-8"), module_of(path)) == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_row(package: str) -> None:
    found = {room_of(module_of(path, ROOT / package)) for path in (ROOT / package).rglob("*.py")}
    assert found == {*ROOMS[package], *BESIDE[package]}


def test_no_two_modules_need_each_other() -> None:
    modules = {module_of(path).removesuffix(".__init__"): path for path in FILES}
    graph = {
        module: {
            name for name in imports_of(path.read_text(encoding="utf-8"), module_of(path)) if name in modules
        }
        - {module}
        for module, path in modules.items()
    }
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names them


def test_the_order_is_the_one_that_the_core_tells_its_readers() -> None:
    text = fileserver.__doc__ or ""
    told = re.findall(r"``(\w+)``", text.partition("in this list:")[2].partition(";")[0])
    assert told == ROOMS["fileserver"]


WRONG = [
    ("fileserver.names", "import fileserver.wire.verbs"),
    ("fileserver.names", "from fileserver.wire import verbs"),
    ("fileserver.names", "from fileserver.wire.verbs import ErrorReply"),
    ("fileserver.names", "from . import wire"),
    ("fileserver.names", "from .wire.verbs import ErrorReply"),
    ("fileserver.names", "def f():\n    from fileserver import server"),
    ("fileserver.names", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fileserver.server"),
    ("fileserver.names", "import importlib\nimportlib.import_module('fileserver.server')"),
    ("fileserver.names", "__import__('django')"),
    ("fileserver.names", "import importlib\nimportlib.import_module(name)"),
    ("fileserver.server", "import fileserver"),
    ("fileserver.server", "from fileserver.client.blocking import Client"),
    ("fileserver.server", "import os, django.conf"),
    ("fileserver.server", "from channels.layers import get_channel_layer"),
    ("fileserver.server", "from files_app.models import File"),
    ("fileserver.server", "import cfsite.settings"),
    ("fileserver.client.blocking", "from fileserver.storage.folder import Storage"),
    ("fileserver.client.blocking", "from fileserver.limits import Limits"),
    ("fileserver.unheard_of", "from fileserver import names"),
    ("files_app.views.pages", "from cfsite import settings"),
    ("files_app.views.pages", "def f():\n    import cfsite.settings"),
    ("files_app.management.commands.start", "from cfsite.webserver.flow import Server"),
    ("files_app.models.files", "from files_app.views.pages import index"),
    ("files_app.history.recorder", "from files_app.hosting.console import Console"),
    ("cfsite.webserver.flow", "from cfsite.asgi import application"),
]
RIGHT = [
    (
        "fileserver.server",
        "import os\nfrom fileserver.sessions.session import Session\nfrom . import storage",
    ),
    ("fileserver.wire.verbs", "from __future__ import annotations\nfrom fileserver.names import shown"),
    ("fileserver.client.aio", "import asyncio\nfrom fileserver.client.blocking import Incomplete"),
    (
        "files_app.views.pages",
        "import django\nfrom fileserver.server import FileServer\nfrom files_app import models",
    ),
    (
        "files_app.views.pages",
        "from django.conf import settings\nfrom .models import File\nfrom . import urls",
    ),
    ("cfsite.urls", "import files_app.urls\nfrom fileserver import names\nfrom cfsite import webserver"),
]


@pytest.mark.parametrize(("module", "source"), WRONG)
def test_an_import_upwards_or_from_outside_is_found(module: str, source: str) -> None:
    assert len(faults_of(source, module)) == 1


@pytest.mark.parametrize(("module", "source"), RIGHT)
def test_an_import_downwards_is_let_through(module: str, source: str) -> None:
    assert faults_of(source, module) == []


MAX_LINES = {
    "fileserver": 300,
    "files_app": 250,
    "cfsite": 250,
    "fileserver/workers/thread_per_client.py": 80,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    most = MAX_LINES.get(name, MAX_LINES[name.partition("/")[0]])
    assert len(path.read_text("utf-8").splitlines()) <= most
