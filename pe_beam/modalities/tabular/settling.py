"""Moves values of a few rows between bins, so that counts of columns come to where they are wanted. NumPy only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

_GAIN = 0.5  # rows by which a move brings counts nearer, at least: a smaller one moves values for nothing
_TRIED = 64  # rows among which one is drawn
_LEAST = 1e-9

Weights = Callable[[np.ndarray], np.ndarray]
"""Rows, int64 (n,) -> float64 (n, bins): how likely each bin of the column is, given the others of the row."""
Move = Callable[[int, int], bool]
"""A row and a bin -> whether the row has it now; a row that would break a constraint has not."""


def settle(
    bins: np.ndarray,
    labels: np.ndarray,
    beyond: np.ndarray,
    *,
    weights: Weights,
    move: Move,
    rng: np.random.Generator,
) -> None:
    """Moves rows out of bins that have too many into bins of the same label that have too few, while counts gain by it.

    Counts by label and over all labels matter alike. Of the rows of a bin one is drawn by how much likelier the other
    bin is for it than its own, so that columns stay together as they do.

    Args:
      bins: int64 (n,), of a column.
      labels: int64 (n,), positions.
      beyond: float64 (labels, bins), by how many rows counts are above what is wanted. Changed in place.
      weights: of the column.
      move: makes a move.
      rng: source of randomness.
    """
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, cell in enumerate(zip(labels.tolist(), bins.tolist(), strict=True)):
        members[cell].append(place)
    stuck = np.ones(beyond.shape, dtype=bool)
    for cell in members:
        stuck[cell] = False
    while (found := _best(beyond, stuck)) is not None:
        label, source, target = found
        row = _drawn(members[label, source], source, target, weights, rng)
        if row is None:
            stuck[label, source] = True
            continue
        members[label, source].remove(row)
        stuck[label, source] = not members[label, source]
        if move(row, target):
            beyond[label, source] -= 1
            beyond[label, target] += 1


def _best(beyond: np.ndarray, stuck: np.ndarray) -> tuple[int, int, int] | None:
    """Returns the label, the bin with too many and the one with too few whose counts gain most by a move, if any do."""
    together = beyond.sum(axis=0)
    out = np.abs(beyond) - np.abs(beyond - 1) + np.abs(together) - np.abs(together - 1)
    into = np.abs(beyond) - np.abs(beyond + 1) + np.abs(together) - np.abs(together + 1)
    out = np.where(stuck, -np.inf, out)
    sources, targets = out.argmax(axis=1), into.argmax(axis=1)
    every = np.arange(len(beyond))
    gains = np.where(sources == targets, -np.inf, out[every, sources] + into[every, targets])
    label = int(gains.argmax())
    return (label, int(sources[label]), int(targets[label])) if gains[label] > _GAIN else None


def _drawn(rows: list[int], source: int, target: int, weights: Weights, rng: np.random.Generator) -> int | None:
    """Returns one of the rows, drawn by its odds of the target; None: it is out of the question for all of them."""
    some = np.array(rows)
    if len(some) > _TRIED:
        some = some[rng.choice(len(some), _TRIED, replace=False)]
    own = weights(some)
    odds = own[:, target] / np.maximum(own[:, source], _LEAST)
    total = odds.sum()
    if not total > _LEAST:
        return None
    at = int(np.searchsorted(np.cumsum(odds), rng.random() * total, side="right"))
    return int(some[min(at, len(some) - 1)])
