"""Bins of one-way marginals, by column. NumPy only."""

from __future__ import annotations

import numpy as np

from pe_beam.modalities.tabular.columns import Column

_MOST_SLICES = 256  # of a bin
_MOST_CELLS = 1 << 13  # slices of a column
_SLACK = 1e-7  # of a column's range: what float32 may move a value by


def bin_of(codes: np.ndarray, column: Column) -> np.ndarray:
    """Maps codes within bounds to bins, int64. Missing values have a bin after the last."""
    bins = column.marginal_bins
    missing = np.isnan(codes)
    steps = column.steps(np.where(missing, column.low, codes))
    if column.edges is not None:
        found = np.searchsorted(column.edges, steps, side="right") - 1.0
    elif column.stepped:
        found = np.floor(steps * bins / column.distinct)
    else:
        found = np.floor(steps * bins / max(column.high - column.low, np.finfo(float).tiny))
    return np.where(missing, bins, np.clip(found, 0, bins - 1)).astype(np.int64)


def code_in(bins: np.ndarray, within: np.ndarray, column: Column) -> np.ndarray:
    """Maps bins and places within them (0 to 1, float64) to codes; NaN for the bin of missing values."""
    count, low, high = column.marginal_bins, column.low, column.high
    if column.edges is not None:
        first, size = _values_of(bins, column)
        codes = column.at(first + np.minimum(np.floor(within * size), size - 1))
        return np.where(bins >= count, np.nan, np.clip(codes, low, high))
    # Step c is in the bin floor(c * bins / n): the smallest one of a bin is the ceiling of its lower edge.
    if column.stepped:
        distinct = column.distinct
        first, last = np.ceil(bins * distinct / count), np.ceil((bins + 1) * distinct / count) - 1
        codes = column.at(first + np.floor(within * np.maximum(last - first + 1, 1)))
    else:
        codes = low + (bins + within) / count * (high - low)
    return np.where(bins >= count, np.nan, np.clip(codes, low, high))


def uniform_shares(column: Column, missing: float) -> np.ndarray:
    """Returns shares of a column's bins without marginals, (1, bins): by their number of values or their range.

    Bins by ratio have even shares.

    Args:
      column: the column.
      missing: share of missing values, where they are declared.
    """
    bins, equal = column.marginal_bins, column.stepped and column.edges is None
    edges = np.ceil(np.arange(bins + 1) * (column.distinct / bins)) if equal else None
    shares = np.full(bins, 1 / bins) if edges is None else np.diff(edges) / edges[-1]
    if column.missing:
        shares = np.append(shares * (1 - missing), missing)
    return shares[None, :]


def slices_of(column: Column) -> int:
    """Returns how many slices a bin of a roomy column has: one for each value, or equal parts if these are too many."""
    most = max(2, min(_MOST_SLICES, _MOST_CELLS // column.marginal_bins))
    if column.edges is not None:
        return int(min(most, np.diff(column.edges).max()))
    return int(min(most, np.ceil(column.distinct / column.marginal_bins))) if column.stepped else most


def slice_of(codes: np.ndarray, column: Column) -> np.ndarray:
    """Maps codes within bounds to slices, int64: `slices_of` in each bin. Missing values have one after the last."""
    slices, bins = slices_of(column), bin_of(codes, column)
    steps = column.steps(np.where(np.isnan(codes), column.low, codes))
    if column.stepped:
        first, count = _values_of(bins, column)
        within = np.floor((steps - first) * slices / np.maximum(count, 1))
    else:
        width = max(column.high - column.low, np.finfo(float).tiny)
        within = np.floor((steps * column.marginal_bins / width - bins) * slices)
    return bins * slices + np.where(np.isnan(codes), 0, np.clip(within, 0, slices - 1)).astype(np.int64)


def code_of(slices: np.ndarray, within: np.ndarray, column: Column) -> np.ndarray:
    """Maps slices and places within them (0 to 1, float64) to codes; NaN for the slice of missing values."""
    each = slices_of(column)
    bins = slices // each
    if not column.stepped:
        return code_in(bins, (slices - bins * each + within) / each, column)
    first, count = _values_of(bins, column)
    begin, end = _values_in(slices - bins * each, count, each)
    place = np.minimum(begin + np.floor(within * np.maximum(end - begin, 1)), count - 1)
    codes = column.at(first + place)
    return np.where(bins >= column.marginal_bins, np.nan, np.clip(codes, column.low, column.high))


def slice_sizes(column: Column) -> np.ndarray:
    """Returns how much of a bin each slice is, float64 (bins, slices): of a stepped column its values, maybe none."""
    each, bins = slices_of(column), column.marginal_bins
    if not column.stepped:
        return np.ones((bins, each))
    _, count = _values_of(np.arange(bins), column)
    begin, end = _values_in(np.arange(each)[None, :], count[:, None], each)
    sizes: np.ndarray = end - begin
    return sizes


def _values_in(slices: np.ndarray, count: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where slices of a bin of `count` values begin and end, from its first one."""
    return np.ceil(slices * count / each), np.ceil((slices + 1) * count / each)


def _values_of(bins: np.ndarray, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the values of bins begin, in steps from the column's least one, and how many there are."""
    if column.edges is not None:
        own = np.minimum(bins, len(column.edges) - 2)
        return column.edges[own], np.diff(column.edges)[own]
    each = column.distinct / column.marginal_bins
    first = np.ceil(bins * each)
    return first, np.ceil((bins + 1) * each) - first


def likeliest(slices: np.ndarray, column: Column) -> np.ndarray:
    """Returns the code in each slice that comes often if one does, float64.

    It is 0, or else a bound of the column; or else of dates the begin of a year, a month, a day or less, and of numbers
    the one that is written with the fewest digits. Of several it is one in the middle. A value at an edge may be in
    either slice, as vectors are float32, so slices are taken a little wider.
    """
    below = np.nextafter(1.0, 0.0) if column.stepped else 1.0
    low, high = code_of(slices, np.zeros(len(slices)), column), code_of(slices, np.full(len(slices), below), column)
    slack: float | np.ndarray = (column.high - column.low) * _SLACK
    if column.stepped:
        slack = np.floor((column.distinct - 1) * _SLACK) * column.step
    if column.edges is not None:  # bins are equally long in a vector, so the slack of a wide one is larger
        size = _values_of(slices // slices_of(column), column)[1]
        slack = np.floor(size * column.marginal_bins * _SLACK) * column.step
    low = np.maximum(column.nearest(low - slack), column.low)
    high = np.minimum(column.nearest(high + slack), column.high)
    return np.array([_likeliest_in(a, b, column) for a, b in zip(low.tolist(), high.tolist(), strict=True)])


def _likeliest_in(low: float, high: float, column: Column) -> float:
    for special in (0.0, column.low, column.high):
        if low <= special <= high:
            return special
    if column.type in ("date", "datetime"):
        return _begin_in(int(low), int(high), "D" if column.type == "date" else "s")
    return float(column.nearest(np.array(_round_in(low, high))))


def _begin_in(low: int, high: int, unit: str) -> float:
    """Returns the time from `low` to `high`, in days ("D") or seconds ("s"), at which a large unit of time begins."""
    for larger in ("Y", "M", "D", "h", "m"):
        for end in ((low + high) // 2, high):
            begin = np.array(end).astype(f"M8[{unit}]").astype(f"M8[{larger}]").astype(f"M8[{unit}]").astype(np.int64)
            if begin >= low:
                return float(begin)
    return float((low + high) // 2)


def _round_in(low: float, high: float) -> float:
    """Returns the multiple of the largest power of ten that lies from `low` to `high`, the nearest to the middle."""
    middle = low / 2 + high / 2
    most = min(int(np.ceil(np.log10(max(abs(low), abs(high))))), 308)  # the largest one of a float64
    for power in range(most, max(most - 18, -308), -1):  # a float64 has no more digits
        for step in (10.0**power, 10.0**power / 2):
            found = float(f"{round(middle / step) * step:.15g}")
            if low <= found <= high:
                return found
    return middle
