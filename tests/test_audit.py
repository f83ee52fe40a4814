"""The audit finds what is known to be bad, and fails when it could not look something up."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scripts import audit
from scripts.audit import ADVISORIES, ROOT, Advisories, AuditError, Release

TODAY = date(2026, 11, 25)


@pytest.fixture(scope="module")
def advisories() -> Advisories:
    return Advisories.read(ADVISORIES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lists of requirements of which all is installed and known."""
    for name in audit.LISTS:
        (tmp_path / name).write_text("-r requirements.txt\n\nDjango~=5.2.19  # a comment\n")
    return tmp_path


def test_what_we_use_is_audited_and_fine() -> None:
    done = subprocess.run([sys.executable, "-m", "scripts.audit"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"(\d+) packages audited, none is in (\d+) advisories known until .*\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 50
    assert int(found[2]) > 200


@pytest.mark.parametrize(
    ("name", "version", "id_"),
    [
        ("django", "3.2.0", "CVE-2021-31542"),
        ("django", "5.2.7", "CVE-2025-64459"),
        ("twisted", "22.1.0", "CVE-2022-24801"),
        ("urllib3", "2.5.0", "CVE-2025-66471"),
        ("idna", "3.6", "CVE-2024-3651"),
        ("starlette", "0.40.0", "CVE-2025-54121"),
    ],
)
def test_a_version_that_is_known_to_be_bad_is_found(
    advisories: Advisories, name: str, version: str, id_: str
) -> None:
    faults = audit.audit([Release(name, version, "here")], advisories)
    assert f"{name} {version} (here) is known to be bad: {id_}." in faults


def test_a_package_that_was_never_looked_up_is_a_failure(advisories: Advisories) -> None:
    releases = [Release("django", "5.2.19", "here"), Release("no-such-package", "1.0", "here")]
    assert audit.audit(releases, advisories) == [
        "no-such-package 1.0 (here) could not be audited: it is not in advisories.json. See --update."
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Django~=3.2.0", "django 3.2.0 (requirements.txt) is known to be bad: CVE-2021-31542."),
        ("copyparty~=1.0", "copyparty 1.0 (requirements-bench.txt) is known to be bad: CVE-2023-37474."),
        ("no-such-package~=1.0", "no-such-package could not be audited: it is not installed."),
        ("Django", "Django does not say from which version on it is good."),
        ("Django<6", "does not say from which version on it is good."),
    ],
)
def test_a_list_with_a_bad_pin_ends_with_1(
    project: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    # What the benchmarks use is looked up too, though it need not be installed.
    name = "requirements-bench.txt" if line.startswith("copyparty") else "requirements.txt"
    (project / name).write_text(f"{line}\n")
    assert audit.main([], root=project) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"until": "soon", "packages": {}}'])
def test_a_list_that_cannot_be_read_is_a_failure_and_not_none_found(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    path = tmp_path / "list.json"
    if text is not None:
        path.write_text(text)
    assert audit.main([], root=project, path=path) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "list.json cannot be read" in said.err


def test_what_is_installed_is_followed_to_all_that_it_needs() -> None:
    names = {release.name for release in audit.all_releases(ROOT)}
    assert {"django", "sqlparse", "asgiref"} <= names  # of Django
    assert {"twisted", "cryptography", "service-identity"} <= names  # of daphne, which asks for Twisted[tls]
    assert "pip" not in names


# --- taking in advisories


def record(**more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.3"}]
    ranges = [{"type": "GIT", "events": [{"introduced": "abc"}]}, {"type": "ECOSYSTEM", "events": events}]
    package = {"ecosystem": "PyPI", "name": "Some_Package"}
    affected = [{"package": package, "ranges": ranges}]
    usual = {"id": "PYSEC-1", "aliases": ["GHSA-x", "CVE-2026-1"], "modified": "2026-10-01T00:00:00Z"}
    return {**usual, "affected": affected, **more}


def taken_in(folder: Path, known: dict[str, Any], *records: dict[str, Any]) -> Advisories:
    for number, each in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(each))
    return audit.updated(Advisories(date(2026, 1, 1), known), folder, ["some-package", "other"], TODAY)


@pytest.mark.parametrize(
    ("version", "is_bad"),
    [
        *((version, True) for version in ("0.1", "1.4.9", "1.5rc1", "2.0", "2.3")),
        *((version, False) for version in ("1.5", "1.9", "2.0rc1", "2.3.post1", "2.4")),
    ],
)
def test_the_ranges_of_an_advisory_are_understood(tmp_path: Path, version: str, is_bad: bool) -> None:
    found = taken_in(tmp_path, {}, record())
    assert found.until == date(2026, 10, 1)
    assert found.about(Release("some-package", version, "")) == (["CVE-2026-1"] if is_bad else [])
    assert found.about(Release("other", version, "")) == []


def test_single_versions_without_a_range_are_understood(tmp_path: Path) -> None:
    package = {"ecosystem": "PyPI", "name": "other"}
    found = taken_in(tmp_path, {}, record(affected=[{"package": package, "versions": ["1.0", "1.2"]}]))
    assert [found.about(Release("other", each, "")) for each in ("1.0", "1.1", "1.2")] == [
        ["CVE-2026-1"],
        [],
        ["CVE-2026-1"],
    ]


def test_what_was_known_stays_unless_it_is_said_anew_or_withdrawn(tmp_path: Path) -> None:
    known = {"some-package": {"CVE-2026-1": [">=0"], "CVE-2026-2": ["<9"]}, "gone": {"CVE-2026-3": ["<1"]}}
    assert taken_in(tmp_path, known, record()).packages == {
        "gone": {"CVE-2026-3": ["<1"]},
        "some-package": {"CVE-2026-1": [">=0,<1.5", ">=2.0,<=2.3"], "CVE-2026-2": ["<9"]},
        "other": {},
    }
    gone = taken_in(tmp_path, known, record(withdrawn="2026-10-02T00:00:00Z"))
    assert list(gone.packages["some-package"]) == ["CVE-2026-2"]


def test_of_another_language_nothing_is_taken(tmp_path: Path) -> None:
    package = {"ecosystem": "npm", "name": "some-package"}
    found = taken_in(tmp_path, {}, record(affected=[{"package": package, "versions": ["1.0"]}]))
    assert found.packages == {"some-package": {}, "other": {}}


def test_no_advisories_are_a_failure(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="There are no advisories"):
        taken_in(tmp_path, {})
    for text in ("nonsense", "[]", '{"id": "x"}'):
        (tmp_path / "0.json").write_text(text)
        with pytest.raises(AuditError, match=r"0\.json is no advisory in the format of OSV"):
            taken_in(tmp_path, {})


def test_an_update_writes_the_list_that_the_audit_reads(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "list.json", tmp_path / "records"
    folder.mkdir()
    path.write_text('{"until": "2020-01-01", "packages": {}}')
    assert audit.main([], root=project, path=path) == 1
    package = {"ecosystem": "PyPI", "name": "Django"}
    bad = record(affected=[{"package": package, "versions": ["5.1"]}], modified="2021-01-01T00:00:00Z")
    (folder / "one.json").write_text(json.dumps(bad))
    assert audit.main(["--update", str(folder)], root=project, path=path) == 0
    said = capsys.readouterr()
    assert said.out.endswith("packages audited, none is in 1 advisories known until 2021-01-01.\n")
    assert "The list is old" in said.err
    assert Advisories.read(path).packages["django"] == {"CVE-2026-1": ["==5.1"]}


def test_an_audit_is_a_step_of_what_must_pass() -> None:
    assert re.search(r'^step "audit" .*-m scripts\.audit$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
