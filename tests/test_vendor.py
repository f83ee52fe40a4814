"""What was taken from others is as they made it: each file is listed in ``VERSIONS.md`` with its hash."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("folder", ["static/vendor", "tests/vendor"])
def test_vendored_files_are_unchanged(folder: str) -> None:
    vendor = ROOT / folder
    table = (vendor / "VERSIONS.md").read_text()
    listed = dict(re.findall(r"`([\w./-]+/[\w.-]+)`[^|]*\| `([0-9a-f]{64})` \|", table))
    there = [path for path in vendor.rglob("*") if path.is_file() and path.name != "VERSIONS.md"]
    hashes = {
        path.relative_to(vendor).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in there
    }
    assert hashes == listed
