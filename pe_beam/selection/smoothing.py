"""Pools noisy votes of similar candidates, of this and all earlier iterations. It lowers noise and costs no budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_PAIRS = 1 << 18  # of candidates whose nearness is in memory: it does not grow with the square of their number
_COORDINATES = 1 << 16  # of differences at a time: they fit into the cache of a core


@dataclass(frozen=True)
class Round:
    """The noisy votes that one iteration released for one label.

    Attributes:
      vectors: float (m, d), embeddings of the candidates that were voted on.
      noisy: float64 (m,), their noisy votes.
      sigma: standard deviation of the noise, in votes.
      weight: of its votes beside those of the last round; below 1 if they are about older data.
    """

    vectors: np.ndarray
    noisy: np.ndarray
    sigma: float
    weight: float = 1.0


def smoothed_votes(rounds: Sequence[Round], bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the votes of the last round's candidates, pooled with k(x, y) = exp(-|x - y|^2 / (2 bandwidth^2)).

    Let x_i be the candidates of the last round, y_j those of all rounds (the last included) and n_j their noisy
    votes, of a round with weight w. Candidate i gets sum_j w k(x_i, y_j) n_j / sum_l k(x_i, x_l): the votes near it,
    divided by the candidates near it. Draws by these values move the candidates towards the density of the private
    records. As the bandwidth goes to 0, the value becomes n_i. The function reads noisy votes, sigma and candidates
    only.

    Args:
      rounds: at least one, all of the same d. The last one is selected from.
      bandwidth: Euclidean distance in the embedding, above 0.

    Returns:
      float64 (m,) pooled votes and float64 (m,) standard deviations of their noise, both in votes.

    Raises:
      ValueError: there are no rounds, or the bandwidth is not above 0.
    """
    if not rounds or not bandwidth > 0:
        raise ValueError("smoothed_votes: at least one round and a bandwidth above 0")
    own = rounds[-1].vectors
    votes, variance, crowd = np.zeros(len(own)), np.zeros(len(own)), np.zeros(len(own))
    for one in rounds:
        for rows, near in _kernel(own, one.vectors, bandwidth):
            votes[rows] += one.weight * (near * one.noisy).sum(axis=1)
            variance[rows] += (one.weight * one.sigma) ** 2 * (near**2).sum(axis=1)
            if one is rounds[-1]:
                crowd[rows] = near.sum(axis=1)  # at least 1, because a candidate is near itself
    return votes / crowd, np.sqrt(variance) / crowd


def _kernel(a: np.ndarray, b: np.ndarray, bandwidth: float) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields k(a_i, b_j) as float64 (rows, len(b)), for some rows of `a` at a time, and which these are.

    It goes row by row, without BLAS: the bits are the same for every number of threads, and for blocks of any size.
    """
    some, tile = max(_PAIRS // max(len(b), 1), 1), max(_COORDINATES // max(b.shape[1], 1), 1)
    for start in range(0, len(a), some):
        rows = slice(start, min(start + some, len(a)))
        squares = np.empty((rows.stop - start, len(b)))
        for first in range(0, len(b), tile):
            part = slice(first, first + tile)
            _squares(a[rows], b[part], squares[:, part])
        np.divide(squares, -2 * bandwidth**2, out=squares)
        yield rows, np.exp(squares, out=squares)


def _squares(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Writes |a_i - b_j|^2. Each row of `a` is compared with all of `b` in one array, which is used again."""
    wide = b.astype(np.float64)
    apart = np.empty_like(wide)
    for own, row in zip(out, a.astype(np.float64), strict=True):
        np.subtract(wide, row, out=apart)
        np.square(apart, out=apart)
        apart.sum(axis=1, out=own)
