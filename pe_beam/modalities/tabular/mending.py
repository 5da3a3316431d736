"""Draws a value that breaks a condition anew, among those that obey it: by how likely they are in its row. NumPy only.

To move it to the nearest allowed value (`constraints.repair`) would heap values there. That is left for what remains:
values of which none that is allowed is likely, sums, and a <= b, where the real difference is often small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import Constraint, allowed, holds, meets
from pe_beam.modalities.tabular.marginals import bin_of, code_in

DRAWS = 3
"""Uniform numbers of a value: which bin, the place in it, the place in the part of it that is allowed."""
_CELLS = 1 << 22  # weights that are computed at a time
_LAST = np.nextafter(1.0, 0.0)
_LEAST = 1e-9  # share of the allowed values below which none of them is likely

Weights = Callable[[int, np.ndarray], np.ndarray]
"""A column's position and rows, int64 (n,) -> float64 (n, bins): how likely its bins are in these rows."""
Places = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""A column's position, bins, int64 (n,), and uniform numbers, float64 (n,) -> codes in them, float64 (n,)."""
Uniforms = Callable[[np.ndarray], np.ndarray]
"""Rows, int64 (n,) -> uniform numbers of their own streams, float64 (n, DRAWS)."""


def mend(
    codes: np.ndarray,
    columns: Mapping[str, Column],
    constraints: Sequence[Constraint],
    *,
    weights: Weights,
    places: Places,
    uniforms: Uniforms,
    near: bool = False,
) -> None:
    """Draws the values of `then` anew that are not allowed in rows of which `if` holds, in place.

    Args:
      codes: float64 (n, m), NaN where a value is missing.
      columns: the declarations of the m columns.
      constraints: the constraints to obey, one after the other.
      weights: of bins, the one for missing values last.
      places: within bins.
      uniforms: of rows.
      near: whether a value stays in its bin, where that has allowed values: it has moved, and was not drawn.
    """
    names = list(columns)
    for constraint in constraints:
        bad = np.flatnonzero(~holds(codes, names, columns, constraint)) if constraint.then else np.empty(0, np.int64)
        for name, wanted in (constraint.then or {}).items():
            i, column = names.index(name), columns[name]
            rows = bad[~(meets(codes[bad, i], column, wanted) | np.isnan(codes[bad, i]))]
            size, parts = max(1, _CELLS // column.marginal_bins), _parts(column, wanted)
            for part in (rows[first : first + size] for first in range(0, len(rows), size)):
                own = weights(i, part)[:, : column.marginal_bins]
                own = _staying(bin_of(codes[part, i], column), own, parts) if near else own
                edges = np.cumsum(own * parts, axis=1)
                uniform, likely = uniforms(part), edges[:, -1] > _LEAST
                bins = (edges <= (uniform[:, 0] * edges[:, -1])[:, None]).sum(axis=1)[likely]
                uniform = uniform[likely]
                codes[part[likely], i] = _within(column, wanted, bins, places(i, bins, uniform[:, 1]), uniform[:, 2])


def _parts(column: Column, wanted: object) -> np.ndarray:
    """Returns how much of each bin is allowed, float64 (bins,), from 0 to 1."""
    some, bins = allowed(column, wanted), np.arange(column.marginal_bins)
    if not isinstance(some, tuple):
        return np.isin(bins, bin_of(np.array(some), column)).astype(np.float64)
    begin, end = _ends(bins, column)
    sizes = end - begin + column.step
    own = np.minimum(end, some[1]) - np.maximum(begin, some[0]) + column.step
    found: np.ndarray = np.clip(own, 0.0, None) / np.where(sizes > 0, sizes, 1.0)
    return found


def _staying(bins: np.ndarray, weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Returns weights with those of the bins that values are in alone, where these have allowed values."""
    return np.where((parts[bins] > 0)[:, None], np.arange(len(parts)) == bins[:, None], weights)


def _ends(bins: np.ndarray, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Returns the least and the greatest codes of bins, float64 (n,) each."""
    return code_in(bins, np.zeros(len(bins)), column), code_in(bins, np.full(len(bins), _LAST), column)


def _within(column: Column, wanted: object, bins: np.ndarray, codes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Returns allowed codes: those given, or where they are not allowed even ones in the allowed part of their bin."""
    some = allowed(column, wanted)
    if not isinstance(some, tuple):
        among = np.array(some)
        nearest: np.ndarray = among[np.abs(codes[:, None] - among).argmin(axis=1)]
        return nearest
    begin, end = _ends(bins, column)
    begin, end = np.maximum(begin, some[0]), np.minimum(end, some[1])
    even = column.floor(np.minimum(begin + uniform * (end - begin + column.step), end))
    return np.where(meets(codes, column, wanted), codes, np.clip(even, *some))
