"""Vectors as 8-bit integers: scales, what rounding takes away, and products, which are exact.

docs/performance.md, "The bound of 8-bit integers", has the derivation. Its letters are the names that are used here.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from pe_beam.contracts.search import UNIT

LONGEST = 1 << 16
"""Numbers of a vector: no sum of so many products overflows, even if a library adds 128 to one side's numbers."""
_MOST = 127
_CUT = 7  # low bits of a scale that are zero: times a number of 7 bits it is exact in float32
_LEAST_SCALE = np.float32(2.0**-100)
_STEP = 128  # vectors rounded at a time: they stay in the cache


def scales_of(vectors: np.ndarray) -> np.ndarray:
    """Returns the least scales with which float32 (n, d) rows fit 8 bits: float32 (n,), of 17 significant bits."""
    largest = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    scales = np.maximum(largest / np.float32(_MOST), _LEAST_SCALE)
    bits = scales.view(np.uint32) + np.uint32((1 << _CUT) - 1)
    rounded_up: np.ndarray = (bits & ~np.uint32((1 << _CUT) - 1)).view(np.float32)
    return rounded_up


def quantise(vectors: np.ndarray, scales: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rounds vectors to multiples of their scales.

    Args:
      vectors: float32 (n, d).
      scales: float32 (n,), of 17 significant bits, at least those of `scales_of`.
      out: int8 (n, d), the multiples.

    Returns:
      Upper bounds of the norms of what rounding took away, float64 (n,).
    """
    lost = np.empty(len(vectors))
    scratch = np.empty((min(_STEP, len(vectors)), vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), _STEP):
        part = slice(start, start + _STEP)
        some, scale = vectors[part], scales[part, None]
        whole = scratch[: len(some)]
        np.multiply(some, 1 / scale, out=whole)
        np.rint(whole, out=whole)  # 127 at most: the quotient is below 127.0001
        out[part] = whole
        whole *= scale  # exact, 7 + 17 bits
        np.subtract(some, whole, out=whole)
        lost[part] = np.einsum("ij,ij->i", whole, whole)
    # Of a float32 sum of d squares of differences that are rounded once each, and of squares that vanish below 2^-126.
    length = vectors.shape[1]
    return np.sqrt(lost) * (1 + (length + 12) * 2 * UNIT) + np.sqrt(length) * 2.0**-63


def raised(values: np.ndarray) -> np.ndarray:
    """Returns float32 numbers that are at least these float64 ones."""
    up: np.ndarray = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return up


def multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    """Writes the products of int8 (n, k) and (t, k) rows to int32 (n, t)."""
    torch._int_mm(left, right.T, out=out)


@functools.lru_cache(maxsize=64)
def exact(length: int, rows: int, columns: int) -> bool:
    """Returns whether `multiply` is exact for the largest numbers and for random ones. A process asks once a shape."""
    rng = np.random.default_rng(17)
    sides = []
    for count in (rows, columns):
        side = rng.integers(-_MOST, _MOST + 1, (count, length), dtype=np.int8)
        side[::2] = np.where(rng.random((len(side[::2]), 1)) < 0.5, _MOST, -_MOST)  # sums as large as can be
        side[1::4] = np.where(rng.random((len(side[1::4]), length)) < 0.5, _MOST, -_MOST)
        sides.append(side)
    out = torch.empty((rows, columns), dtype=torch.int32)
    multiply(torch.from_numpy(sides[0]), torch.from_numpy(sides[1]), out)
    wanted = sides[0].astype(np.float64) @ sides[1].astype(np.float64).T
    return bool((out.numpy() == wanted).all())
