"""Codes that another program can read."""

import io
import re
import xml.etree.ElementTree as ElementTree

import pytest
import zxingcpp

from files_app.qr import qr_lines, qr_svg

URLS = ["http://192.168.1.5:8000/", "https://[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535/s/" + "x" * 43]
SCALE = 4  # pixels for a module
HALVES = {" ": (0, 0), "▀": (255, 0), "▄": (0, 255), "█": (255, 255)}


def read_image(rows: list[list[int]]) -> list[str]:
    """What a reader of barcodes sees in modules, given as grey values."""
    pixels = bytes(value for row in rows for _ in range(SCALE) for value in row for _ in range(SCALE))
    image = memoryview(pixels).cast("B", (len(rows) * SCALE, len(rows[0]) * SCALE))
    return [code.text for code in zxingcpp.read_barcodes(image)]


def read_lines(text: str) -> list[str]:
    """What it sees in a terminal, on a dark background."""
    return read_image(
        [[HALVES[char][half] for char in line] for line in text.splitlines() for half in (0, 1)]
    )


@pytest.mark.parametrize("url", URLS)
def test_a_terminal_shows_it(url: str) -> None:
    lines = qr_lines(url)
    assert len({len(line) for line in lines.splitlines()}) == 1
    assert read_lines(lines) == [url]


@pytest.mark.parametrize("url", URLS)
def test_a_page_shows_it_without_an_inline_style(url: str) -> None:
    svg = qr_svg(url)
    root = ElementTree.parse(io.StringIO(svg)).getroot()
    assert "style" not in svg
    assert "script" not in svg
    size = int(root.attrib["viewBox"].split()[2]) // SCALE
    rows = [[255] * size for _ in range(size)]
    (_, dark) = root.iter("path")
    x, y = 0, -1
    for kind, *numbers in re.findall(r"([MmhH])(-?[\d.]+)(?:[ ]?(-?[\d.]+))?", dark.attrib["d"]):
        across, down = float(numbers[0]), float(numbers[1] or 0)
        if kind == "h":
            rows[y][x : x + int(across)] = [0] * int(across)
            x += int(across)
        else:
            x, y = (int(across), int(down)) if kind == "M" else (x + int(across), y + int(down))
    assert read_image(rows) == [url]
