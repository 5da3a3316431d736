"""Where in a bin records lie, from counts of its slices: values that come often, and the shape besides. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pe_beam.measuring.cliques import Clique
from pe_beam.measuring.estimates import LEAST_BINS, levelled
from pe_beam.measuring.shares import shares_of

SEEN = 10.0
"""Standard deviations of a slice's noise that a bin must hold: a value of half of its records is then seen."""
SPIKE = 5.0
"""Standard deviations of noise from which on a slice is a value that comes often, if those beside it have few."""
_CUTS = (0.003, 0.01, 0.03, 0.1, 0.3)  # how likely a cut between two slices is: there are many, and much noise
_ABOVE = 3.0  # times the slices beside it
_SHAPED = 20.0  # variances of noise by which levels are nearer to counts than their mean: else a bin stays even
_ELSEWHERE = 2.0  # standard deviations of noise that records farther away are, at least
_AWAY = 4.0  # times those are farther away: else records may lie close together, in a range that is declared very wide
MOST_CELLS = 1 << 16
"""Slices of all columns together, at most."""


class Sliced(NamedTuple):
    """A column whose bins have slices.

    Attributes:
      column: its position.
      place: its position among all that can be counted: columns first, and then slices of columns.
      bins: how many bins have slices, the first ones.
      slices: of each bin.
      size: number of all slices, and of bins without (missing values), each of which counts as one.
    """

    column: int
    place: int
    bins: int
    slices: int
    size: int

    def told(self, clique: Clique) -> dict[str, list[int] | int]:
        """Returns what says which of its bins a clique of `clique_of` counts in slices, and how many a bin has."""
        first = clique.groups[0][: self.bins * self.slices : self.slices]
        return {"sliced": np.flatnonzero(first).tolist(), "slices": self.slices}


def sliced(sizes: Mapping[str, int], ordered: Mapping[str, int], slices: Mapping[str, int]) -> list[Sliced]:
    """Returns the columns whose bins have slices.

    Args:
      sizes: column -> number of bins, for all columns in order.
      ordered: column -> how many of its first bins lie in an order; these have slices.
      slices: column -> number of slices of a bin, for columns that have some.
    """
    places = {name: place for place, name in enumerate(sizes)}
    return [
        Sliced(
            places[name],
            len(sizes) + at,
            ordered[name],
            each,
            ordered[name] * each + sizes[name] - ordered[name],
        )
        for at, (name, each) in enumerate(slices.items())
    ]


def worth_counting(
    columns: Sequence[Sliced], counts: Sequence[np.ndarray], sigmas: Sequence[float], most: int = MOST_CELLS
) -> list[np.ndarray]:
    """Returns the bins of each column that hold so many records that its slices say something, int64 (n,).

    If there are more slices than `most` in all, bins with the most records are taken.

    Args:
      columns: with slices.
      counts: of each of them float64 (bins,), noisy numbers of records over all labels.
      sigmas: of each of them the standard deviation of the noise on the count of a slice, in records.
      most: number of slices.
    """
    found = [
        (-float(own[place]), at, place)
        for at, (column, own, sigma) in enumerate(zip(columns, counts, sigmas, strict=True))
        for place in range(column.bins)
        if own[place] >= max(SEEN * sigma, 1.0)
    ]
    left, taken = most, []
    for _, at, place in sorted(found):
        if columns[at].slices > left:
            break
        left -= columns[at].slices
        taken.append((at, place))
    return [np.array(sorted(place for own, place in taken if own == at), dtype=np.int64) for at in range(len(columns))]


def clique_of(column: Sliced, bins: np.ndarray, weight: int) -> Clique:
    """Returns the slices of some bins of a column as cells, over all labels; all else of the column is in the first.

    Args:
      column: with slices.
      bins: int64 (n,), rising.
      weight: how often a record counts.
    """
    groups = np.zeros(column.size, dtype=np.int64)
    for at, each in enumerate(bins.tolist()):
        first = 1 + at * column.slices
        groups[each * column.slices : (each + 1) * column.slices] = np.arange(first, first + column.slices)
    return Clique((column.place,), (groups,), False, weight)


def within(
    column: Sliced, groups: np.ndarray, counts: np.ndarray, sigma: float, totals: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where in their bins a column's records lie. Post-processing of released counts.

    Counts of a bin's slices are levelled along their order (`estimates.levelled`), and then are the nearest ones of 0
    or more that add up to the bin's.

    Returns:
      float64 (bins, slices), shares of a bin's records, which add up to 1: equal ones where nothing was counted. Bool
      (bins, slices), where a single value of a slice comes often.

    Args:
      column: with slices.
      groups: int64 (size,), as `clique_of` gives them.
      counts: float64 (groups,), noisy numbers of records.
      sigma: standard deviation of the noise on each, 0 or more.
      totals: float64 (bins,), estimated numbers of records.
    """
    shares = np.full((column.bins, column.slices), 1 / column.slices)
    often = np.zeros(shares.shape, dtype=bool)
    first = groups[: column.bins * column.slices].reshape(shares.shape)[:, 0]
    counted, edge = np.flatnonzero(first), np.zeros((np.count_nonzero(first), 1))
    own = counts[first[counted][:, None] + np.arange(column.slices)]
    levels = levelled(own, sigma, _CUTS) if sigma and len(own) and column.slices >= LEAST_BINS else own
    shaped = _gains(own, levels) > _SHAPED * sigma**2
    for place, level in zip(counted[shaped].tolist(), levels[shaped], strict=True):
        shares[place] = shares_of(level, float(totals[place]))
    before, after = np.hstack([edge, levels[:, :-1]]), np.hstack([levels[:, 1:], edge])
    beside, least = np.maximum(np.maximum(before, after), 0.0), SPIKE * max(sigma, 1.0)
    away = float(totals.sum()) - levels - before - after
    often[counted] = (
        shaped[:, None]
        & (levels > np.maximum(least, _ABOVE * beside))
        & (away > np.maximum(_ELSEWHERE * max(sigma, 1.0), _AWAY * beside))
    )
    return shares, often


def _gains(counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Returns by how much less levels are off than a bin's mean, as sums of squares, float64 (bins,).

    Levels keep some of the noise of many slices, so a bin of a plain shape is nearer to an even one.
    """
    mean = counts.mean(axis=1, keepdims=True)
    found: np.ndarray = ((counts - mean) ** 2).sum(axis=1) - ((counts - levels) ** 2).sum(axis=1)
    return found
