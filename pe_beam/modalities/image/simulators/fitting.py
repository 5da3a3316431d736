"""Pictures of any shape made square."""

from __future__ import annotations

from PIL import Image


def fitted(image: Image.Image, side: int | None) -> Image.Image:
    """The shorter side made `side` pixels (bicubic), and the middle of the longer one kept; None: as it is."""
    if side is None or image.size == (side, side):
        return image
    wide, tall = image.size
    short = min(wide, tall)
    left, top = (wide - short) / 2, (tall - short) / 2
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))
