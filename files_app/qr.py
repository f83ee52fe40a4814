"""An address as a QR code, on a page and in a terminal."""

import functools
import io

import segno

QUIET = 4  # modules of light around it, which the standard asks for (ISO/IEC 18004)


@functools.lru_cache(64)  # to make one takes milliseconds, and each page of a server on the network has one
def qr_svg(text: str) -> str:
    """For the middle of a page. Dark on light in both colour schemes, for cameras; no inline style."""
    return segno.make(text, error="m", micro=False).svg_inline(
        scale=4,
        border=QUIET,
        dark="#000",
        light="#fff",
        svgclass="qr",
        lineclass=None,
        omitsize=True,
    )


def qr_lines(text: str) -> str:
    """For a terminal: two modules in each character, and its light ones in the colour of the writing.

    So it is right on a dark background; on a light one it is inverted, which cameras read too.
    """
    out = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out, border=2, compact=True)
    return out.getvalue()
