"""Brings noisy votes of a label to the number of votes that is known from elsewhere. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Total(NamedTuple):
    """What is known of the sum of a label's votes.

    Attributes:
      votes: 0 or more.
      variance: of its noise, 0 or more.
    """

    votes: float
    variance: float


def brought_to(noisy: np.ndarray, sigma: float, total: Total) -> np.ndarray:
    """Returns noisy votes moved by an equal amount each, so that they add up to what both say of their sum.

    It is the generalised least squares of votes whose noise is independent and of a sum that is known apart from them.
    Where candidates are many, the noise of their sum can be as large as the sum: pooled votes would then be near 0 for
    nearly all of them, and a few would be drawn for all.

    Args:
      noisy: float64 (m,), of one label.
      sigma: standard deviation of the noise on each, in votes; 0: they stay as they are.
      total: of their sum.

    >>> brought_to(np.array([4.0, -2.0]), 3.0, Total(6.0, 0.0)).tolist()
    [6.0, 0.0]
    """
    variance = len(noisy) * sigma**2
    if not variance:
        return noisy
    moved: np.ndarray = noisy + (total.votes - noisy.sum()) * (variance / (variance + total.variance)) / len(noisy)
    return moved
