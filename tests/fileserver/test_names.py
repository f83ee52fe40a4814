"""The one rule of names: tables of good and bad ones, and what must hold for every text there is."""

import os
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fileserver.names import (
    MAX_NAME_BYTES,
    MAX_PART_BYTES,
    BadName,
    check_portable,
    check_safe,
    composed,
    forms_of,
    free_names,
    is_safe,
    numbered,
    shown,
)

PORTABLE = [
    "notes.txt",
    "week 3/slides.pdf",
    "a",
    "é.txt",
    "日本語/ファイル",
    "x" * 255,
    "é" * 127,
    "/".join(["x" * 203] * 5),
    "a..b",
    " leading blank",
    "{curly}.json",
    "con1.txt",
    "console",
    "com10",
    "nulls.txt",
    "x HTTP/1.1",
    "-rf",
    "~",
    "a#b%20c",
]
# name, word of the rule that it breaks
UNSAFE = [
    ("", "empty"),
    ("/etc/passwd", "empty part"),
    ("a//b", "empty part"),
    ("a/", "empty part"),
    ("/", "empty part"),
    (".", "'.'"),
    ("..", "'..'"),
    ("../config.py", "'..'"),
    ("a/../../b", "'..'"),
    ("a/./b", "'.'"),
    (".env", "hidden"),
    ("a/.git/config", "hidden"),
    (".cfs-partial/x", "hidden"),
    ("...", "hidden"),
    ("nul\0byte", "control"),
    ("line\nbreak", "control"),
    ("tab\t", "control"),
    ("del\x7f", "control"),
    ("next line\x85", "control"),
    ("..\\config.py", "backslash"),
    ("C:\\x", "backslash"),
    ("lone \ud800", "UTF-8"),
    ("bytes \udcff", "UTF-8"),
    ("x" * 256, "255 bytes"),
    ("é" * 128, "255 bytes"),
    ("a/" + "x" * 256, "255 bytes"),
    ("/".join(["x" * 204] * 5 + ["y"]), "1024 bytes"),
]
NOT_PORTABLE = [
    ("e\u0301.txt", "NFC"),
    ("a:b", "':'"),
    ("a*", "'*'"),
    ("why?", "'?'"),
    ('"quoted"', "'\"'"),
    ("a<b", "'<'"),
    ("a>b", "'>'"),
    ("a|b", "'|'"),
    ("ends in a blank ", "ends in"),
    ("ends in a dot.", "ends in"),
    ("folder./x", "ends in"),
    ("folder /x", "ends in"),
    ("CON", "device"),
    ("nul.txt", "device"),
    ("NuL.tar.gz", "device"),
    ("aux/x", "device"),
    ("a/prn.b", "device"),
    ("COM1", "device"),
    ("lpt9.txt", "device"),
    ("com\u00b2", "device"),
    ("conin$", "device"),
    ("con .txt", "device"),
]


@pytest.mark.parametrize("name", PORTABLE)
def test_a_portable_name_is_safe_too(name: str) -> None:
    check_safe(name)
    check_portable(name)
    assert is_safe(name)


@pytest.mark.parametrize(("name", "rule"), UNSAFE)
def test_an_unsafe_name_is_refused_with_its_rule(name: str, rule: str) -> None:
    assert not is_safe(name)
    for check in (check_safe, check_portable):
        with pytest.raises(BadName) as refusal:
            check(name)
        assert rule in str(refusal.value)


@pytest.mark.parametrize(("name", "rule"), NOT_PORTABLE)
def test_a_name_that_not_every_system_can_keep_is_safe_but_not_portable(name: str, rule: str) -> None:
    check_safe(name)
    with pytest.raises(BadName) as refusal:
        check_portable(name)
    assert rule.strip("'") in str(refusal.value)


def test_a_name_of_1024_bytes_is_safe_and_one_of_1025_is_not() -> None:
    longest = "/".join(["x" * 204] * 5)
    assert len(longest.encode()) == MAX_NAME_BYTES
    assert is_safe(longest)
    assert not is_safe(longest + "x")


PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "\0", "a", "é", "\ud800", " ", "con", "\n", "x" * 200, "e\u0301"]
)
NAMES = st.one_of(st.text(st.characters(), max_size=300), st.lists(PIECES, max_size=12).map("".join))


@given(NAMES)
@example("a\udc80")
def test_a_check_raises_nothing_but_bad_name(name: str) -> None:
    for check in (check_safe, check_portable):
        try:
            check(name)
        except BadName as refusal:
            str(refusal).encode()  # a sentence that can be sent


@given(NAMES)
def test_a_safe_name_never_leads_outside_its_folder(name: str) -> None:
    if not is_safe(name):
        return
    path = PurePosixPath("/served", name)
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to("/served")
    assert path != PurePosixPath("/served")
    assert not any(part.startswith(".") for part in path.parts)
    assert path.as_posix() == "/served/" + name


@given(NAMES)
def test_a_portable_name_is_safe(name: str) -> None:
    try:
        check_portable(name)
    except BadName:
        return
    assert is_safe(name)
    assert unicodedata.normalize("NFC", name) == name


NUMBERED = [
    ("big.iso", 1, "big (1).iso"),
    ("week/big.iso", 2, "week/big (2).iso"),
    ("x.tar.gz", 1, "x.tar (1).gz"),
    ("README", 10, "README (10)"),
    ("a.b/README", 3, "a.b/README (3)"),
    ("x" * 255, 1, "x" * 251 + " (1)"),
    ("x" * 251 + ".txt", 12, "x" * 246 + " (12).txt"),
    ("é" * 127, 1, "é" * 125 + " (1)"),
    ("a." + "x" * 253, 1, "a." + "x" * 249 + " (1)"),
]


@pytest.mark.parametrize(("name", "number", "wanted"), NUMBERED)
def test_a_taken_name_gets_its_number_before_the_extension(name: str, number: int, wanted: str) -> None:
    assert numbered(name, number) == wanted


@given(NAMES, st.integers(1, 9999))
@example("/".join(["x" * 204] * 5), 1)
@example("y/" * 400 + "x" * 200 + ".txt", 77)
@example("x." + "é" * 126, 5)
def test_a_numbered_portable_name_is_another_portable_name_in_the_same_folder(name: str, number: int) -> None:
    try:
        check_portable(name)
    except BadName:
        return
    if len(name.rpartition("/")[0].encode()) > MAX_NAME_BYTES - 20:
        return  # a folder that leaves no room for a number
    other = numbered(name, number)
    assert other != name
    assert other.rpartition("/")[0] == name.rpartition("/")[0]
    assert len(other.rpartition("/")[2].encode()) <= MAX_PART_BYTES
    check_portable(other)


@given(NAMES, st.sets(st.integers(1, 130)), st.integers(1, 12))
@example("week/" + "x" * 250 + ".txt", {1, 2, 3, 9, 10, 99}, 1)
@example("a/big.iso", set(range(1, 120)), 4)
def test_free_names_are_the_numbered_ones_that_are_not_taken(name: str, taken: set[int], start: int) -> None:
    try:
        check_portable(name)
    except BadName:
        return
    every = {number: numbered(name, number) for number in range(start, 130)}
    last_parts = {numbered(name, number).rpartition("/")[2] for number in taken}
    wanted = [other for other in every.values() if other.rpartition("/")[2] not in last_parts]
    assert list(free_names(name, last_parts, 130, start)) == wanted


def test_a_name_has_itself_and_both_of_its_forms() -> None:
    assert forms_of("abc") == ("abc",)
    assert forms_of("\u00e9") == ("\u00e9", "e\u0301")
    assert forms_of("e\u0301") == ("e\u0301", "\u00e9")
    assert forms_of("\u00e9e\u0301") == ("\u00e9e\u0301", "\u00e9\u00e9", "e\u0301e\u0301")
    assert composed("e\u0301.txt") == "\u00e9.txt"
    assert composed("lone \ud800") == "lone \ud800"


@given(st.text(st.characters(), max_size=200))
def test_a_shown_name_is_one_printable_line(name: str) -> None:
    text = shown(name)
    assert text.isprintable()
    assert (text[0], text[-1]) == ("'", "'")


def test_a_long_name_is_shown_shortened() -> None:
    assert shown("x" * 100, 10) == "'" + "x" * 9 + "…'"
    assert shown("x" * 10, 10) == "'" + "x" * 10 + "'"
