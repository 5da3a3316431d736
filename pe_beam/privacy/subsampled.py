"""Accounting of Gaussian mechanisms on Poisson samples: numeric privacy loss distributions (privacy rule 11).

In each round every unit takes part with probability q, independently. For add-or-remove-one the pair
P = (1 - q) N(0, z^2) + q N(1, z^2), Q = N(0, z^2) dominates a round of noise multiplier z when a unit is removed, and
its reverse (Q, P) when one is added (Zhu, Dong and Wang 2022). Both directions are composed; the larger epsilon counts.

The method is that of `loss`: cells of a grid, whose masses go to their ends so that both distributions keep theirs,
FFT, and exponential tilting. The loss of a round is no Gaussian here, so that masses come from the inverse of the loss.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.privacy.loss import log_mass, solve

SAMPLED_TOLERANCE, SAMPLED_ERROR = 5e-3, 1e-3
"""Largest allowed difference of two methods, as a share of epsilon and beside it: both are above the truth, each by its
own grid."""
_REACH = 12.0
"""Standard deviations of the noise kept on each side. What is cut off weighs less than 1e-32."""
_FINENESS = 256.0
"""Grid points per standard deviation of the loss of a round."""
_MOST_POINTS = 1 << 19
_COARSE = 32.0
"""Steps of the grid from 0 to epsilon. A grid with fewer is coarse, and so is one with steps so many times too long."""
_SEEN = 25.0
"""How far below the mean of the tilted losses mass is seen, times the tilt: e^-25 of it is more than noise of FFT."""
_MARGIN = 1e-6
"""Covers floating-point errors and cut tails, as a share of epsilon."""


class Spending(NamedTuple):
    """What one mechanism spends.

    Attributes:
      noise_multiplier: z = sigma / sensitivity, 0 or more.
      sampling_rate: q, the probability that a unit takes part; 1 without sampling.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0


def subsampled_epsilon(spendings: Iterable[Spending], delta: float) -> float:
    """Returns epsilon at delta of Gaussian mechanisms on Poisson samples, in sequence, for add-or-remove-one.

    A cell is a post-processing of its ends ("connect the dots", Doroshenko et al. 2022), so the result is not below the
    true epsilon. It is above it by about 1e-4 of it.

    Args:
      spendings: multipliers above 0, and rates above 0 to 1. All are fixed before the first mechanism.
      delta: above 0 and below 1.

    Returns:
      Epsilon, 0 or more; 0 for no mechanism.

    Raises:
      ValueError: a value is out of its range.
    """
    rounds = Counter(spendings)
    if not 0 < delta < 1 or not all(0 < z < math.inf and 0 < q <= 1 for z, q in rounds):
        raise ValueError("subsampled_epsilon: delta between 0 and 1, multipliers above 0 and rates to 1 are wanted")
    return _epsilon(tuple(sorted(rounds.items())), delta, True) if rounds else 0.0


@functools.lru_cache(maxsize=256)
def _epsilon(rounds: tuple[tuple[Spending, int], ...], delta: float, refined: bool) -> float:
    """Returns the epsilon of some rounds and how often each occurs. A driver asks for the same ones again and again."""
    with np.errstate(divide="ignore"):  # log(0) = -inf is meant
        found = (_one_way(Counter(dict(rounds)), delta, removed=way, refined=refined) for way in (True, False))
        return (1 + _MARGIN) * max(found)


def peer_epsilon(spendings: Iterable[Spending], delta: float, step: float = 1e-3) -> float:
    """Returns the same epsilon by dp-accounting's own numeric accountant: the second method (privacy rule 5).

    It is not below the true epsilon either.

    Args:
      spendings: as for `subsampled_epsilon`.
      delta: above 0 and below 1.
      step: of the grid of losses.
    """
    return _peer(tuple(sorted(Counter(spendings).items())), delta, step)


@functools.lru_cache(maxsize=16)
def _peer(rounds: tuple[tuple[Spending, int], ...], delta: float, step: float) -> float:
    import dp_accounting
    from dp_accounting.pld import pld_privacy_accountant

    accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=step)
    for (z, rate), count in rounds:
        event = dp_accounting.GaussianDpEvent(z)
        accountant.compose(event if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, event), count)
    return float(accountant.get_epsilon(delta))


def amplified_multiplier(
    unsampled: float, shares: Sequence[float], *, epsilon: float, delta: float, sampling_rate: float
) -> float:
    """Returns the smallest noise multiplier of the composed mechanism with which rounds on samples keep epsilon.

    A round with share s of mu^2 gets the multiplier z / sqrt(s), as without sampling.

    Args:
      unsampled: the multiplier z that keeps epsilon without sampling. The result is at most this.
      shares: share of the initial measurement, which sees all units, and of each iteration; 0 or more.
      epsilon: above 0 and finite.
      delta: above 0 and below 1.
      sampling_rate: q of the iterations, above 0 and below 1.

    Returns:
      z, within 4e-4 of the smallest.

    Raises:
      RecipeError: delta is kept without any noise, for that many units hardly ever take part.
    """
    from scipy.optimize import brentq

    first, *rounds = shares
    seen = -math.expm1(len(rounds) * math.log1p(-sampling_rate))
    if not first and delta >= seen:
        raise RecipeError(
            f"privacy.delta: {delta!r} is not allowed with privacy.sampling_rate {sampling_rate!r}; below {seen:.4g} "
            "is wanted, the probability that one votes at all: above it no noise would be added"
        )

    def beyond(log_z: float, refined: bool) -> float:
        spent = Counter(
            Spending(math.exp(log_z) / math.sqrt(share), sampling_rate if place else 1.0)
            for place, share in enumerate(shares)
            if share
        )
        return math.log(max(_epsilon(tuple(sorted(spent.items())), delta, refined), 1e-300) / epsilon)

    def smallest(refined: bool) -> float:
        high = math.log(unsampled)
        if beyond(high, refined) >= 0:  # next to no amplification
            return unsampled
        low = high + math.log(sampling_rate) - 1
        while beyond(low, refined) < 0:
            low, high = low - 1, low
        return math.exp(float(brentq(beyond, low, high, args=(refined,), xtol=1e-4))) * (1 + 2e-4)

    found = smallest(False)
    return smallest(True) if beyond(math.log(found), True) < math.log1p(-SAMPLED_TOLERANCE) else found


@dataclass(frozen=True)
class _Round:
    """The tilted loss of one round on the grid.

    Attributes:
      first: index of the first grid point.
      mass: float64 (n,), tilted masses at grid points from there on; their sum is 1.
      log_weight: log of what they were divided by.
    """

    first: int
    mass: np.ndarray
    log_weight: float

    def mean(self) -> float:
        """Returns the mean, in steps."""
        return self.first + float(np.arange(len(self.mass)) @ self.mass)


def _one_way(rounds: Counter[Spending], delta: float, *, removed: bool, refined: bool) -> float:
    """Returns the smallest epsilon that keeps delta in one direction; `refined`: by a second grid, where that tells."""
    tilt = 2 * _chernoff(rounds, delta, removed=removed)
    found, middle = 0.0, math.inf
    # Far below the middle no mass is left. What is found there is too small: so it is where losses are huge, of next to
    # no noise, and their tilt is a tiny number.
    while tilt * (middle - found) > _SEEN:
        tilt /= 2
        step, fine = _steps(rounds, tilt, removed=removed)
        found, middle = _on_grid(rounds, delta, tilt, step, removed=removed)
    if not refined or step <= min(found, fine * _COARSE**2) / _COARSE:
        return found
    # The grid is coarse, so it may say too much. A finer one fits: the sum of losses is narrower than all it might be.
    width = _width(rounds, tilt, removed=removed)
    ends = [_range(each, tilt, removed=removed) for each in rounds]
    least = max(width, *(highest - lowest for lowest, highest in ends)) / (4 * _MOST_POINTS)
    best = found
    while (finer := max(min(fine, best / _FINENESS), least)) < 0.9 * step:
        step, best = finer, min(best, _on_grid(rounds, delta, tilt, finer, width, removed=removed)[0])
    # Within what the second method allows, epsilon is as earlier versions have released it.
    return best if found - best > SAMPLED_TOLERANCE * found + SAMPLED_ERROR else found


def _on_grid(
    rounds: Counter[Spending], delta: float, tilt: float, step: float, width: float = math.inf, *, removed: bool
) -> tuple[float, float]:
    """Returns the same by a grid of this step, and the mean of the tilted losses.

    Losses that are further apart than `width` share a point.
    """
    from scipy import fft

    found = [(_round(each, step, tilt, removed=removed), count) for each, count in rounds.items()]
    middle = step * sum(count * each.mean() for each, count in found)
    first, whole = (
        sum(count * each.first for each, count in found),
        sum(count * len(each.mass) for each, count in found),
    )
    size = fft.next_fast_len(math.ceil(min(whole, width / step)) + 8, True)
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for each, count in found:
        folded = np.bincount(np.arange(len(each.mass)) % size, each.mass)
        spectrum *= fft.rfft(folded, size) ** count
    total = fft.irfft(spectrum, size)
    if size < whole:  # it is a ring: losses are those around the mean
        start = round(middle / step) - size // 2
        total, first = np.roll(total, first - start), start
    total[total < 1e-15 * total.max()] = 0.0  # numerical noise, as in `loss`
    losses = step * (first + np.arange(size, dtype=np.float64))
    scale = sum(count * each.log_weight for each, count in found) - tilt * middle
    with np.errstate(over="ignore", invalid="ignore"):
        weights = np.where(total > 0, total * np.exp(-tilt * (losses - middle)), 0.0)
    return solve(losses, weights, math.log(delta) - scale), middle


def _width(rounds: Counter[Spending], tilt: float, *, removed: bool) -> float:
    """Returns twice how far the sum of tilted losses is from its mean, except for 1e-20 (Chernoff's bound)."""
    found = []
    for each, count in rounds.items():
        lowest, highest = _range(each, tilt, removed=removed)
        step = (highest - lowest) / 4096
        coarse = _round(each, step, tilt, removed=removed)
        places, seen = step * (np.arange(len(coarse.mass)) + coarse.first - coarse.mean()), coarse.mass > 0
        found.append((places[seen], coarse.mass[seen], count))
    spread = math.sqrt(sum(count * float(mass @ places**2) for places, mass, count in found))

    def reach(slope: float) -> float:
        grown = (count * float(np.logaddexp.reduce(np.log(mass) + slope * places)) for places, mass, count in found)
        return (sum(grown) + 46.0) / abs(slope)

    slopes = np.geomspace(1e-2, 1e4, 49) / spread
    return 2 * max(min(map(reach, slopes)), min(map(reach, -slopes)))


def _chernoff(rounds: Counter[Spending], delta: float, *, removed: bool) -> float:
    """Returns the tilt of the Chernoff bound: K(t) - t K'(t) = log delta, where K sums the log moments of all rounds.

    The mean of the tilted loss then lies near epsilon. Any tilt is right; this one keeps small deltas accurate.
    """
    # A loss that is bounded may want none: then twice the tilt of the widest Gaussian round is enough.
    low, high, most = 0.0, 1.0, 2 * math.sqrt(-2 * math.log(delta)) * max(1.0, *(z for z, _ in rounds))

    def beyond(tilt: float) -> bool:
        value = 0.0
        for each, count in rounds.items():
            lowest, highest = _range(each, tilt, removed=removed)
            step = (highest - lowest) / 2048
            coarse = _round(each, step, tilt, removed=removed)
            value += count * (coarse.log_weight - tilt * step * coarse.mean())
        return value < math.log(delta)

    while high < most and not beyond(high):
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def _steps(rounds: Counter[Spending], tilt: float, *, removed: bool) -> tuple[float, float]:
    """Returns the step of the grid, with no more points than fit, and the one that is fine for the narrowest loss."""
    width, narrowest = 0.0, math.inf
    for each, count in rounds.items():
        lowest, highest = _range(each, tilt, removed=removed)
        width += count * (highest - lowest)
        coarse = _round(each, (highest - lowest) / 4096, tilt, removed=removed)
        places = np.arange(len(coarse.mass)) * (highest - lowest) / 4096
        spread = math.sqrt(max(float(coarse.mass @ places**2 - (coarse.mass @ places) ** 2), 0.0))
        narrowest = min(narrowest, max(spread, (highest - lowest) / 4096))
    return max(narrowest / _FINENESS, width / _MOST_POINTS), narrowest / _FINENESS


def _loss(each: Spending, x: float) -> float:
    """Returns log(P / Q) at x."""
    z, q = each
    grown = math.log(q) + (2 * x - 1) / (2 * z * z)
    return float(np.logaddexp(math.log1p(-q) if q < 1 else -math.inf, grown))


def _place(each: Spending, losses: np.ndarray) -> np.ndarray:
    """Returns x / z for losses log(P / Q), which increase with x; -inf below the smallest loss, log(1 - q)."""
    z, q = each
    with np.errstate(invalid="ignore", over="ignore"):
        inner = losses + np.log1p(-(1 - q) * np.exp(-losses)) - math.log(q)
    return np.where(np.isnan(inner), -np.inf, z * inner + 0.5 / z)


def _range(each: Spending, tilt: float, *, removed: bool) -> tuple[float, float]:
    """Returns the smallest and the largest loss that are kept. A tilt by t moves the noise by t at most."""
    z = each.noise_multiplier
    lowest, highest = _loss(each, -_REACH * z - tilt), _loss(each, 1 + _REACH * z + tilt)
    return (lowest, highest) if removed else (-highest, -lowest)


def _round(each: Spending, step: float, tilt: float, *, removed: bool) -> _Round:
    """Returns the tilted loss of one round on a grid."""
    z, q = each
    lowest, highest = _range(each, tilt, removed=removed)
    first, last = math.floor(lowest / step), math.ceil(highest / step)
    ends = step * np.arange(first, last + 1, dtype=np.float64)
    places = np.clip(_place(each, ends if removed else -ends[::-1]), -40.0 - tilt / z, 40.0 + (1 + tilt) / z)
    without = log_mass(places)
    mixed = np.logaddexp(math.log1p(-q) + without if q < 1 else -np.inf, math.log(q) + log_mass(places - 1 / z))
    log_p, log_q = (mixed, without) if removed else (without[::-1], mixed[::-1])
    tilted = log_p + tilt * ends[:-1]
    top = float(tilted.max())
    under_p, under_q = np.exp(tilted - top), np.exp(log_q + ends[:-1] + tilt * ends[:-1] - top)
    # Solves a + b = P and a + b e^-h = Q e^l, so that P and Q keep their masses.
    upper = np.clip((under_p - under_q) / -math.expm1(-step), 0, under_p)
    mass = np.zeros(len(ends))
    mass[:-1] += under_p - upper
    mass[1:] += upper * math.exp(min(tilt * step, 700.0))
    whole = float(mass.sum())
    return _Round(first, mass / whole, top + math.log(whole))
