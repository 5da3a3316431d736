"""Where in a bin a value of a column is drawn: evenly, or as counts of its slices have it. NumPy only."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.generator import Within
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.marginals import code_in, code_of, roundest


class Places:
    """Draws values within the bins of a column.

    Of a slice in which a single value comes often, the value is drawn that is written with the fewest digits: what it
    is exactly was not counted, where a slice has several.
    """

    def __init__(self, column: Column, within: Within | None = None) -> None:
        """Takes a column, and what is known of its bins; None: values are even in a bin."""
        self._column = column
        self._even = within is None
        if within is None:
            return
        bins, slices = within.shares.shape
        cumulative = np.cumsum(within.shares, axis=1)
        cumulative[:, -1] = 1.0
        self._edges = (cumulative + np.arange(bins)[:, None]).ravel()  # rising over all bins
        self._values = np.full(bins * slices, np.nan)
        often = np.flatnonzero(within.often.ravel())
        self._values[often] = roundest(often, column)

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
