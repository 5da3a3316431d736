"""Both sides of a product: candidates in groups of similar norms, and queries, with the columns that carry the bound.

A product is the *upper bound* of the scaled ranking value (docs/performance.md, "The bound of half precision"):

    left   x^ | X | w | h | h | h   | 1                                       | -v
    right  y^ | P | Q | -n in parts | 0, or -2^15 in a row that only fills up | 1

It is U = x^.y^ + X P + w Q - h n, and the lower bound is U - 2 (X P + w Q + b h Q^2). v is a number of the query below
which nothing wins: it follows from a sample of the candidates. So whatever may win is positive, and near 0, where half
precision rounds least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from pe_beam.contracts.search import UNIT, Frame
from pe_beam.voting.search.torch.halves import container, halve, raised, rounded, split
from pe_beam.voting.search.torch.lane import on_host
from pe_beam.voting.search.torch.precision import Precision

_PARTS = 3
EXTRA = _PARTS + 4  # columns of the bound
_MULTIPLE = 16  # 32 bytes, which matrix units want rows to be aligned to
_TOP = 7  # scaled norms are below 2^7, so products are below 2^14 and half precision holds every sum
_FAR = 100  # largest exponent of a scale
_OUTSIDE = -(2.0**15)  # below every sum of a real candidate: those are above -2^14 - 2^13


def width(dimension: int) -> int:
    """Returns the number of columns of both sides.

    >>> width(768)
    784
    """
    return -(-(dimension + EXTRA) // _MULTIPLE) * _MULTIPLE


def scales_of(norms: torch.Tensor) -> torch.Tensor:
    """Returns the power of two that brings each norm, float64, into [64, 128), or as near as 2^100 does.

    >>> scales_of(torch.tensor([1.0, 127.9, 1e-50], dtype=torch.float64)).log2().tolist()
    [6.0, 0.0, 100.0]
    """
    exponents = (norms.view(torch.int64) >> 52) - 1022  # norms are below 2^exponent
    return ((_TOP - exponents).clamp(-_FAR, _FAR) + 1023 << 52).view(torch.float64)


@dataclass(frozen=True)
class Group:
    """Candidates whose norms are within a factor of 2^span.

    Attributes:
      columns: int64 (g,), their positions in the frame, ascending; None for all of them.
      scale: power of two that brings the largest norm into [64, 128).
      largest: the largest norm.
    """

    columns: np.ndarray | None
    scale: float
    largest: float


def groups_of(norms: np.ndarray, span: int) -> list[Group]:
    """Divides candidates by the exponents of their norms, float64 (m,). Usually there is one group."""
    exponents = np.frexp(norms)[1]
    exponents[norms == 0] = exponents[norms > 0].max() if norms.any() else 0  # a zero is exact in every group
    found, left = [], np.ones(len(norms), dtype=bool)
    while left.any():
        inside = left & (exponents > exponents[left].max() - span)
        largest = float(norms[inside].max())
        columns = None if inside.all() else np.flatnonzero(inside)
        found.append(Group(columns, float(scales_of(torch.tensor([largest], dtype=torch.float64))), largest))
        left &= ~inside
    return found


@dataclass(frozen=True)
class Right:
    """Candidates of a tile, ready to be multiplied.

    Attributes:
      tensors: `matrix`, `errors` and `sizes`, on the device or kept in the host's memory.
      start: position of the first candidate within its group.
      count: number of real candidates.
    """

    tensors: Sequence[torch.Tensor]
    start: int
    count: int

    @property
    def matrix(self) -> torch.Tensor:
        """(t, width), t a multiple of what the scan wants."""
        return self.tensors[0]

    @property
    def errors(self) -> torch.Tensor:
        """P, float32 (t,)."""
        return self.tensors[1]

    @property
    def sizes(self) -> torch.Tensor:
        """Q, float32 (t,)."""
        return self.tensors[2]


@dataclass(frozen=True)
class Left:
    """Queries, ready to be multiplied.

    Attributes:
      matrix: (n, width).
      reach: X, float32 (n,).
      slack: w, float32 (n,).
      bend: b h, float32 (n,).
      margin: twice the part of the bound that is the same for all candidates, float32 (n,).
      shift: v, float32 (n,). Products are smaller by it.
      base: lower bounds of the nearest candidates, from a sample, and smaller by v too: float32 (n,).
    """

    matrix: torch.Tensor
    reach: torch.Tensor
    slack: torch.Tensor
    bend: torch.Tensor
    margin: torch.Tensor
    shift: torch.Tensor
    base: torch.Tensor

    def part(self, rows: slice) -> Left:
        """Returns some of the queries."""
        return Left(self.matrix[rows], **self._parts(rows))

    def only(self, rows: torch.Tensor) -> Left:
        """Returns some of the queries, int64 (p,), with the whole matrix."""
        return Left(self.matrix, **self._parts(rows))

    def _parts(self, rows: slice | torch.Tensor) -> dict[str, torch.Tensor]:
        return {field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name != "matrix"}


class Sides:
    """Makes both sides of the products of a group.

    Args:
      frame: all candidates.
      group: the candidates of this group.
      precision: format of both sides.
    """

    def __init__(self, frame: Frame, group: Group, precision: Precision) -> None:
        self.frame, self.group, self.precision = frame, group, precision
        self.count = len(frame.vectors) if group.columns is None else len(group.columns)
        self.width = width(frame.vectors.shape[1])
        self._sum_error = precision.sum_error(self.width)
        # b: of squared candidate norms; 2u is the contract's, G/2 of the sum's, 2^-20 of the norm's parts and rounding.
        self._bend = 0.0 if frame.product else 2 * UNIT + 0.52 * self._sum_error + 2.0**-20

    def right(self, chosen: slice | np.ndarray, multiple: int, device: torch.device) -> Right:
        """Returns candidates of the group on a device, filled up to a multiple of rows."""
        frame, precision = self.frame, self.precision
        inside = chosen if self.group.columns is None else self.group.columns[chosen]
        vectors = on_host(frame.vectors[inside]).to(device)
        norms = torch.from_numpy(frame.norms[inside] * self.group.scale)
        count, dimension = vectors.shape
        total = -(-count // multiple) * multiple
        matrix = torch.zeros((total, self.width), dtype=container(precision), device=device)
        lengths, lost = halve(vectors, self.group.scale, precision, matrix[:count, :dimension])
        errors, sizes = torch.zeros((2, total), dtype=torch.float32, device=device)
        errors[:count] = raised(1.01 * (lost + self._sum_error * lengths), precision)
        sizes[:count] = raised((norms * (1 + 2.0**-20)).to(torch.float32).to(device), precision)
        matrix[:, dimension] = errors
        matrix[:, dimension + 1] = sizes
        if not frame.product:
            parts = split((0.5 - self._bend) * norms**2, _PARTS, precision)
            matrix[:count, dimension + 2 : dimension + 2 + _PARTS] = -parts.to(torch.float32).to(matrix)
        matrix[count:, dimension + 2 + _PARTS] = _OUTSIDE
        matrix[:count, dimension + 3 + _PARTS] = 1
        return Right((matrix, errors, sizes), chosen.start if isinstance(chosen, slice) else 0, count)

    def unit(self, radii: torch.Tensor) -> torch.Tensor:
        """Returns what the ranking values of queries with these norms are multiplied by: float64 (n,)."""
        return self._scales(radii) * self.group.scale

    def left(self, blocks: Iterable[torch.Tensor], radii: torch.Tensor, device: torch.device) -> Left:
        """Returns queries as the left side.

        Args:
          blocks: the queries, float32 (., d) each on the device, in order.
          radii: norms of all of them, float64 (n,), on the device or the host.
          device: where the queries are.
        """
        precision, dimension = self.precision, self.frame.vectors.shape[1]
        scale, heavy, flat, bend, margin = self._terms(radii).to(device)
        matrix = torch.zeros((len(radii), self.width), dtype=container(precision), device=device)
        norms, at = [], 0
        for block in blocks:
            rows = slice(at, at + len(block))
            norms.append(halve(block, scale[rows, None], precision, matrix[rows, :dimension]))
            at += len(block)
        lengths, lost = (torch.cat(parts) for parts in zip(*norms, strict=True))
        reach = raised(lengths, precision)
        slack = raised(1.01 * lost + flat, precision)
        matrix[:, dimension] = reach
        matrix[:, dimension + 1] = slack
        matrix[:, dimension + 2 : dimension + 2 + _PARTS] = heavy[:, None].to(matrix)
        matrix[:, dimension + 2 + _PARTS] = 1
        nothing = torch.zeros_like(margin)
        return Left(matrix, reach, slack, bend, margin, nothing, nothing - torch.inf)

    def shifted(self, left: Left, base: torch.Tensor) -> Left:
        """Returns queries whose products are smaller by v: whatever may win is then above `Precision.least`.

        Args:
          left: queries that are not shifted. Their matrix is changed.
          base: lower bounds of their nearest candidates, up to the margin: float32 (n,), -inf if there is none.
        """
        floor = base - left.margin
        wanted = floor - (2.5 * self._sum_error + self.precision.raise_by - 1) * floor.abs() - 2 * self.precision.least
        shift = rounded(wanted.clamp(_OUTSIDE, -_OUTSIDE), self.precision)
        left.matrix[:, self.frame.vectors.shape[1] + 3 + _PARTS] = -shift
        margin = left.margin + 2.02 * self._sum_error * shift.abs()
        return replace(left, margin=margin, shift=shift, base=base - shift)

    def _terms(self, radii: torch.Tensor) -> torch.Tensor:
        """Returns scales, h, the part of w that follows from norms, b h, and margins: float32 (5, n)."""
        precision, scales = self.precision, self._scales(radii)
        ratio = torch.zeros_like(radii) if self.frame.product else scales / self.group.scale  # h
        heavy = torch.where(ratio >= precision.kept, ratio, 0)
        # Without its norm column (h is too small for the format) the upper bound is too large by h Q^2/2 <= 64 h Q.
        flat = 3.1 * UNIT * radii * scales + torch.where(heavy == 0, 65 * ratio, 0)
        fixed = scales * self.group.scale * self.frame.constant_error(radii) + 2.0**-80 + 4 * ratio * precision.kept
        margin = 2.001 * fixed + 2 * precision.step
        return torch.stack([scales, heavy, flat, self._bend * ratio * 1.001, margin]).to(torch.float32)

    def _scales(self, radii: torch.Tensor) -> torch.Tensor:
        return scales_of(radii if self.frame.product else radii.clamp_min(self.group.largest))
