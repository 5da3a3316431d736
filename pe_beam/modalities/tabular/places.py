"""Where in a bin a value of a column is drawn: evenly, or as counts of its slices have it. NumPy only."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.generator import Within
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.marginals import bin_of, code_in, code_of, likeliest, slice_of, slice_sizes, slices_of


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

    def between(self, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
        """Returns how much of each bin's values lies between two ends; None: they are even in a bin.

        Args:
          low, high: float64 (n,), the ends, which count as well.

        Returns:
          float64 (n, bins), from 0 to 1.
        """
        if self._even:
            return None
        bins = np.arange(self._column.marginal_bins)
        first, last = bin_of(low, self._column)[:, None], bin_of(high, self._column)[:, None]
        below, up_to = self._up_to(low, inclusive=False)[:, None], self._up_to(high, inclusive=True)[:, None]
        ends = np.where(bins == last, up_to, bins < last) - np.where(bins == first, below, bins < first)
        found: np.ndarray = np.clip(ends, 0.0, 1.0)
        return found

    def _up_to(self, codes: np.ndarray, *, inclusive: bool) -> np.ndarray:
        """Returns the share of the values of a code's bin that are below it (`inclusive`: or equal), float64 (n,)."""
        column, step = self._column, self._column.step
        slices = slice_of(codes, column)
        begin = code_of(slices, np.zeros(len(slices)), column)
        sizes = code_of(slices, np.full(len(slices), np.nextafter(1.0, 0.0)), column) - begin + step
        part = np.clip((codes - begin + (step if inclusive else 0.0)) / np.where(sizes > 0, sizes, 1.0), 0.0, 1.0)
        often = self._values[slices]
        part = np.where(np.isnan(often), part, often <= codes if inclusive else often < codes)
        before = self._edges[slices] - slices // slices_of(column) - self._shares.ravel()[slices]
        found: np.ndarray = before + part * self._shares.ravel()[slices]
        return found


def _shares(shares: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns shares of slices, float64 (bins, slices): none of those without values, even ones if all are equal."""
    found = shares * (sizes > 0)
    even = (shares == shares[:, :1]).all(axis=1) | (found.sum(axis=1) == 0)
    found[even] = sizes[even]
    parts: np.ndarray = found / found.sum(axis=1, keepdims=True)
    return parts
