"""Pools noisy votes of similar candidates, of this and all earlier iterations. It lowers noise and costs no budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pe_beam.selection.distances import SquaredDistances, in_halves

_ROWS = 4096  # candidates whose nearness to some others is in memory: it does not grow with the square of their number


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
    votes, variance, crowd = (np.zeros(len(own)) for _ in range(3))
    for start in range(0, len(own), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = SquaredDistances(own[rows])
        for one in rounds:
            near_votes, near_squares, near = _sums(distances, one, bandwidth)
            votes[rows] += one.weight * near_votes
            variance[rows] += (one.weight * one.sigma) ** 2 * near_squares
        crowd[rows] = near  # of the last round; at least 1, because a candidate is near itself
    return votes / crowd, np.sqrt(variance) / crowd


def _sums(distances: SquaredDistances, one: Round, bandwidth: float) -> np.ndarray:
    """Returns float64 (3, rows): sums of k(x_i, y_j) times noisy votes, of its squares, and of itself.

    Some y_j are in memory at a time. The order of summation is NumPy's for all of them at once.
    """

    def total(places: range) -> np.ndarray:
        some = slice(places.start, places.stop)
        near = distances.to(one.vectors[some])
        np.divide(near, -2 * bandwidth**2, out=near)
        np.exp(near, out=near)
        return np.array([(near * one.noisy[some]).sum(axis=1), (near**2).sum(axis=1), near.sum(axis=1)])

    return in_halves(range(len(one.vectors)), total)
