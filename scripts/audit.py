"""Known weaknesses in what we install. ``python -m scripts.audit`` ends with 0 only if all was looked up.

Audited are the lowest versions that the lists of requirements allow, and what is installed because of
``requirements-dev.txt``. pip and setuptools, which come with Python, are not.

The advisories lie in ``advisories.json``, so the audit works where nothing but a package index is reached.
A package that is not in there was not looked up, and that is a failure too. ``--update FOLDER`` takes in a
folder of advisories in the format of OSV (https://ossf.github.io/osv-schema/), as JSON.
"""

import argparse
import json
import operator
import sys
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
ADVISORIES = Path(__file__).with_name("advisories.json")
INSTALLED = ("requirements.txt", "requirements-dev.txt")
LISTS = (*INSTALLED, "requirements-bench.txt")
OLD = timedelta(days=180)


class AuditError(Exception):
    """Nothing can be said; the text is a sentence."""


class Release(NamedTuple):
    name: str  # as in PEP 503: lower case, with hyphens
    version: str
    where: str  # what makes us use it


class Advisories(NamedTuple):
    until: date  # what became known later is not in it
    packages: dict[str, dict[str, list[str]]]  # name: id: version specifiers (PEP 440)

    @classmethod
    def read(cls, path: Path) -> "Advisories":
        try:
            found = json.loads(path.read_text("utf-8"))
            return cls(date.fromisoformat(found["until"]), found["packages"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AuditError(f"The list of advisories {path} cannot be read: {error!r}.") from None

    def write(self, path: Path) -> None:
        """A line for each package."""
        found = [
            f'"{name}": {json.dumps(known, sort_keys=True)}' for name, known in sorted(self.packages.items())
        ]
        path.write_text(
            f'{{"until": "{self.until}", "packages": {{\n' + ",\n".join(found) + "\n}}\n", "utf-8"
        )

    def about(self, release: Release) -> list[str]:
        """The ids of those that are about this release. Raises ``KeyError`` if nobody has looked it up."""
        known = self.packages[release.name].items()
        return [each for each, bad in known if any(_has(spec, release.version) for spec in bad)]


COMPARE = {">=": operator.ge, "<=": operator.le, "<": operator.lt, "==": operator.eq}


def _has(specifier: str, version: str) -> bool:
    """By the order of versions alone. For PEP 440 1.5rc1 is not in <1.5; for an advisory it is."""
    bounds = SpecifierSet(specifier)
    return all(COMPARE[each.operator](Version(version), Version(each.version)) for each in bounds)


# --- what we use


def requirements_in(path: Path) -> Iterator[Requirement]:
    for line in path.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text and not text.startswith("-r "):
            yield Requirement(text)


def lowest(path: Path) -> Iterator[Release]:
    """Of each requirement in a list, the lowest version that it allows."""
    for requirement in requirements_in(path):
        versions = [each.version for each in requirement.specifier if each.operator in ("~=", "==", ">=")]
        if len(versions) != 1:
            raise AuditError(f"{path.name}: {requirement} does not say from which version on it is good.")
        yield Release(canonicalize_name(requirement.name), versions[0], path.name)


def installed(requirements: Iterable[Requirement]) -> Iterator[Release]:
    """What is here of ``requirements``, and of all that those need."""
    waiting, seen = list(requirements), set()
    while waiting:
        wanted = waiting.pop()
        key = (canonicalize_name(wanted.name), *sorted(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            raise AuditError(f"{wanted.name} could not be audited: it is not installed.") from None
        yield Release(key[0], found.version, "installed")
        needs = map(Requirement, found.requires or [])
        waiting += [each for each in needs if _applies(each, wanted.extras)]


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def all_releases(root: Path) -> list[Release]:
    pinned = [release for name in LISTS for release in lowest(root / name)]
    needed = [requirement for name in INSTALLED for requirement in requirements_in(root / name)]
    return [*pinned, *dict.fromkeys(installed(needed))]


# --- the audit


def audit(releases: Iterable[Release], advisories: Advisories) -> list[str]:
    """A sentence for each release that is known to be bad or was not looked up."""
    faults = []
    for release in releases:
        text = f"{release.name} {release.version} ({release.where})"
        try:
            ids = advisories.about(release)
        except KeyError:
            faults.append(f"{text} could not be audited: it is not in {ADVISORIES.name}. See --update.")
            continue
        faults += [f"{text} is known to be bad: {each}." for each in ids]
    return faults


def updated(known: Advisories, folder: Path, names: Iterable[str], today: date) -> Advisories:
    """What is known of these packages, with the records in ``folder``. ``today``: no record can be later."""
    # Those that only another system needs stay.
    packages = {name: dict(known.packages.get(name, {})) for name in {*known.packages, *names}}
    paths, until = sorted(folder.rglob("*.json")), known.until
    if not paths:
        raise AuditError(f"There are no advisories (*.json) in {folder}.")
    for path in paths:
        try:
            record = json.loads(path.read_text("utf-8"))
            until = max(until, date.fromisoformat(record["modified"][:10]))
            for name, bad in _affected(record).items():
                if name not in packages:
                    continue
                packages[name].pop(_id_of(record), None)
                if "withdrawn" not in record:
                    packages[name][_id_of(record)] = bad
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AuditError(f"{path} is no advisory in the format of OSV: {error!r}.") from None
    return Advisories(min(until, today), packages)


def _affected(record: dict[str, Any]) -> dict[str, list[str]]:
    """The packages that an advisory is about, each with its bad versions."""
    found: dict[str, list[str]] = {}
    for affected in record.get("affected", []):
        package = affected["package"]
        if package["ecosystem"] == "PyPI":
            found.setdefault(canonicalize_name(package["name"]), []).extend(_specifiers(affected))
    return found


def _id_of(record: dict[str, Any]) -> str:
    """That of the CVE if there is one: several records of one fault are one."""
    return next((each for each in record.get("aliases", []) if each.startswith("CVE-")), str(record["id"]))


def _specifiers(affected: dict[str, Any]) -> list[str]:
    found, low = [], ""
    for versions in affected.get("ranges", []):
        if versions["type"] == "GIT":  # commits, which say nothing of a release
            continue
        for event in versions["events"]:
            if "introduced" in event:
                low = f">={event['introduced']}"
                found.append(low)
            elif end := event.get("fixed"):
                found[-1] = f"{low},<{end}"
            elif end := event.get("last_affected"):
                found[-1] = f"{low},<={end}"
    return found or [f"=={version}" for version in affected.get("versions", [])]


def main(words: list[str] | None = None, *, root: Path = ROOT, path: Path = ADVISORIES) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=__doc__.split("\n\n")[0])
    parser.add_argument("--update", type=Path, metavar="FOLDER", help="make the list anew from OSV records")
    options = parser.parse_args(words)
    try:
        releases = all_releases(root)
        advisories = Advisories.read(path)
        if options.update:
            names = {release.name for release in releases}
            advisories = updated(advisories, options.update, names, date.today())
            advisories.write(path)
        faults = audit(releases, advisories)
    except AuditError as error:
        faults = [str(error)]
    if faults:
        print("\n".join(faults), file=sys.stderr)
        return 1
    count, known = len({release.name for release in releases}), sum(map(len, advisories.packages.values()))
    print(f"{count} packages audited, none is in {known} advisories known until {advisories.until}.")
    if date.today() - advisories.until > OLD:
        print("The list is old: what became known since is not in it. See --update.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
