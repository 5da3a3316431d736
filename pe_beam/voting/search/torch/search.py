"""The search among the candidates of one group: tiles of candidates, blocks of queries, pairs that may win."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from pe_beam.voting.search.torch import kernel
from pe_beam.voting.search.torch.devices import Setting
from pe_beam.voting.search.torch.groups import Left, Right, Sides
from pe_beam.voting.search.torch.halves import container
from pe_beam.voting.search.torch.lane import pin, streamed
from pe_beam.voting.search.torch.scan import FOLD, Found, Products, sampled, scan_host, scan_operations, thresholds

MOST_PAIRS = {"host": 1 << 21, "operations": 1 << 22, "triton": 1 << 24}
"""If a scan finds more pairs for a block of queries, the block is halved."""
_ALIGNED = 16
_SAMPLE = 256  # candidates whose products tell about where the best ones are
_ROOM = 4096  # for pairs, beside 4 for each query


@dataclass(frozen=True)
class Proposal:
    """What a group proposes.

    Attributes:
      found: pairs in the order of rows and columns; columns are positions in the frame, on the device.
      lows: the best lower bounds, scaled, float32 (votes, n).
      margin, shift: as in `Left`, float32 (n,).
      unit: what ranking values are multiplied by, float64 (n,).
    """

    found: Found
    lows: torch.Tensor
    margin: torch.Tensor
    shift: torch.Tensor
    unit: torch.Tensor


class GroupSearch:
    """Searches among the candidates of a group. Tiles stay on the device if they fit `budget`.

    Otherwise a CUDA device is sent them from pinned memory, each once for a block of queries, while it works on the one
    before; on other devices they are made anew. All pairs within the bound are passed on from each tile.

    Args:
      sides: makes both sides of the products.
      votes: number of nearest candidates that each query asks for.
      columns: candidates at a time.
      setting: what to work with.
      budget: bytes of the device's memory for candidates.

    Attributes:
      resident_bytes: bytes of the device's memory that are in use between two calls.
    """

    def __init__(self, sides: Sides, *, votes: int, columns: int, setting: Setting, budget: int) -> None:
        self._sides, self._votes, self._setting = sides, votes, setting
        self._multiple = FOLD * _lanes(sides.count) if setting.scan == "host" else _ALIGNED
        row_bytes = sides.width * container(sides.precision).itemsize
        fits = (sides.count + self._multiple) * row_bytes <= budget
        if not fits:
            columns = min(columns, max(self._multiple, budget // 2 // row_bytes))  # two tiles are there at a time
        columns = max(1, columns // self._multiple) * self._multiple
        self._starts = range(0, sides.count, columns)
        self.resident_bytes = (sides.count + self._multiple * len(self._starts)) * row_bytes if fits else 0
        self._resident = [self._made(start) for start in self._starts] if fits else []
        self._pinned = [self._kept(start) for start in self._starts] if setting.streams and not fits else []
        self._sample = sides.right(_spread(sides.count, votes), self._multiple, setting.device)
        self._local = threading.local()

    def search(self, blocks: Iterable[torch.Tensor], radii: torch.Tensor) -> Proposal | None:
        """Returns the pairs that may win; None if they are too many for one call.

        Args:
          blocks: queries in order, float32 (., d) each on the device.
          radii: norms of all of them, float64 (n,).
        """
        left = self._sides.left(blocks, radii, self._setting.device)
        lows = self._no_lows(left)
        bases = [sampled(self._products(left, rows, self._sample, lows)) for rows in self._slices(left)]
        left = self._sides.shifted(left, torch.cat(bases))
        scanned = self._scan_by_kernel(left) if self._setting.scan == "triton" else self._scan_by_lists(left)
        if scanned is None:
            return None
        found, lows = scanned
        keep = torch.nonzero(found.values >= thresholds(lows, left, self._sides.precision)[found.rows]).flatten()
        rows, columns, values = found.rows[keep].long(), found.columns[keep].long(), found.values[keep]
        order = torch.argsort(rows * self._sides.count + columns)
        rows, columns, values = rows[order], columns[order], values[order]
        if self._sides.group.columns is not None:
            columns = torch.from_numpy(self._sides.group.columns).to(columns.device)[columns]
        return Proposal(Found(rows, columns, values), lows, left.margin, left.shift, self._sides.unit(radii))

    def _scan_by_lists(self, left: Left) -> tuple[Found, torch.Tensor] | None:
        """Scans on devices whose pairs come as one list for each product."""
        lists, total = list[Found](), 0
        lows = self._no_lows(left)
        for right in self._tiles():
            for rows in self._slices(left):
                products = self._products(left, rows, right, lows)
                host = self._setting.scan == "host"
                found = scan_host(products) if host else scan_operations(products)
                lists += [Found(each.rows + rows.start, each.columns, each.values) for each in found]
                total += sum(len(each.rows) for each in found)
                if total > MOST_PAIRS[self._setting.scan] and len(left.reach) > 1:
                    return None
        parts = zip(*((each.rows, each.columns, each.values) for each in lists), strict=True)
        return Found(*(torch.cat(part) for part in parts)), lows

    def _scan_by_kernel(self, left: Left) -> tuple[Found, torch.Tensor] | None:
        """Scans without waiting for the device. If pairs found no room, it is repeated with enough."""
        capacity = 4 * len(left.reach) + _ROOM
        while True:
            lows, sink = self._no_lows(left), kernel.Sink(capacity, left.reach.device)
            for right in self._tiles():
                for rows in self._slices(left):
                    kernel.scan_rows(self._products(left, rows, right, lows), sink, rows.start)
            count = int(sink.counter)
            if count <= capacity:
                return Found(sink.rows[:count], sink.columns[:count], sink.values[:count]), lows
            if count > MOST_PAIRS["triton"] and len(left.reach) > 1:
                return None
            capacity = count

    def _products(self, left: Left, rows: slice, right: Right, lows: torch.Tensor) -> Products:
        """Multiplies some queries by a tile, in a buffer of this thread."""
        precision = self._sides.precision
        queries, dtype = left.matrix[rows], torch.float32 if precision.rounding == 0 else container(precision)
        size = len(queries) * len(right.matrix)
        flat: torch.Tensor | None = getattr(self._local, "flat", None)
        if flat is None or len(flat) < size:
            flat = self._local.flat = torch.empty(size, dtype=dtype, device=queries.device)
        scores = flat[:size].view(len(queries), len(right.matrix))
        self._setting.multiply(queries, right.matrix, scores)
        return Products(scores, left.part(rows), right, lows[:, rows], precision)

    def _no_lows(self, left: Left) -> torch.Tensor:
        shape = (self._votes, len(left.reach))
        return torch.full(shape, -torch.inf, dtype=torch.float32, device=left.reach.device)

    def _slices(self, left: Left) -> list[slice]:
        step = self._setting.rows
        return [slice(start, start + step) for start in range(0, len(left.reach), step)]

    def _made(self, start: int) -> Right:
        stop = min(start + self._starts.step, self._sides.count)
        return self._sides.right(slice(start, stop), self._multiple, self._setting.device)

    def _kept(self, start: int) -> Right:
        made = self._made(start)
        return replace(made, tensors=[pin(tensor, self._setting.device) for tensor in made.tensors])

    def _tiles(self) -> Iterator[Right]:
        if self._resident:
            return iter(self._resident)
        if self._pinned:
            sent = streamed([tile.tensors for tile in self._pinned], self._setting.device)
            return (replace(tile, tensors=tensors) for tile, tensors in zip(self._pinned, sent, strict=True))
        return (self._made(start) for start in self._starts)


def _spread(count: int, votes: int) -> np.ndarray:
    """Returns positions of a sample of the candidates, spread evenly."""
    size = min(count, max(2 * votes, min(_SAMPLE, -(-count // 4))))
    return np.linspace(0, count - 1, size).astype(np.int64)


def _lanes(count: int) -> int:
    """Returns how many columns of a fold should be neighbours: vector instructions want 32, few candidates less."""
    return 32 if count >= 2048 else 8 if count >= 128 else 1
