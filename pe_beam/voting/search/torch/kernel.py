"""The scan of `scan` as a Triton kernel: one program for each row, no synchronisation with the host."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from pe_beam.errors import PeBeamWarning
from pe_beam.voting.search.torch.groups import Left, Right
from pe_beam.voting.search.torch.precision import FLOAT16
from pe_beam.voting.search.torch.scan import Products, scan_operations

try:
    import triton
    import triton.language as tl
except ImportError:  # torch has no Triton for this platform: `scan_operations` is used
    triton = tl = None

_BLOCK = 2048  # products that a program holds at a time
_INTERPRETED = 64  # the same, under TRITON_INTERPRET: small, so that tests see many steps


def there() -> bool:
    """Returns whether Triton is installed."""
    return triton is not None


def works(device: torch.device) -> bool:
    """Returns whether the kernel finds on this device what operations of torch find. If it does not, it says so aloud.

    Triton may be installed and not work: it needs a C compiler, and does not know every device.
    """
    if triton is None:
        return False
    try:
        same = _finds_the_same(device)
        reason = "it finds other pairs than operations of torch"
    except Exception as error:
        same, reason = False, type(error).__name__
    if not same:
        warnings.warn(
            f"execution.search_engine: torch: Triton does not work on {device.type} ({reason}); operations of torch "
            "are used, which are slower",
            PeBeamWarning,
            stacklevel=2,
        )
    return same


def _finds_the_same(device: torch.device) -> bool:
    """Scans random products both ways."""
    count, total, votes = 8, 5000 if device.type == "cuda" else 100, 2
    random = torch.Generator().manual_seed(3)
    scores = (torch.rand((count, total), generator=random) * 50).to(torch.float16).to(device)
    terms, sides = (torch.rand((n, rows), generator=random).to(device) for n, rows in ((6, count), (2, total)))
    left = Left(scores, terms[0], terms[1], terms[2] / 8, terms[3], terms[4], terms[5])
    right = Right((scores, sides[0], sides[1]), 7, total - 3)
    found = []
    for sink in (Sink(count * total, device), None):
        lows = torch.full((votes, count), -torch.inf, device=device)
        products = Products(scores.clone(), left, right, lows, FLOAT16)
        if sink is None:
            parts = scan_operations(products)
            rows, columns = (torch.cat([getattr(part, name) for part in parts]) for name in ("rows", "columns"))
        else:
            scan_rows(products, sink, 0)
            rows, columns = sink.rows[: int(sink.counter)], sink.columns[: int(sink.counter)]
        keep = products.lows.amin(dim=0)[rows]  # the operations pass on what they take lower bounds of as well
        wins = scores[rows.long(), columns.long() - 7].to(torch.float32) >= keep - left.margin[rows]
        found.append(sorted(zip(rows[wins].tolist(), columns[wins].tolist(), strict=True)))
    return found[0] == found[1] and len(found[0]) >= count * votes


class Sink:
    """Room on the device for pairs, and a counter of all that were found, even of those that found no room.

    Args:
      capacity: number of pairs.
      device: a device with Triton.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.rows, self.columns = torch.empty((2, capacity), dtype=torch.int32, device=device)
        self.values = torch.empty(capacity, dtype=torch.float32, device=device)
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)


def scan_rows(products: Products, sink: Sink, first_row: int) -> None:
    """Scans products, whose rows are contiguous, into `sink`. `first_row` is the number of the first row."""
    scores, left, right, lows = products.scores, products.left, products.right, products.lows
    block = min(_BLOCK if scores.is_cuda else _INTERPRETED, triton.next_power_of_2(right.count))
    sides = (left.reach, left.slack, left.bend, left.margin, left.base, right.errors, right.sizes)
    out = (sink.rows, sink.columns, sink.values, sink.counter, sink.capacity)
    _scan[(len(scores),)](
        *(scores, scores.stride(0), *sides, lows, lows.stride(0), *out),
        *(first_row, right.start, right.count, products.precision.rounding, products.precision.least),
        votes=len(lows),
        rounds=products.rounds,
        slots=triton.next_power_of_2(len(lows)),
        block=block,
    )


def _scan_source(  # type: ignore[no-untyped-def]  # noqa: PLR0917  (Triton reads annotations as its own)
    scores,
    stride,
    reach,
    slack,
    bend,
    margin,
    base,
    errors,
    sizes,
    lows,
    low_stride,
    out_rows,
    out_columns,
    out_values,
    counter,
    capacity,
    first_row,
    start,
    count,
    rounding,
    least,
    votes: tl.constexpr,
    rounds: tl.constexpr,
    slots: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0)
    line = scores + row.to(tl.int64) * stride
    slot = tl.arange(0, slots)
    # Slots beyond `votes` hold +inf, so that they are never the worst.
    best = tl.load(lows + slot * low_stride + row, mask=slot < votes, other=float("inf"))
    reach_, slack_ = tl.load(reach + row), tl.load(slack + row)
    bend_, margin_ = tl.load(bend + row), tl.load(margin + row)
    last, last_column = float("inf"), -1
    for _ in range(rounds):
        # The largest product after the last one, in the order (value descending, column ascending).
        tops = tl.full((block,), float("-inf"), tl.float32)
        columns = tl.zeros((block,), tl.int32)
        for at in range(0, count, block):
            column = at + tl.arange(0, block)
            value = tl.load(line + column, mask=column < count, other=float("-inf")).to(tl.float32)
            better = (value > tops) & ((value < last) | ((value == last) & (column > last_column)))
            columns = tl.where(better, column, columns)
            tops = tl.where(better, value, tops)
        top = tl.max(tops, 0)
        top_column = tl.min(tl.where(tops == top, columns, count - 1), 0)
        last, last_column = top, top_column
        size = tl.load(sizes + top_column)
        wide = 2.002 * (reach_ * tl.load(errors + top_column) + (slack_ + bend_ * size) * size)
        lower = top - wide - (rounding * 1.001 + 9.5367431640625e-07) * tl.abs(top)
        worst = tl.argmin(best, 0)
        best = tl.where((slot == worst) & (lower > best), lower, best)
    tl.store(lows + slot * low_stride + row, best, mask=slot < votes)
    floor = tl.maximum(tl.min(best, 0), tl.load(base + row)) - margin_
    floor = tl.maximum((1 - 9.5367431640625e-07) / (1 + rounding) * floor, least)
    for at in range(0, count, block):
        column = at + tl.arange(0, block)
        value = tl.load(line + column, mask=column < count, other=float("-inf")).to(tl.float32)
        wins = (value >= floor) & (column < count)
        hits = tl.sum(wins.to(tl.int32), 0)
        if hits > 0:
            place = tl.atomic_add(counter, hits.to(tl.int64)) + tl.cumsum(wins.to(tl.int32), 0) - 1
            room = wins & (place >= 0) & (place < capacity)
            tl.store(out_rows + place, tl.zeros_like(column) + first_row + row, mask=room)
            tl.store(out_columns + place, column + start, mask=room)
            tl.store(out_values + place, value, mask=room)


_scan: Any = triton.jit(_scan_source) if triton else None
