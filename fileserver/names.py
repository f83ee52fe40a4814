"""Is this name safe, is it portable: the one rule for every verb and for the web.

*Safe* is asked of every name from outside. *Portable* is asked of a name that an upload makes, so that what
one system uploads every other can download.
"""

import functools
import re
import unicodedata
from collections.abc import Container, Iterator

MAX_PART_BYTES = 255
MAX_NAME_BYTES = 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_PORTABLE = re.compile(r'[:*?"<>|]')
# Windows takes these as devices whatever their case or extension, with the superscript digits too.
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(?:\..*)?", re.IGNORECASE
)


class BadName(ValueError):
    """A name that breaks a rule; the text is a sentence for a person, with the name and the rule."""


def check_safe(name: str) -> None:
    """Raise ``BadName`` unless ``name`` can be looked up in the served folder."""
    rule = _broken_safety_rule(name)
    if rule:
        raise BadName(f"The name {shown(name)} cannot be used: {rule}.")


def check_portable(name: str) -> None:
    """Raise ``BadName`` unless ``name`` is safe and every common system can keep a file of that name."""
    rule = _broken_safety_rule(name) or _broken_portability_rule(name)
    if rule:
        raise BadName(f"The name {shown(name)} cannot be used: {rule}.")


def is_safe(name: str) -> bool:
    return _broken_safety_rule(name) is None


def shown(name: str, limit: int = 80) -> str:
    """``name`` quoted for a message: control characters escaped, shortened to ``limit`` characters."""
    text = name if len(name) <= limit else name[: limit - 1] + "…"
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"'{escaped}'"


def composed(name: str) -> str:
    """``name`` in Unicode's form NFC, in which uploads are kept, whatever form their system hands out."""
    return unicodedata.normalize("NFC", name)


def forms_of(name: str) -> tuple[str, ...]:
    """``name`` itself first, then composed (NFC) and decomposed (NFD): people see the same in each."""
    return tuple(dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))))


def numbered(name: str, number: int) -> str:
    """``week/big.iso`` with number 1 is ``week/big (1).iso``; shortened to what a name may have in bytes."""
    before, behind = _around_number(name, len(str(number)))
    return f"{before}{number}{behind}"


def free_names(name: str, taken: Container[str], stop: int, start: int = 1) -> Iterator[str]:
    """``numbered`` names from ``start`` to below ``stop``, without those whose last part is in ``taken``."""
    folder = len(name.rpartition("/")[0]) + 1 if "/" in name else 0
    for digits in range(len(str(start)), len(str(stop - 1)) + 1):
        # All numbers with as many digits have the same around them: no name is put together from its parts.
        before, behind = _around_number(name, digits)
        last = before[folder:]
        for number in range(max(start, 10 ** (digits - 1)), min(stop, 10**digits)):
            if f"{last}{number}{behind}" not in taken:
                yield f"{before}{number}{behind}"


def _around_number(name: str, digits: int) -> tuple[str, str]:
    """What stands before and behind a number of so many digits."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.rpartition(".")
    if not stem:
        stem, dot, extension = last, "", ""
    behind = f"){dot}{extension}"
    most = min(MAX_PART_BYTES, MAX_NAME_BYTES - len(f"{folder}{slash}".encode()))
    room = most - digits - len(f" ({behind}".encode())
    if room < 1:  # an extension that fills the whole part: number the end instead
        stem, behind = last, ")"
        room = most - digits - len(" ()")
    shortened = stem.encode()[: max(0, room)].decode("utf-8", "ignore")
    return f"{folder}{slash}{shortened} (", behind


@functools.lru_cache(1024)  # the same names come again and again
def _broken_safety_rule(name: str) -> str | None:
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if not name:
        return "it is empty"
    if size > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    if _CONTROL.search(name):
        return "it has a control character"
    if "\\" in name:
        return "it has a backslash"
    return next(filter(None, map(_broken_part_rule, name.split("/"))), None)


def _broken_part_rule(part: str) -> str | None:
    if not part:
        return "it has an empty part (no leading, trailing or double '/')"
    if part in (".", ".."):
        return f"it has the part '{part}'"
    if part.startswith("."):
        return "it has a part that begins with a dot (hidden)"
    if len(part.encode("utf-8")) > MAX_PART_BYTES:
        return f"it has a part longer than {MAX_PART_BYTES} bytes"
    return None


def _broken_portability_rule(name: str) -> str | None:
    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode form NFC"
    found = _NOT_PORTABLE.search(name)
    if found:
        return f"it has the character {found[0]}"
    for part in name.split("/"):
        if part[-1] in " .":
            return "it has a part that ends in a blank or a dot"
        if _DEVICE.fullmatch(part):
            return f"{shown(part)} is a device on Windows"
    return None
