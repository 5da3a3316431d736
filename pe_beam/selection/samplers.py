"""Weights -> how often each candidate is drawn."""

from __future__ import annotations

import numpy as np


def draw(weights: np.ndarray, quota: int, *, method: str, rng: np.random.Generator) -> np.ndarray:
    """Draws `quota` places among candidates.

    Args:
      weights: float64 (m,); of 0 or more and not all 0 for multinomial and systematic; any for rank.
      quota: how many places.
      method: multinomial (independent draws), systematic (one random start, even steps: each candidate gets
        the floor or the ceiling of its expectation; lower variance), rank (the highest weights, ties to the
        smaller index; more places than candidates go round the ranking again).
      rng: used by multinomial and systematic.

    Returns:
      int64 (m,), summing to quota.

    Raises:
      ValueError: unknown method, or weights that cannot be drawn by.
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
        edges[np.flatnonzero(weights)[-1] :] = quota  # nothing after the last weight may be drawn by rounding
        points = np.ceil(edges - rng.random()).astype(np.int64)
        points = np.clip(points, 0, quota)
        points[np.flatnonzero(weights)[-1] :] = quota
        return np.diff(points, prepend=0)
    raise ValueError(f"method: {method!r} is not multinomial, systematic or rank")
