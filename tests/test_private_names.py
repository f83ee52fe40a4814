"""Private names of libraries: all that are in use stand in one table, and each has a test that guards it."""

import ast
import contextlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_docs import ROOT, code, rows, section
from tests.test_layering import module_of

FILES = [
    path
    for package in ("cfsite", "files_app")
    for path in sorted((ROOT / package).rglob("*.py"))
    if "migrations" not in path.parts
]
# Django and the standard library document these.
PUBLIC = {"_meta", "_replace", "_asdict", "_fields", "_default_manager"}
TABLE = [
    tuple(code(cell)[0] for cell in row)
    for row in rows(section(ROOT / "docs" / "architecture.md", "Private names in use"))
]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def private_names_in(path: Path) -> set[str]:
    """Names that begin with an underscore and come from outside of the file: asked of another object, or
    of our own class where a base of it from elsewhere has that name."""
    tree = ast.parse(path.read_text("utf-8"))
    own = {name for node in ast.walk(tree) for name in _defined_by(node)}
    asked = {name for node in ast.walk(tree) for name in _asked_by(node) if is_private(name)}
    inherited = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            inherited |= {name for name in _names_in_class(node) if is_private(name)} & _names_of_bases(
                path, node.name
            )
    return {name for name in asked if name not in own} | inherited


def _defined_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
        yield node.attr
    if isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        yield node.target.id


def _asked_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    asks = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr", "setattr")
    if asks and isinstance(node.args[1], ast.Constant):
        yield str(node.args[1].value)


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _names_in_class(node: ast.ClassDef) -> set[str]:
    inside = list(ast.walk(node))
    defined = {name for child in inside for name in _defined_by(child)}
    asked = {child.attr for child in inside if isinstance(child, ast.Attribute) and _is_self(child.value)}
    fields = (child.target for child in node.body if isinstance(child, ast.AnnAssign))
    return defined | asked | {field.id for field in fields if isinstance(field, ast.Name)}


def _names_of_bases(path: Path, name: str) -> set[str]:
    kind = getattr(import_module(module_of(path).removesuffix(".__init__")), name, None)
    if not inspect.isclass(kind):  # one within a function, or within a class
        return set()
    foreign = [base for base in kind.__mro__[1:] if not base.__module__.startswith(("cfsite", "files_app"))]
    names = set()
    for base in foreign:
        if base.__module__.partition(".")[0] not in sys.stdlib_module_names:
            with contextlib.suppress(OSError):  # one that was made at run time: a manager of a queryset
                source = textwrap.dedent(inspect.getsource(base))
                names |= _names_in_class(ast.parse(source).body[0])  # type: ignore[arg-type]
    return names


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_private_name_in_use_has_its_row(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    assert private_names_in(path) == {name for name, _, used_in, _ in TABLE if used_in == place}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_the_library_still_has_each_of_them(row: tuple[str, ...]) -> None:
    name, library, _, _ = row
    source = Path(import_module(library).__file__ or "").read_text("utf-8")
    assert name in source


@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_each_of_them_has_a_test_that_exists(row: tuple[str, ...]) -> None:
    tests = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert any(f"def {row[3]}(" in text for text in tests)
