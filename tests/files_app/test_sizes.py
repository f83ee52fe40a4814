"""Sizes in words: the table that ``tests/test_browser.py`` holds the page's scripts to as well."""

import pytest
from django.template import Context, Template

from files_app.sizes import rate_text, size_text

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# bytes → words; with an ordinary blank here, with one that never ends a line there
TABLE = [
    (0, "0 bytes"),
    (1, "1 byte"),
    (2, "2 bytes"),
    (1023, "1023 bytes"),
    (1023.9, "1023 bytes"),
    (KIB, "1.0 KiB"),
    (1075, "1.0 KiB"),
    (1076, "1.1 KiB"),
    (1280, "1.3 KiB"),  # 1.25: halves are rounded up
    (1792, "1.8 KiB"),  # 1.75
    (9984, "9.8 KiB"),  # 9.75
    (300_000, "293.0 KiB"),
    (MIB - 52, "1023.9 KiB"),
    (MIB - 51, "1.0 MiB"),  # and not 1024.0 KiB
    (MIB - 1, "1.0 MiB"),
    (MIB, "1.0 MiB"),
    (1.25 * MIB, "1.3 MiB"),
    (GIB - 1, "1.0 GiB"),
    (5 * GIB, "5.0 GiB"),
    (3 << 40, "3.0 TiB"),
    (7 << 50, "7.0 PiB"),
    (1023 << 50, "1023.0 PiB"),
    (1 << 60, "1.0 EiB"),
    (1 << 63, "8.0 EiB"),
]


@pytest.mark.parametrize(("count", "words"), TABLE, ids=str)
def test_a_size_is_said_in_binary_units(count: float, words: str) -> None:
    assert size_text(count) == words.replace(" ", "\N{NO-BREAK SPACE}")
    assert rate_text(count) == size_text(count) + "/s"


def test_templates_say_the_same() -> None:
    template = Template("{% load sizes %}{{ count|size_text }} {{ count|rate_text }}")
    assert template.render(Context({"count": 1280})) == "1.3\N{NO-BREAK SPACE}KiB 1.3\N{NO-BREAK SPACE}KiB/s"
