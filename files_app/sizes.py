"""Sizes as people read them, the same for pages, admin, commands and log. Scripts have ``format.js``."""

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
NBSP = "\N{NO-BREAK SPACE}"


def size_text(count: float) -> str:
    """``count`` bytes in binary units (IEC 80000-13): ``1 byte``, ``2.0 KiB``. Halves are rounded up."""
    whole = int(count)
    if whole < 1024:
        return f"{whole}{NBSP}{'byte' if whole == 1 else 'bytes'}"
    for power, unit in enumerate(UNITS, start=1):
        divisor = 1024**power
        tenths = (20 * whole + divisor) // (2 * divisor)
        if tenths < 10_240 or unit == UNITS[-1]:  # 1,023.95 KiB would be written as 1,024.0: that is a MiB
            break
    return f"{tenths // 10}.{tenths % 10}{NBSP}{unit}"


def rate_text(bytes_per_second: float) -> str:
    return f"{size_text(bytes_per_second)}/s"
