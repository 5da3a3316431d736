"""One-way counts with less noise: by what other counts say of the same column, and by neighbouring bins. NumPy only.

All noise here is Gaussian of a known size, so that estimates follow from released counts and declared facts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pe_beam.measuring.shares import shares_of

LEAST_BINS, MOST_BINS = 8, 1024
"""Ordered bins of a column whose neighbours are levelled. Few bins differ too much; many cost memory, bins squared."""
_PIECE = 1.0  # what a piece costs in log weight: that of a parameter in Akaike's criterion
_CUTS = (0.1, 0.25, 0.5, 0.75)  # how likely a cut between two bins is, before counts are seen
_LEAST = 1e-9
_ROUNDS = 50  # of raking
_NOTHING = 1e-13  # of the weight of all ways: chances whose ways have less together are left out
_CELLS = 1 << 18  # pairs of edges that are computed at a time


class Sums(NamedTuple):
    """Noisy counts of groups of a column's bins, apart from its one-way counts.

    Attributes:
      groups: int64 (bins,), the group of each bin.
      counts: float64 (labels, groups), or (1, groups) over all labels.
      variance: of the noise on each, above 0.
    """

    groups: np.ndarray
    counts: np.ndarray
    variance: float


class Estimate(NamedTuple):
    """Estimated counts.

    Attributes:
      counts: float64 (labels, bins).
      sigma: standard deviation of the noise on each, the root of the mean square.
    """

    counts: np.ndarray
    sigma: float


def estimate(counts: np.ndarray, sigma: float, sums: Sequence[Sums], ordered: int) -> np.ndarray:
    """Returns estimated counts of a column, float64 (labels, bins): combined with sums of its bins, then levelled.

    Args:
      counts: float64 (labels, bins), noisy.
      sigma: standard deviation of the noise on each; 0: counts stay as they are.
      sums: what else was counted, with noise of its own.
      ordered: how many of the first bins lie in an order, as `groups.equal_mass` takes it.
    """
    if not sigma:
        return counts
    found = combined(counts, sigma, sums)
    if not LEAST_BINS <= ordered <= MOST_BINS:
        return found.counts
    level = levelled(found.counts[:, :ordered], found.sigma)
    return np.concatenate([level, found.counts[:, ordered:]], axis=1)


def combined(counts: np.ndarray, sigma: float, sums: Sequence[Sums]) -> Estimate:
    """Returns the generalised least squares of a column's counts and of sums of its bins, all of them noisy.

    Sums are taken up one by one (recursive least squares, Plackett 1950). Of bins that are in the same groups only the
    sum is learnt. All labels were asked the same and share a covariance, so each takes an equal part of what sums over
    all labels say.

    Args:
      counts: float64 (labels, bins).
      sigma: standard deviation of the noise on each, above 0.
      sums: independent of these and of each other.
    """
    if not sums:
        return Estimate(counts, sigma)
    labels, several = len(counts), _averaged(sums)
    _, first, atoms, sizes = np.unique(
        np.stack([each.groups for each in several]),
        axis=1,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    atoms = atoms.reshape(-1)  # an atom: bins that are in the same groups everywhere
    before = np.stack([np.bincount(atoms, row, minlength=len(sizes)) for row in counts])
    apart = [Sums(each.groups[first], *each[1:]) for each in several if len(each.counts) == labels]
    known, variances = _learnt(before, sizes * sigma**2, apart)
    added = [Sums(each.groups, each.counts.sum(axis=0, keepdims=True), each.variance * labels) for each in apart]
    added += [Sums(each.groups[first], *each[1:]) for each in several if len(each.counts) != labels]
    total, of_total = _learnt(before.sum(axis=0, keepdims=True), sizes * sigma**2 * labels, added)
    known += (total - known.sum(axis=0)) / labels
    variances -= (variances * labels - of_total) / labels**2
    of_bins = sigma**2 - (sizes * sigma**2 - variances) / sizes**2
    mean = float((of_bins * sizes).sum() / sizes.sum())
    return Estimate(counts + ((known - before) / sizes)[:, atoms], float(np.sqrt(mean)))


def agreeing(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Returns counts of 0 or more that add up to the totals of labels, and over labels to what all counts say together.

    What noise brings below 0 is cut off label by label, and the others pay for it, so that sums over many labels would
    be off. Counts are raked to both (iterative proportional fitting, Deming and Stephan 1940).

    Args:
      counts: float64 (labels, bins), estimated.
      totals: float64 (labels,), noisy numbers of records.
    """
    wanted = np.maximum(totals, 0.0)
    together = shares_of(counts.sum(axis=0), float(wanted.sum())) * wanted.sum()
    apart = np.stack([shares_of(row, total) * total for row, total in zip(counts, wanted, strict=True)])
    found = np.maximum(apart, _LEAST * wanted[:, None] * (together > 0))
    for _ in range(_ROUNDS):
        found = found * (together / np.maximum(found.sum(axis=0), _LEAST))
        found = found * (wanted / np.maximum(found.sum(axis=1), _LEAST))[:, None]
    return found


def _averaged(sums: Sequence[Sums]) -> list[Sums]:
    """Returns one for all sums of the same groups: their mean, weighted by precision."""
    alike: dict[tuple[int, bytes], list[Sums]] = {}
    for each in sums:
        alike.setdefault((len(each.counts), each.groups.tobytes()), []).append(each)
    found = []
    for own in alike.values():
        weights = np.array([1 / each.variance for each in own])
        counts = (weights[:, None, None] * np.stack([each.counts for each in own])).sum(axis=0) / weights.sum()
        found.append(Sums(own[0].groups, counts, float(1 / weights.sum())))
    return found


def _learnt(known: np.ndarray, variances: np.ndarray, sums: Sequence[Sums]) -> tuple[np.ndarray, np.ndarray]:
    """Returns independent counts after sums are taken up, float64 (labels, n), and their variances, float64 (n,).

    Sums of one count each come first: they leave counts independent. The covariance that others bring about is kept as
    the vectors that it is made of, so that a column of thousands of bins takes no matrix of all of them.

    Args:
      known: float64 (labels, n).
      variances: float64 (n,), of all labels.
      sums: with `groups` int64 (n,).
    """
    known, variances, several = known.copy(), variances.copy(), []
    for each in sums:
        if len(np.unique(each.groups)) < len(each.groups):
            several.append(each)
            continue
        gain = variances / (variances + each.variance)
        known += gain * (each.counts[:, each.groups] - known)
        variances *= 1 - gain
    asked = [(each, group) for each in several for group in np.unique(each.groups).tolist()]
    gains, shared = np.zeros((2, len(asked), len(variances)))  # covariance: diag(variances) - gains.T @ shared
    for place, (each, group) in enumerate(asked):
        own = each.groups == group
        before = gains[:place, own].sum(axis=1)[:, None] * shared[:place]
        shared[place] = variances * own - before.sum(axis=0)
        gains[place] = shared[place] / (shared[place, own].sum() + each.variance)
        known += gains[place] * (each.counts[:, group] - known[:, own].sum(axis=1))[:, None]
    return known, variances - (gains * shared).sum(axis=0)


def levelled(counts: np.ndarray, sigma: float, cuts: Sequence[float] = _CUTS) -> np.ndarray:
    """Returns the mean of all ways to cut bins in an order into pieces of a level each, float64 (labels, bins).

    A way weighs exp(-R / 2 - d) times its chance before counts are seen, of d pieces and with R the sum of squares, in
    sigmas, between counts and levels: by Akaike's criterion, as Leung and Barron (2006) mix least squares. Cuts are
    independent, of a few chances, which weigh what all their ways do together. All 2^(bins - 1) ways are summed exactly
    along the edges, forwards and backwards. Peaks stay, as pieces of their own; the noise of bins alike is averaged.

    Args:
      counts: float64 (labels, bins), noisy.
      sigma: standard deviation of the noise on each, above 0.
      cuts: how likely a cut between two bins is, before counts are seen; each of these.
    """
    step = max(1, _CELLS // (counts.shape[1] + 1) ** 2)
    return np.concatenate([_levelled(counts[at : at + step], sigma, cuts) for at in range(0, len(counts), step)])


def _pieces(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and sum of squares about it of the bins from one edge up to another, float64 (labels, edges, edges).

    They grow bin by bin (Welford 1962), which cancels nothing. The sum is infinite where no bin lies between.
    """
    labels, bins = counts.shape
    means, squares = np.zeros((labels, bins + 1, bins + 1)), np.full((labels, bins + 1, bins + 1), np.inf)
    for place in range(bins):
        before = place - np.arange(place)
        off = counts[:, place, None] - means[:, :place, place]
        means[:, :place, place + 1] = means[:, :place, place] + off / (before + 1)
        squares[:, :place, place + 1] = squares[:, :place, place] + off**2 * (before / (before + 1))
        means[:, place, place + 1], squares[:, place, place + 1] = counts[:, place], 0.0
    return means, squares


def _levelled(counts: np.ndarray, sigma: float, cuts: Sequence[float]) -> np.ndarray:
    bins = counts.shape[1]
    edges = np.arange(bins + 1)
    width = edges[None, :] - edges[:, None]
    levels, squares = _pieces(counts)
    fits = -squares / (2 * sigma**2) - _PIECE  # log weight of each piece
    chances = np.array(cuts)[:, None, None]
    priors = np.log(chances) + (edges[1:] - 1) * np.log1p(-chances)  # of a piece, by its number of bins
    before, after = np.zeros((2, len(cuts), len(counts), bins + 1))
    for edge in range(1, bins + 1):  # a piece ends here
        weights = fits[:, :edge, edge] + priors[:, :, edge - 1 :: -1]
        before[:, :, edge] = _log_sum(before[:, :, :edge] + weights)
    for edge in range(bins - 1, -1, -1):  # a piece begins here
        weights = fits[:, edge, edge + 1 :] + priors[:, :, : bins - edge]
        after[:, :, edge] = _log_sum(weights + after[:, :, edge + 1 :])
    evidence = before[:, :, -1] - np.log(chances)[:, :, 0]  # the first piece needs no cut
    mixed, shares = evidence - _log_sum(evidence.T), np.zeros_like(fits)
    for place, chance in enumerate(cuts):
        own = np.flatnonzero(mixed[place] > np.log(_NOTHING))
        weights = fits[own] + np.log(chance) + (width - 1) * np.log1p(-chance)
        outside = after[place, own] + (mixed[place, own] - before[place, own, -1])[:, None]
        shares[own] += np.exp(before[place, own][:, :, None] + weights + outside[:, None, :])
    around = np.cumsum(shares * levels, axis=1)[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    level: np.ndarray = around[:, edges[:-1], edges[1:]]  # of all pieces that begin before the bin and end after it
    return level


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """Returns the logarithm of sums of exponentials along the last axis."""
    most = logs.max(axis=-1, keepdims=True)
    found: np.ndarray = most[..., 0] + np.log(np.exp(logs - most).sum(axis=-1))
    return found
