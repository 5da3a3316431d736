"""Labelled pictures whose classes can be told apart, and comparisons of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison
from pe_beam.modalities.image.codec import encode_png

LABELS = ("a", "b", "c")


def array(code: int, rng: np.random.Generator, side: int = 8) -> np.ndarray:
    """Colour noise with a bright third, where the class says."""
    pixels = rng.integers(0, 150, (side, side, 3))
    start = code * side // 3
    pixels[start : start + max(side // 3, 1)] += 100
    return pixels.astype(np.uint8)


def table(
    rows: int, seed: int, *, side: int = 8, labels: Sequence[str] = LABELS, gray: bool = False, shift: int = 0
) -> pa.Table:
    """Pictures with labels in turn; `shift` makes them darker."""
    rng = np.random.default_rng(seed)
    codes = [row % len(labels) for row in range(rows)]
    arrays = [np.maximum(array(code, rng, side).astype(int) - shift, 0).astype(np.uint8) for code in codes]
    files = [encode_png(one[:, :, 0] if gray else one) for one in arrays]
    return pa.table({"label": pa.array([labels[code] for code in codes]), "image": pa.array(files, pa.binary())})


def comparison(samples: pa.Table, held_out: pa.Table, **more: Any) -> Comparison:
    """As `evaluate` would ask of the second population."""
    told = {"iteration": 1, "training": None, "labels": LABELS, "recipe": {}, "seed": 7} | more
    return Comparison(samples=samples, held_out=held_out, **told)
