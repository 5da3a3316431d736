"""Principal axes of a set of vectors, for lower bounds of distances (`neighbours`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAMPLE = 32_768
_LEVELS = (8, 4, 2)


def levels_of(dimension: int) -> tuple[int, ...]:
    """Returns the m that are kept: an eighth, a quarter and a half of the dimension; none for a small dimension.

    >>> levels_of(512), levels_of(64)
    ((64, 128, 256), ())
    """
    return tuple(dimension // share for share in _LEVELS) if dimension >= 128 else ()


@dataclass(frozen=True)
class Basis:
    """The coordinate system of the vectors.

    Attributes:
      centre: float64 (d,).
      axes: float64 (d, d / 2), orthonormal columns, the principal ones first; no columns for a small d.
    """

    centre: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> Basis:
        """Returns the principal axes of a sample of float32 (n, d) vectors."""
        step = max(1, len(vectors) // _SAMPLE)
        sample = vectors[::step][:_SAMPLE].astype(np.float64)
        centre = sample.mean(axis=0)
        levels = levels_of(vectors.shape[1])
        if not levels:
            return cls(centre, np.zeros((len(centre), 0)))
        sample -= centre
        _, axes = np.linalg.eigh(sample.T @ sample)
        return cls(centre, np.ascontiguousarray(axes[:, ::-1][:, : levels[-1]]))

    def place(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps float32 (n, d) to heads, float32 (n, d / 2), and norms of the rest by level, float32 (n, levels)."""
        moved = vectors.astype(np.float64) - self.centre
        heads = moved @ self.axes
        whole = (moved * moved).sum(axis=1)
        tails = np.empty((len(moved), len(levels_of(vectors.shape[1]))), np.float32)
        for place, level in enumerate(levels_of(vectors.shape[1])):
            left = whole - (heads[:, :level] ** 2).sum(axis=1)
            tails[:, place] = np.sqrt(np.maximum(left, 0))
        return heads.astype(np.float32), tails
