"""Draws a value that breaks a condition anew, among those that obey it: by how likely they are in its row. NumPy only.

To move it to the nearest allowed value (`constraints.repair`) would heap values there. That is left for what remains:
values of which none that is allowed is likely, sums, and a <= b of one row without `within`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import Constraint, allowed, holds, meets
from pe_beam.modalities.tabular.marginals import bin_of, code_in

DRAWS = 3
"""Uniform numbers of a value: which bin, the place in it, the place in the part of it that is allowed."""
_ROUNDS = 4
_CELLS = 1 << 22  # weights that are computed at a time
_LAST = np.nextafter(1.0, 0.0)
_LEAST = 1e-9  # share of the allowed values below which none of them is likely

Weights = Callable[[int, np.ndarray], np.ndarray]
"""A column's position and rows, int64 (n,) -> float64 (n, bins): how likely its bins are in these rows."""
Places = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""A column's position, bins, int64 (n,), and uniform numbers, float64 (n,) -> codes in them, float64 (n,)."""
Between = Callable[[int, np.ndarray, np.ndarray], np.ndarray | None]
"""A column's position, and two ends, float64 (n,) -> share of each bin between them, (n, bins); None: bins are even."""
Uniforms = Callable[[np.ndarray], np.ndarray]
"""Rows, int64 (n,) -> uniform numbers of their own streams, float64 (n, DRAWS)."""


class _Law(NamedTuple):
    """How likely values are; see `mend`."""

    weights: Weights
    places: Places
    uniforms: Uniforms
    between: Between | None


class _Wrong(NamedTuple):
    """Values of a column that break a constraint.

    Attributes:
      column: its position.
      rows: int64 (n,).
      low, high: float64 (n,), the ends of what is allowed in each row.
      among: float64 (k,), the only codes that are allowed; None: all from `low` to `high`.
    """

    column: int
    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray
    among: np.ndarray | None

    def cut(self, size: int) -> Iterator[_Wrong]:
        """Yields them in pieces of so many rows."""
        for first in range(0, len(self.rows), size):
            own = slice(first, first + size)
            yield self._replace(rows=self.rows[own], low=self.low[own], high=self.high[own])


def mend(
    codes: np.ndarray,
    columns: Mapping[str, Column],
    constraints: Sequence[Constraint],
    *,
    weights: Weights,
    places: Places,
    uniforms: Uniforms,
    between: Between | None = None,
    near: bool = False,
    fixed: frozenset[str] = frozenset(),
) -> None:
    """Draws values anew that are not allowed, in place: those of `then` in rows of which `if` holds.

    A value that is drawn for one constraint may break another one before it, so there are a few rounds.

    Of a <= b the one that is not fixed is drawn, if the other one is; with `within` the second.

    Args:
      codes: float64 (n, m), NaN where a value is missing.
      columns: the declarations of the m columns.
      constraints: the constraints to obey, one after the other.
      weights: of bins, the one for missing values last.
      places: within bins.
      uniforms: of rows.
      between: how much of bins is allowed, if more is known of it than where they begin and end.
      near: whether a value stays in its bin, where that has allowed values: it has moved, and was not drawn.
      fixed: columns whose values stay as they are.
    """
    law = _Law(weights, places, uniforms, between)
    for _ in range(_ROUNDS):
        drawn = [_mended(codes, columns, one, constraints, law, near=near, fixed=fixed) for one in constraints]
        if not any(drawn):
            return


def _mended(
    codes: np.ndarray,
    columns: Mapping[str, Column],
    constraint: Constraint,
    constraints: Sequence[Constraint],
    law: _Law,
    *,
    near: bool,
    fixed: frozenset[str],
) -> bool:
    """Draws values anew that break one constraint, in place. Returns whether there were any."""
    names = list(columns)
    bad = np.flatnonzero(~holds(codes, names, columns, constraint))
    found = _by_condition(codes, bad, names, columns, constraint)
    two = constraint.less_or_equal or ()
    free = [name for name in two if name not in fixed]
    if constraint.within is not None and free:
        name = free[-1]
        first = _between(codes, bad, columns, name, constraints, given=set(names) - {name})
        rest = np.setdiff1d(bad, first.rows)  # others leave it no room; they are drawn after it
        found = [first, _between(codes, rest, columns, name, constraints, given=fixed | set(two) - {name})]
    elif len(free) < len(two):
        found = [_between(codes, bad, columns, name, constraints, given=fixed) for name in free]
    drawn = False
    for wrong in found:
        column = columns[names[wrong.column]]
        for part in wrong.cut(max(1, _CELLS // column.marginal_bins)):
            drawn |= _draw(codes, column, part, law, near=near)
    return drawn


def _draw(codes: np.ndarray, column: Column, part: _Wrong, law: _Law, *, near: bool) -> bool:
    """Draws values of a column anew among those that are allowed, in place. Returns whether some are likely."""
    i = part.column
    own, parts = law.weights(i, part.rows)[:, : column.marginal_bins], _parts(column, part, law.between)
    own = _staying(bin_of(codes[part.rows, i], column), own, parts) if near else own
    edges = np.cumsum(own * parts, axis=1)
    uniform, likely = law.uniforms(part.rows), edges[:, -1] > _LEAST
    bins = (edges <= (uniform[:, 0] * edges[:, -1])[:, None]).sum(axis=1)
    bins = np.minimum(bins, column.marginal_bins - 1)
    drawn = _within(column, part, bins, law.places(i, bins, uniform[:, 1]), uniform[:, 2])
    codes[part.rows[likely], i] = drawn[likely]
    return bool(likely.any())


def _by_condition(
    codes: np.ndarray, bad: np.ndarray, names: list[str], columns: Mapping[str, Column], constraint: Constraint
) -> list[_Wrong]:
    """Returns the values of `then` that are not allowed in rows that break it."""
    found = []
    for name, wanted in (constraint.then or {}).items():
        i, some = names.index(name), allowed(columns[name], wanted)
        rows = bad[~(meets(codes[bad, i], columns[name], wanted) | np.isnan(codes[bad, i]))]
        among = None if isinstance(some, tuple) else np.array(some)
        found.append(_Wrong(i, rows, np.full(len(rows), some[0]), np.full(len(rows), some[-1]), among))
    return found


def _between(
    codes: np.ndarray,
    bad: np.ndarray,
    columns: Mapping[str, Column],
    name: str,
    constraints: Sequence[Constraint],
    *,
    given: Collection[str],
) -> _Wrong:
    """Returns a column's values in some rows, between all given ones that they may not be below or above."""
    own, names = columns[name], list(columns)
    low, high = np.full(len(bad), own.low), np.full(len(bad), own.high)
    for constraint in constraints:
        a, b = constraint.less_or_equal or ("", "")
        far = math.inf if constraint.within is None else constraint.within
        if b == name and a in given:
            other = codes[bad, names.index(a)]
            low, high = (
                np.fmax(low, own.ceiling(other)),
                np.fmin(high, own.floor(other + far) if far < math.inf else high),
            )
        elif a == name and b in given:
            other = codes[bad, names.index(b)]
            low, high = (
                np.fmax(low, own.ceiling(other - far) if far < math.inf else low),
                np.fmin(high, own.floor(other)),
            )
    fits = low <= high
    return _Wrong(names.index(name), bad[fits], low[fits], high[fits], None)


def _parts(column: Column, wrong: _Wrong, between: Between | None) -> np.ndarray:
    """Returns how much of each bin is allowed, float64 (n, bins), from 0 to 1."""
    bins = np.arange(column.marginal_bins)
    if wrong.among is not None:
        some = np.isin(bins, bin_of(wrong.among, column)).astype(np.float64)
        return np.broadcast_to(some, (len(wrong.rows), len(bins)))
    if between is not None and (known := between(wrong.column, wrong.low, wrong.high)) is not None:
        return known
    begin, end = _ends(bins, column)
    sizes = end - begin + column.step
    inside = np.minimum(end, wrong.high[:, None]) - np.maximum(begin, wrong.low[:, None]) + column.step
    found: np.ndarray = np.clip(inside, 0.0, None) / np.where(sizes > 0, sizes, 1.0)
    return found


def _staying(bins: np.ndarray, weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Returns weights with those of the bins that values are in alone, where these have allowed values."""
    there = np.arange(parts.shape[1]) == bins[:, None]
    return np.where((parts * there).sum(axis=1, keepdims=True) > 0, there, weights)


def _ends(bins: np.ndarray, column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Returns the least and the greatest codes of bins, float64 (n,) each."""
    return code_in(bins, np.zeros(len(bins)), column), code_in(bins, np.full(len(bins), _LAST), column)


def _within(column: Column, wrong: _Wrong, bins: np.ndarray, codes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Returns allowed codes: those given, or where they are not allowed even ones in the allowed part of their bin."""
    if wrong.among is not None:
        nearest: np.ndarray = wrong.among[np.abs(codes[:, None] - wrong.among).argmin(axis=1)]
        return nearest
    begin, end = _ends(bins, column)
    begin, end = np.maximum(begin, wrong.low), np.minimum(end, wrong.high)
    even = column.floor(np.minimum(begin + uniform * (end - begin + column.step), end))
    allowed_already = (codes >= wrong.low) & (codes <= wrong.high)
    return np.where(allowed_already, codes, np.clip(even, wrong.low, wrong.high))
