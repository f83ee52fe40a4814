"""QR codes."""

import segno


def qr_svg(text: str) -> str:
    return str(segno.make(text, error="m").svg_inline(scale=4, border=2, omitsize=False))
