"""Where in a bin a value of a column is drawn: evenly, or as counts of its slices have it. NumPy only."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.generator import Within
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.marginals import code_in, code_of, likeliest, slice_sizes, slices_of


class Places:
    """Draws values within the bins of a column.

    Of a slice in which a single value comes often, the likeliest one is drawn (`marginals.likeliest`): what it is
    exactly was not counted, where a slice has several.
    """

    def __init__(self, column: Column, within: Within | None = None) -> None:
        """Takes a column, and what is known of its bins; None: values are even in a bin."""
        self._column = column
        self._even = within is None
        if within is None:
            return
        bins, slices = within.shares.shape
        self._shares = _shares(within.shares, slice_sizes(column))
        cumulative = np.cumsum(self._shares, axis=1)
        cumulative[:, -1] = 1.0
        self._edges = (cumulative + np.arange(bins)[:, None]).ravel()  # rising over all bins
        self._values = np.full(bins * slices, np.nan)
        often = np.flatnonzero(within.often.ravel())
        self._values[often] = likeliest(often, column)

    def codes(self, bins: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Maps bins, int64 (n,), and uniform numbers (0 to below 1, float64) to codes; NaN for missing values."""
        if self._even:
            return code_in(bins, uniform, self._column)
        count = self._column.marginal_bins
        missing = bins >= count
        at = np.where(missing, 0, bins) + uniform
        slices = np.minimum(np.searchsorted(self._edges, at, side="right"), len(self._edges) - 1)
        begin = np.where(slices > 0, self._edges[slices - 1], 0.0)
        part = (at - begin) / np.maximum(self._edges[slices] - begin, np.finfo(float).tiny)
        codes = code_of(slices, np.minimum(part, np.nextafter(1.0, 0.0)), self._column)
        codes = np.where(np.isnan(self._values[slices]), codes, self._values[slices])
        return np.where(missing, np.nan, codes)

    def between(self, low: float, high: float) -> np.ndarray | None:
        """Returns the share of each bin's values that lie from `low` to `high`, float64 (bins,); None: even ones."""
        if self._even:
            return None
        column, slices = self._column, np.arange(len(self._values))
        each, last = slices_of(column), np.nextafter(1.0, 0.0)
        begin = code_of(slices, np.zeros(len(slices)), column)
        end = code_of(slices, np.full(len(slices), last), column)
        sizes = end - begin + column.step
        inside = np.minimum(end, high) - np.maximum(begin, low) + column.step
        parts = np.clip(inside, 0.0, None) / np.where(sizes > 0, sizes, 1.0)
        often = ~np.isnan(self._values)
        parts[often] = (self._values[often] >= low) & (self._values[often] <= high)
        found: np.ndarray = (self._shares * parts.reshape(-1, each)).sum(axis=1)
        return found


def _shares(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns shares of slices, float64 (bins, slices): none of those without values, even ones if all are equal."""
    found = shares * (sizes > 0)
    even = (shares == shares[:, :1]).all(axis=1) | (found.sum(axis=1) == 0)
    found[even] = sizes[even]
    parts: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return parts
