"""Bins of one-way marginals, by column. NumPy only."""

from __future__ import annotations

import numpy as np

from pe_beam.modalities.tabular.columns import Column


def bin_of(codes: np.ndarray, column: Column) -> np.ndarray:
    """Maps codes within bounds to bins, int64. Missing values have a bin after the last."""
    bins = column.marginal_bins
    missing = np.isnan(codes)
    steps = np.where(missing, 0.0, codes - column.low)
    if column.whole:
        found = np.floor(steps * bins / (column.high - column.low + 1))
    else:
        found = np.floor(steps * bins / max(column.high - column.low, np.finfo(float).tiny))
    return np.where(missing, bins, np.clip(found, 0, bins - 1)).astype(np.int64)


def code_in(bins: np.ndarray, within: np.ndarray, column: Column) -> np.ndarray:
    """Maps bins and places within them (0 to 1, float64) to codes; NaN for the bin of missing values."""
    count = column.marginal_bins
    place = (bins + within) / count
    width = column.high - column.low
    # A whole code c is in the bin floor(c * bins / n): the smallest code of a bin is the ceiling of its lower edge.
    if column.whole:
        first, last = np.ceil(bins * (width + 1) / count), np.ceil((bins + 1) * (width + 1) / count) - 1
        codes = column.low + first + np.floor(within * np.maximum(last - first + 1, 1))
    else:
        codes = column.low + place * width
    return np.where(bins >= count, np.nan, np.clip(codes, column.low, column.high))


def uniform_shares(column: Column, missing: float) -> np.ndarray:
    """Returns shares of a column's bins without marginals, (1, bins): by their number of values or their range.

    Args:
      column: the column.
      missing: share of missing values, where they are declared.
    """
    bins = column.marginal_bins
    edges = np.ceil(np.arange(bins + 1) * ((column.high - column.low + 1) / bins)) if column.whole else None
    shares = np.full(bins, 1 / bins) if edges is None else np.diff(edges) / edges[-1]
    if column.missing:
        shares = np.append(shares * (1 - missing), missing)
    return shares[None, :]
