"""The page's own scripts: folders by what of the page they are for, with ``common`` below all of them."""

import posixpath
import re
from pathlib import Path

import pytest

from tests.test_docs import ROOT

JS = ROOT / "static" / "js"
MODULES = {path.relative_to(JS).as_posix(): path for path in sorted(JS.rglob("*.js"))}
ALONE = {"app.js", "common/theme.js"}  # which a template loads; all else is imported


def imports_of(path: Path) -> list[str]:
    """Paths below ``static/js``."""
    here = posixpath.dirname(path.relative_to(JS).as_posix())
    named = re.findall(r'^(?:import|export) .*?from "(\..*?)";$', path.read_text("utf-8"), re.MULTILINE)
    return [posixpath.normpath(posixpath.join(here, name)) for name in named]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_folder_and_from_common(module: str) -> None:
    folder = posixpath.dirname(module)
    for name in imports_of(MODULES[module]):
        assert name in MODULES
        assert not folder or posixpath.dirname(name) in (folder, "common")


def test_every_module_is_of_use() -> None:
    imported = {name for path in MODULES.values() for name in imports_of(path)}
    assert imported == set(MODULES) - ALONE


def test_the_templates_load_the_others() -> None:
    base = (ROOT / "templates" / "base.html").read_text("utf-8")
    assert set(re.findall(r"'js/([\w/]+\.js)'", base)) == ALONE
