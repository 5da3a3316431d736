"""Draws candidates by their weights."""

from __future__ import annotations

import numpy as np


def draw(weights: np.ndarray, quota: int, *, method: str, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each candidate is drawn; the numbers add up to `quota`.

    Args:
      weights: float64 (m,). For multinomial and systematic they are 0 or more and not all 0; for rank any values.
      quota: the number of places.
      method: multinomial (independent draws), systematic (one random start, even steps: each candidate gets
        the floor or the ceiling of its expectation; lower variance), or rank (the highest weights; ties go to the
        smaller index; if there are more places than candidates, the ranking starts again from the top).
      rng: source of randomness for multinomial and systematic. rank does not use it.

    Returns:
      int64 (m,), which adds up to quota.

    Raises:
      ValueError: the method is unknown, or the weights are not allowed for it.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if method == "rank":
        order = np.argsort(-weights, kind="stable")
        draws = np.full(len(weights), quota // len(weights), dtype=np.int64)
        draws[order[: quota % len(weights)]] += 1
        return draws
    total = weights.sum()
    if not (0 < total < np.inf) or weights.min() < 0:
        raise ValueError("weights: 0 or more, finite, not all 0")
    if method == "multinomial":
        return rng.multinomial(quota, weights / total).astype(np.int64)
    if method == "systematic":
        edges = np.cumsum(weights) / total * quota
        edges[-1] = quota
        edges[np.flatnonzero(weights)[-1] :] = quota  # rounding must not draw a candidate after the last weight
        points = np.ceil(edges - rng.random()).astype(np.int64)
        points = np.clip(points, 0, quota)
        points[np.flatnonzero(weights)[-1] :] = quota
        return np.diff(points, prepend=0)
    raise ValueError(f"method: {method!r} is not multinomial, systematic or rank")
