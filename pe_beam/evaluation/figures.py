"""Formats a figure for people."""

from __future__ import annotations


def shown(value: float) -> str:
    """Returns a figure with four decimals, or with three significant digits if it is below 0.001.

    >>> shown(0.98765), shown(0.0000321), shown(-0.0004), shown(0.0)
    ('0.9877', '0.0000321', '-0.0004', '0.0000')
    """
    if value == 0 or abs(value) >= 1e-3:
        return f"{value + 0.0:.4f}"
    text = f"{value:.3g}"
    if "e" not in text or abs(value) < 1e-6:
        return text
    places = 2 - int(text.partition("e")[2])  # three digits after the zeros
    return f"{value:.{places}f}".rstrip("0")
