"""Engine `int8`: products of 8-bit integers (VNNI, AMX), which are exact, with a proven bound for each pair.

x' and y' are rounded to multiples of scales, x^ = s xi and y^ = t yi. The product p = xi.yi is an exact integer, so
only what rounding took away is in doubt, and its norms are measured: x'.y' is at most s t p + |x^||e_y| + |e_x||y'|.
The derivation is in docs/performance.md, "The bound of 8-bit integers".

Candidates of similar scale and norm form groups of GROUP. A group has one scale, so the maximum of its products bounds
the scores of all its members, and the scan is one pass at the speed of the cache.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from pe_beam.contracts.search import UNIT, Frame, Pairs
from pe_beam.errors import PeBeamWarning
from pe_beam.voting.search import integers
from pe_beam.voting.search.bounded import MOST_PAIRS, BoundedProposer
from pe_beam.voting.search.cpu import multiplies_integers
from pe_beam.voting.search.integers import quantise, raised, scales_of
from pe_beam.voting.search.scan import floor_of, raise_lows, taken

GROUP = 16
"""Candidates of a group."""
_ROWS, _GROUPS = 256, 32  # multiplied at a time: what comes out, 512 kB, stays in the cache of a core
_MULTIPLE = 16  # a row's length is filled up to a multiple of this
_CROWD, _FEW = 0.25, 64  # share of the groups, and their number, from which on a query is left to `blas`
_SIZES, _ALIKE = 8, 1024  # candidates are sorted by so many sizes of scales, and by norms among so many or more


@dataclass(frozen=True)
class _Strip:
    """Groups that are multiplied at a time: int8 (GROUP * w, k), member l of group g in row l * w + g."""

    matrix: torch.Tensor
    start: int  # first group, within the tile
    width: int


@dataclass(frozen=True)
class _Tile:
    """Groups whose products are there at a time. All arrays have one entry for each of its g groups.

    Attributes:
      strips: their members.
      scales: t, float32 (g,).
      terms: largest -(1/2 - b)|y'|^2, P and Q of the members: float32 (3, g).
      spread: by how much the first of them is larger than the least: float32 (g,).
      columns: positions of the members in the frame, int64 (g, GROUP).
      real: bool (g, GROUP), False for copies that fill up the last group.
      starts, widths: int64 (g,): where members' products are, `_Products.members`.
    """

    strips: list[_Strip]
    scales: np.ndarray
    terms: np.ndarray
    spread: np.ndarray
    columns: np.ndarray
    real: np.ndarray
    starts: np.ndarray
    widths: np.ndarray


@dataclass(frozen=True)
class _Left:
    """Queries.

    Attributes:
      placed, radii: as they were given.
      matrix: int8 (n, k).
      scales: s, float32 (n,).
      terms: 1, X and w, float32 (n, 3).
    """

    placed: np.ndarray
    radii: np.ndarray
    matrix: torch.Tensor
    scales: np.ndarray
    terms: np.ndarray


@dataclass(frozen=True)
class _Products:
    """Products of n queries and a tile.

    Attributes:
      left, tile: what is multiplied.
      flat: int32, the products: for each strip (n, GROUP, w).
      tops: the largest product of each group, int32 (n, g).
      upper: bounds of the scores of all members of a group, float32 (n, g).
    """

    left: _Left
    tile: _Tile
    flat: np.ndarray
    tops: np.ndarray
    upper: np.ndarray

    def members(self, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Returns the products of all members of some groups, int64 (p,), with queries, int64 (p,): (p, GROUP)."""
        return self.member(rows[:, None], groups[:, None], np.arange(GROUP))

    def member(self, rows: np.ndarray, groups: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Returns the product of one member of each group."""
        starts, widths = self.tile.starts[groups], self.tile.widths[groups]
        first = len(self.upper) * GROUP * starts + groups - starts
        return self.flat.take(first + (rows * GROUP + member) * widths)


class Int8Proposer(BoundedProposer):
    """Bounds all scores by products of 8-bit integers, and computes those that may win.

    Where the CPU has no instructions for such products, or they are not exact, `blas` answers, and a warning says so.

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      tile: candidates at a time. Tile and block together bound memory.
    """

    def __init__(self, frame: Frame, *, votes: int, tile: int) -> None:
        super().__init__(frame, votes=votes, tile=tile)
        length = -(-frame.vectors.shape[1] // _MULTIPLE) * _MULTIPLE
        self._length, self._local = length, threading.local()
        if not usable(length):
            warnings.warn(
                f"execution.search_engine: int8: this CPU does not multiply {length} numbers of 8 bits exactly and "
                "fast; blas is used",
                PeBeamWarning,
                stacklevel=2,
            )
            return
        self.pays = bool(frame.safe(np.array([frame.largest]))[0])
        if self.pays:
            self._weight = 0.0 if frame.product else 0.5 - 7 * UNIT  # 1/2 - b
            self._prepare(max(1, tile // GROUP))

    def _prepare(self, step: int) -> None:
        """Groups the candidates, and rounds them. A tile has at most `step` groups."""
        frame = self._frame
        scales = scales_of(frame.vectors)
        rank = np.empty(len(scales), np.int64)
        rank[np.argsort(scales)] = np.arange(len(scales))
        size = rank // max(_ALIKE, -(-len(scales) // _SIZES))
        order = np.lexsort((np.where(size % 2, frame.norms, -frame.norms), size))  # down and up: no jump between sizes
        groups = -(-len(order) // GROUP)
        columns = np.append(order, np.repeat(order[-1], groups * GROUP - len(order))).reshape(groups, GROUP)
        real = (np.arange(groups * GROUP) < len(order)).reshape(groups, GROUP)
        scales = scales[columns].max(axis=1)
        self._errors = np.empty(len(order))  # P of each candidate
        self._tiles = [
            self._made(columns[part], real[part], scales[part])
            for part in (slice(start, start + step) for start in range(0, groups, step))
        ]

    def _made(self, columns: np.ndarray, real: np.ndarray, scales: np.ndarray) -> _Tile:
        frame, count = self._frame, len(columns)
        strips, starts, widths = [], np.empty(count, np.int64), np.empty(count, np.int64)
        for start in range(0, count, _GROUPS):
            part = slice(start, min(start + _GROUPS, count))
            width = part.stop - start
            members = columns[part].T.ravel()
            matrix = np.zeros((len(members), self._length), dtype=np.int8)
            vectors = frame.vectors[members]
            lost = quantise(vectors, np.tile(scales[part], GROUP), matrix[:, : vectors.shape[1]])
            self._errors[members] = (lost + 5 * UNIT * (frame.norms[members] + lost)) * (1 + 8 * UNIT)
            strips.append(_Strip(torch.from_numpy(matrix), start, width))
            starts[part], widths[part] = start, width
        norms = frame.norms[columns]
        base = -self._weight * norms**2
        terms = raised(np.stack([base.max(axis=1), self._errors[columns].max(axis=1), norms.max(axis=1)]))
        spread = np.ptp(base, axis=1).astype(np.float32)
        return _Tile(strips, scales, terms, spread, columns, real, starts, widths)

    def _left(self, placed: np.ndarray, radii: np.ndarray) -> _Left:
        matrix = np.zeros((len(placed), self._length), dtype=np.int8)
        scales = scales_of(placed)
        lost = quantise(placed, scales, matrix[:, : placed.shape[1]])
        slack = (lost + 3 * UNIT * radii) * (1 + 8 * UNIT)
        terms = np.stack([np.ones(len(placed)), radii + lost, slack], axis=1)
        return _Left(placed, radii, torch.from_numpy(matrix), scales, raised(terms))

    def _bounded(self, placed: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, Pairs | None]:
        left = self._left(placed, radii)
        margin = 2 * self._frame.constant_error(radii)
        lows = np.full((self._votes, len(placed)), -np.inf)
        crowded = np.zeros(len(placed), dtype=bool)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for tile in self._tiles:
            products = self._multiplied(left, tile)
            floor = floor_of(lows, margin)
            active = np.flatnonzero(products.upper.max(axis=1) >= floor)
            if len(active) == 0:
                continue
            upper = products.upper if len(active) == len(placed) else products.upper[active]
            lows[:, active] = self._raised(lows[:, active], floor[active], active, upper, products)
            floor = floor_of(lows, margin)
            open_ = upper >= floor[active, None]
            crowded[active] |= np.count_nonzero(open_, axis=1) > max(_CROWD * open_.shape[1], _FEW, 8 * self._votes)
            if crowded.any():
                open_ &= ~crowded[active, None]
            found.append(self._opened(open_, active, floor, products))
            if len(placed) > 1 and sum(len(rows) for rows, _, _ in found) > MOST_PAIRS:
                return crowded, None
        rows, columns, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        kept = (values >= floor_of(lows, margin)[rows]) & ~crowded[rows]
        return crowded, self._narrow(rows[kept], columns[kept], placed, radii, margin)

    def _multiplied(self, left: _Left, tile: _Tile) -> _Products:
        count, groups = len(left.scales), len(tile.scales)
        flat: torch.Tensor | None = getattr(self._local, "flat", None)
        if flat is None or len(flat) < count * groups * GROUP:
            flat = self._local.flat = torch.empty(count * groups * GROUP, dtype=torch.int32)
        tops = torch.empty((count, groups), dtype=torch.int32)
        for strip in tile.strips:
            size = count * GROUP * strip.width
            whole = flat[count * GROUP * strip.start :][:size].view(count, GROUP * strip.width)
            for start in range(0, count, _ROWS):
                rows = slice(start, min(start + _ROWS, count))
                out = whole[rows]
                integers.multiply(left.matrix[rows], strip.matrix, out)
                into = tops[rows, strip.start : strip.start + strip.width]
                torch.amax(out.view(len(out), GROUP, strip.width), dim=1, out=into)
        upper: np.ndarray = tops.to(torch.float32).numpy()
        upper *= tile.scales
        upper *= left.scales[:, None]
        upper += left.terms @ tile.terms
        return _Products(left, tile, flat.numpy(), tops.numpy(), upper)

    def _raised(
        self, lows: np.ndarray, floor: np.ndarray, active: np.ndarray, upper: np.ndarray, products: _Products
    ) -> np.ndarray:
        """Returns the best lower bounds of some queries, float64 (votes, a), after whole products of likely pairs."""
        left, tile = products.left, products.tile
        groups, likely = taken(upper - tile.spread, self._votes)
        vote, at = np.nonzero(likely >= floor)
        rows, groups = active[at], groups[vote, at]
        best = products.members(rows, groups).argmax(axis=1)
        value, error = self._whole(rows, tile.columns[groups, best], left.placed, left.radii)
        lower = np.full(likely.shape, -np.inf)
        lower[vote, at] = value - error
        return raise_lows(lows, lower)

    def _opened(
        self, open_: np.ndarray, active: np.ndarray, floor: np.ndarray, products: _Products
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns queries, candidates and upper bounds of the members of open groups that may win.

        A member whose product is smaller than its group's largest by q has a bound that is smaller by s t q.
        """
        left, tile = products.left, products.tile
        at, groups = np.divmod(np.flatnonzero(open_), open_.shape[1])
        rows = active[at]
        units = left.scales[rows].astype(np.float64) * tile.scales[groups]
        room = (products.upper[rows, groups].astype(np.float64) - floor[rows]) / units
        least = np.floor(np.maximum(products.tops[rows, groups] - room, -(2.0**31) + 2)).astype(np.int32) - 1
        hit = np.flatnonzero((products.members(rows, groups) >= least[:, None]) & tile.real[groups])
        which, member = np.divmod(hit, GROUP)
        rows, groups, units = rows[which], groups[which], units[which]
        columns = tile.columns[groups, member]
        norms = self._frame.norms[columns]
        values = products.member(rows, groups, member) * units + left.terms[rows, 1] * self._errors[columns]
        values += (left.terms[rows, 2] - self._weight * norms) * norms
        kept = values >= floor[rows]
        return rows[kept], columns[kept], values[kept]


def usable(length: int) -> bool:
    """Returns whether this CPU multiplies rows of this length fast and exactly."""
    if length > integers.LONGEST or not multiplies_integers():
        return False
    return integers.exact(length, _ROWS, GROUP * _GROUPS) and integers.exact(length, 3, GROUP)
