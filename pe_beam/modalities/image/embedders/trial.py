"""Made-up pictures for the self-check. They are the same everywhere, and nothing in them is private."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_SMALL = ("L", "P", "RGBA", "1")


def trial_pictures(count: int) -> list[bytes]:
    """Returns PNG files, all different: every other one is in colour, the others are small and of other modes.

    >>> len(set(trial_pictures(64)))
    64
    """
    rng = np.random.default_rng(20_130)
    return [_colourful(rng) if row % 2 == 0 else _small(rng, _SMALL[row // 2 % len(_SMALL)]) for row in range(count)]


def _colourful(rng: np.random.Generator) -> bytes:
    """Draws waves with some noise, 40 to 89 pixels a side."""
    height, width = rng.integers(40, 90, 2)
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(-6, 6, (3, 3))]
    values = 128 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, 3))
    return _png(Image.fromarray(values.clip(0, 255).astype(np.uint8)))


def _small(rng: np.random.Generator, mode: str) -> bytes:
    height, width = rng.integers(3, 12, 2)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    return _png(noise if mode == "RGBA" else noise.convert("RGB").convert(mode))


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="PNG")
    return sink.getvalue()
