"""Evaluates proposed pairs in float64 on the device, so that few are left for the host."""

from __future__ import annotations

import torch

from pe_beam.contracts.search import UNIT, Frame
from pe_beam.voting.search.torch.lane import on_host
from pe_beam.voting.search.torch.scan import Found

_TERMS = 1 << 25  # float64 numbers at a time: 256 MB


class Refiner:
    """Leaves out pairs that cannot win by the contract's bound for exact products (items 2 and 3).

    Args:
      frame: the candidates.
      votes: number of nearest candidates that each query asks for.
      device: a device with IEEE float64.
    """

    def __init__(self, frame: Frame, votes: int, device: torch.device) -> None:
        self._frame, self._votes = frame, votes
        self._vectors = on_host(frame.vectors).to(device)
        self._norms = on_host(frame.norms).to(device)

    def refine(self, found: Found, placed: torch.Tensor, radii: torch.Tensor) -> Found:
        """Returns the pairs that are left, in the same order.

        Args:
          found: pairs in the order of rows. Columns are positions in the frame.
          placed: float32 (n, d), the queries on the device.
          radii: float64 (n,), their norms.
        """
        counts = torch.bincount(found.rows, minlength=len(placed))
        open_ = torch.nonzero(counts[found.rows] > self._votes).flatten()
        if len(open_) == 0:
            return found
        rows, columns = found.rows[open_], found.columns[open_]
        values, errors = self._values(rows, columns, placed, radii)
        floor = self._floor(rows, values, values - errors, len(placed))
        loses = values + errors < (floor - 2.001 * self._frame.constant_error(radii))[rows]
        keep = torch.ones(len(found.rows), dtype=torch.bool, device=placed.device)
        keep[open_[loses]] = False
        return Found(found.rows[keep], found.columns[keep], found.values[keep])

    def _values(
        self, rows: torch.Tensor, columns: torch.Tensor, placed: torch.Tensor, radii: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ranking values and their bounds, without the constant part: float64 (p,) each."""
        step = max(1, _TERMS // placed.shape[1])
        dots = torch.empty(len(rows), dtype=torch.float64, device=placed.device)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            left = placed[rows[part]].to(torch.float64)
            dots[part] = (left * self._vectors[columns[part]].to(torch.float64)).sum(dim=1)
        half = 0.0 if self._frame.product else 0.5
        norms, sum_error = self._norms[columns], (placed.shape[1] + 8) * 2.0**-53
        near = 0.0 if self._frame.product else sum_error + 2 * UNIT
        errors = ((1.2 * sum_error + 3 * UNIT) * radii[rows] + near * norms) * norms
        return dots - half * norms**2, errors

    def _floor(self, rows: torch.Tensor, values: torch.Tensor, lower: torch.Tensor, count: int) -> torch.Tensor:
        """Returns the least lower bound of the `votes` pairs of each row with the largest values: float64 (count,)."""
        order = torch.argsort(values, descending=True, stable=True)
        order = order[torch.argsort(rows[order], stable=True)]
        _, sizes = torch.unique_consecutive(rows[order], return_counts=True)
        starts = torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
        first = order[torch.arange(len(order), device=rows.device) - starts < self._votes]
        floor = torch.full((count,), torch.inf, dtype=torch.float64, device=rows.device)
        return floor.scatter_reduce_(0, rows[first], lower[first], "amin")
