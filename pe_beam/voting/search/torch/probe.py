"""Multiplies numbers with known sums on a device, and refuses it if they are worse than the bound assumes.

The bound rests on `Precision.sum_error`. The probe is evidence for it, not a proof: it tries sums that show each way
in which a unit may cut an accumulator short. A unit that is as exact as assumed reaches 0.67 of the bound at most
(what is added is just below the last bit, and lost each time); one with a bit less exceeds it.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from pe_beam.voting.search.torch.devices import Multiply
from pe_beam.voting.search.torch.groups import scales_of
from pe_beam.voting.search.torch.halves import container, rounded
from pe_beam.voting.search.torch.precision import Precision

ALLOWED = 0.8
"""Share of the bound that a measured error may reach."""


@functools.lru_cache(maxsize=64)
def honest(
    device: torch.device, precision: Precision, length: int, multiply: Multiply, shapes: tuple[tuple[int, int], ...]
) -> bool:
    """Returns whether all measured errors are within `ALLOWED` of the bound. Each process asks a device once.

    Args:
      device, precision, multiply: what is probed.
      length: number of terms of a sum.
      shapes: numbers of rows and columns, because libraries have other kernels for other shapes.
    """
    return all(
        measure(device, precision, length, multiply, rows=rows, columns=columns) <= ALLOWED for rows, columns in shapes
    )


def measure(
    device: torch.device, precision: Precision, length: int, multiply: Multiply, *, rows: int, columns: int
) -> float:
    """Returns the largest error, as a share of the bound, over all pairs of `lefts` and `rights`.

    Args:
      device, precision, length, multiply: as in `honest`.
      rows, columns: shape of the product. The known sums are spread over it.
    """
    rng = np.random.default_rng(17)
    sides, places = [], []
    for vectors, count in ((lefts(length, precision), rows), (rights(length, precision), columns)):
        side = torch.from_numpy(rng.standard_normal((count, length)).astype(np.float32))
        place = np.unique(np.linspace(0, count - 1, min(count, len(vectors))).astype(np.int64))
        chosen = rng.permutation(len(vectors))[: len(place)] if count < len(vectors) else np.arange(len(place))
        side[place] = torch.from_numpy(vectors[chosen].astype(np.float32))
        sides.append(rounded(side, precision).to(container(precision)).to(device))
        places.append(place)
    dtype = torch.float32 if precision.rounding == 0 else container(precision)
    out = torch.empty((rows, columns), dtype=dtype, device=device)
    multiply(sides[0], sides[1], out)
    index = np.ix_(*places)
    got = out.cpu().to(torch.float64).numpy()[index]
    left, right = (side.cpu().to(torch.float64).numpy()[place] for side, place in zip(sides, places, strict=True))
    wanted, sizes = left @ right.T, np.abs(left) @ np.abs(right).T
    allowed = precision.sum_error(length) * sizes
    error = np.abs(got - wanted) - precision.rounding * np.abs(wanted) * 1.001 - precision.step - 2.0**-100
    share = float(np.max(error / np.maximum(allowed, 2.0**-126)))
    return share if np.isfinite(share) else np.inf


def lefts(length: int, precision: Precision) -> np.ndarray:
    """Returns left sides: ones and small numbers around two large ones, and random numbers. float64 (., length)."""
    rng = np.random.default_rng(5)
    rows = []
    for small in (1.0, 2.0**-4, 2.0**-8, 2.0**-12):
        row = np.full(length, small)
        row[[*_ends(length)]] = 1
        rows.append(row)
    rows += [np.abs(rng.standard_normal(length)), rng.standard_normal(length)]
    rows += [np.full(length, 1 + 2.0**-cut * 0.98) for cut in (8, 9, 11, 12, 16)]  # what a shorter format would cut
    return _exact(np.stack(rows), precision)


def rights(length: int, precision: Precision) -> np.ndarray:
    """Returns right sides: a large number that small ones are added to, which may be taken away again at the end."""
    rng = np.random.default_rng(6)
    first, middle, last = _ends(length)
    below = 1 - 2.0 ** (1 - precision.bits)  # all bits set: as much is cut as can be
    rows = []
    for exponent in range(0, 14):
        small = 2.0**-exponent * below
        for large, again in ((first, last), (first, None), (middle, last), (last, None)):
            row = np.full(length, small)
            row[large] = 1
            if again is not None:
                row[again] = -1
            rows.append(row)
        rows.append(rows[-4] * np.where(rng.random(length) < 0.5, -1, 1))
    rows += [np.abs(rng.standard_normal(length)), rng.standard_normal(length), np.ones(length)]
    rows.append(2.0 ** -(np.arange(length) % 24))
    return _exact(np.stack(rows), precision)


def _ends(length: int) -> tuple[int, int, int]:
    return 0, length // 2, length - 1


def _exact(rows: np.ndarray, precision: Precision) -> np.ndarray:
    """Returns the rows in the format, scaled as the engine scales vectors."""
    rows = rows * scales_of(torch.from_numpy(np.linalg.norm(rows, axis=1))).numpy()[:, None]
    return rounded(torch.from_numpy(rows.astype(np.float32)), precision).to(torch.float64).numpy()
