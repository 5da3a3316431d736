"""Finds, in a tile of products, the pairs that may win. One rule, in three forms.

`scan_host` is for the CPU (NumPy reads 14 to 39 GB/s where torch's row maximum reads 2 to 3), `kernel` for CUDA and
ROCm (Triton), and `scan_operations` for every other device (operations of torch). All of them

1. find the `votes` largest products of a row, which are upper bounds of these pairs, and so get lower bounds,
2. keep the `votes` best lower bounds that were seen of the row (`lows`), and
3. pass on every pair whose upper bound is not below the worst of those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pe_beam.voting.search.torch.groups import Left, Right
from pe_beam.voting.search.torch.precision import Precision

_SLACK = 2.0**-20  # of float32 arithmetic on bounds
FOLD = 16
"""The number of columns must be a multiple of it for `scan_host`."""


@dataclass(frozen=True)
class Found:
    """Pairs: int32 or int64 rows and columns, and float32 upper bounds, (p,) each."""

    rows: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Products:
    """The products of some queries and a tile of candidates.

    Attributes:
      scores: (n, t), the products. A scan may change them.
      left, right: both sides.
      lows: float32 (votes, n), the best lower bounds so far. A scan raises them.
      precision: format of both sides.
    """

    scores: torch.Tensor
    left: Left
    right: Right
    lows: torch.Tensor
    precision: Precision

    @property
    def rounds(self) -> int:
        """The number of pairs of a row that a scan takes lower bounds of."""
        return min(len(self.lows), self.right.count)

    def raise_lows(self, values: torch.Tensor, columns: torch.Tensor) -> None:
        """Takes in one pair of each row: upper bounds, float32 (n,), and columns. Its lower bound may be the best."""
        left, sizes = self.left, self.right.sizes[columns]
        wide = 2.002 * (left.reach * self.right.errors[columns] + (left.slack + left.bend * sizes) * sizes)
        lower = values - wide - (self.precision.rounding * 1.001 + _SLACK) * values.abs()
        worst = self.lows.argmin(dim=0, keepdim=True)
        self.lows.scatter_(0, worst, torch.maximum(self.lows.gather(0, worst), lower[None]))


def thresholds(lows: torch.Tensor, left: Left, precision: Precision) -> torch.Tensor:
    """Returns the smallest product that may still win, float32 (n,), for `lows`, float32 (votes, n)."""
    floor = torch.maximum(lows.amin(dim=0), left.base) - left.margin
    return ((1 - _SLACK) / (1 + precision.rounding) * floor).clamp_min(precision.least)


def sampled(products: Products) -> torch.Tensor:
    """Returns lower bounds, up to the margin, of the nearest candidates of queries that are not shifted: float32 (n,).

    They are those of a sample of the candidates: -inf if it has fewer than `votes`.
    """
    scores, votes = products.scores[:, : products.right.count].to(torch.float32), len(products.lows)
    if votes > products.right.count:
        return products.left.base
    values, columns = torch.topk(scores, votes, dim=1)
    for vote in range(votes):
        products.raise_lows(values[:, vote], columns[:, vote])
    return products.lows.amin(dim=0)


def scan_operations(products: Products) -> list[Found]:
    """Scans by operations of torch."""
    right, scores = products.right, products.scores[:, : products.right.count]
    found = []
    for _ in range(products.rounds):
        values, columns = scores.max(dim=1)
        products.raise_lows(values.to(torch.float32), columns)
        scores.scatter_(1, columns[:, None], -torch.inf)
        found.append((torch.arange(len(scores), device=scores.device), columns, values.to(torch.float32)))
    floor = thresholds(products.lows, products.left, products.precision)
    rows, columns = torch.nonzero(scores.to(torch.float32) >= floor[:, None], as_tuple=True)
    found.append((rows, columns, scores[rows, columns].to(torch.float32)))
    return [Found(rows, columns + right.start, values) for rows, columns, values in found]


def scan_host(products: Products) -> list[Found]:
    """Scans on the CPU, by NumPy where that is faster. The number of columns must be a multiple of `FOLD`.

    Half precision is compared as integers: the larger of two positive numbers is the larger integer, and negative ones
    are negative integers. Only positive products may win.
    """
    keys = _Keys(products.scores)
    limit = keys.limits(thresholds(products.lows, products.left, products.precision))
    active = np.flatnonzero(keys.tops.max(axis=1) >= limit)  # no other row has anything to win
    if len(active) == 0:
        return []
    chosen = torch.from_numpy(active)
    part = replace(products, left=products.left.only(chosen), lows=products.lows[:, chosen])
    _take_largest(keys, active, part)
    products.lows[:, chosen] = part.lows
    limit[active] = keys.limits(thresholds(part.lows, part.left, part.precision))
    at, fold = _nonzero(keys.tops >= limit[:, None])
    inner, layer = _nonzero(keys.layers(at, fold) >= limit[at, None])
    rows, columns = at[inner], keys.columns(fold[inner], layer)
    real = columns < products.right.count
    rows, columns = rows[real], columns[real]
    values = keys.decode(keys.flat[rows, columns])
    return [Found(torch.from_numpy(rows), torch.from_numpy(columns + products.right.start), values)]


def _nonzero(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns where a bool (n, t) mask is True. `np.nonzero` is slow in two dimensions."""
    rows, columns = np.divmod(np.flatnonzero(mask.ravel()), mask.shape[1])
    return rows, columns


def _take_largest(keys: _Keys, rows: np.ndarray, products: Products) -> None:
    """Finds the largest products of some rows, int64 (p,), and takes in their lower bounds."""
    taken = []
    for turn in range(products.rounds):
        fold = keys.tops[rows].argmax(axis=1)
        columns = keys.columns(fold, keys.layers(rows, fold).argmax(axis=1))
        best = keys.flat[rows, columns]
        products.raise_lows(keys.decode(best), torch.from_numpy(columns))
        if turn + 1 < products.rounds:
            taken.append((fold, columns, best))
            keys.flat[rows, columns] = keys.lowest
            keys.tops[rows, fold] = keys.layers(rows, fold).max(axis=1)
    for fold, columns, best in taken:  # the scan that follows sees all of them
        keys.flat[rows, columns] = best
        keys.tops[rows, fold] = np.maximum(keys.tops[rows, fold], best)


class _Keys:
    """Products as numbers that are compared fast: float32 as they are, half precision as int16.

    Column c is in fold c mod (t / FOLD). The maximum of each fold is one pass at the speed of memory, because it is
    taken of FOLD whole parts of a row and not within it.

    Attributes:
      flat: (n, t).
      tops: the largest of each fold, (n, t / FOLD).
      lowest: a key below all others.
    """

    def __init__(self, scores: torch.Tensor) -> None:
        self._dtype = scores.dtype
        keys = scores if scores.dtype == torch.float32 else scores.view(torch.int16)
        self.flat: np.ndarray = keys.numpy()
        self.tops: np.ndarray = keys.view(len(keys), FOLD, -1).amax(dim=1).numpy()
        self.lowest = np.float32(-np.inf) if scores.dtype == torch.float32 else np.int16(-(2**15))
        self._starts = np.arange(FOLD) * self.tops.shape[1]

    def layers(self, rows: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Returns all keys of folds, (p,), of rows, (p,): (p, FOLD)."""
        found: np.ndarray = self.flat[rows[:, None], folds[:, None] + self._starts]
        return found

    def columns(self, folds: np.ndarray, layers: np.ndarray) -> np.ndarray:
        """Returns the columns that are at layers, (p,), of folds, (p,)."""
        found: np.ndarray = folds + self._starts[layers]
        return found

    def decode(self, keys: np.ndarray) -> torch.Tensor:
        """Returns the numbers of keys, (p,): float32 (p,)."""
        return torch.from_numpy(keys).view(self._dtype).to(torch.float32)

    def limits(self, floor: torch.Tensor) -> np.ndarray:
        """Returns, for positive float32 (n,) numbers, the smallest key of a number that is at least as large."""
        if self._dtype == torch.float32:
            limit: np.ndarray = floor.numpy()
            return limit
        near = floor.clamp_max(torch.finfo(self._dtype).max).to(self._dtype)
        above: np.ndarray = (near.view(torch.int16) + (near.to(torch.float32) < floor)).numpy()
        return above
