"""Makes pictures of any shape square."""

from __future__ import annotations

from PIL import Image


def fitted(image: Image.Image, side: int | None) -> Image.Image:
    """Resizes the shorter side to `side` pixels (bicubic) and keeps the middle of the longer one; None: no change."""
    if side is None or image.size == (side, side):
        return image
    wide, tall = image.size
    short = min(wide, tall)
    left, top = (wide - short) / 2, (tall - short) / 2
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))
