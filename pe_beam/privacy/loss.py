"""The second accounting method: privacy losses on a grid, convolved round by round (privacy rule 5).

It is independent of the closed form: each round's loss is discretised by itself, and an FFT computes their sum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np

# Standard deviations kept on each side of a round's loss. The part that is cut off weighs less than 1e-32 of the rest.
_REACH = 12.0
# Grid points per standard deviation of the whole loss, divided by sqrt(rounds).
_FINENESS = 128.0


def numeric_epsilon(noise_multipliers: Iterable[float], delta: float) -> float:
    """Returns epsilon at delta of Gaussian mechanisms in sequence, by a numeric privacy loss distribution.

    The loss of round t, N(mu^2/2, mu^2) with mu = 1/z_t, is moved to the points of a grid of step h: a cell's mass
    under P and under Q goes to its two ends so that both are kept. The cell is then a post-processing of its ends,
    so the discretised pair is never more private than the true one ("connect the dots", Doroshenko et al. 2022).
    An FFT computes the sum over rounds under exponential tilting (the measure times e^(theta l), centred near epsilon),
    so that deltas far below 1e-16 keep their relative accuracy.

    Error bound: the result is never below the true epsilon, except by floating-point errors and the tails that are cut
    off, 1e-6 (epsilon + mu). It is above it by less than T h, because no loss moves by more than
    h = mu / (128 sqrt(T)). The moves average to h^2/12 and their variances add, so that in practice the result is above
    by about 1e-5 (epsilon + mu), with mu^2 = sum 1/z^2.

    Args:
      noise_multipliers: above 0, one per mechanism.
      delta: above 0 and below 1.

    Returns:
      Epsilon, 0 or more; 0 for no mechanism.

    Raises:
      ValueError: a value is out of its range.
    """
    rounds = Counter(noise_multipliers)
    if not 0 < delta < 1 or not all(0 < value < math.inf for value in rounds):
        raise ValueError("numeric_epsilon: delta between 0 and 1 and multipliers above 0 are wanted")
    if not rounds:
        return 0.0
    mu = math.sqrt(math.fsum(count / value**2 for value, count in rounds.items()))
    step = mu / (_FINENESS * math.sqrt(rounds.total()))
    tilt = math.sqrt(-2 * math.log(delta)) / mu  # the tilt of the Chernoff bound: moves the mean just above epsilon
    losses, weights = _composed(rounds, mu=mu, step=step, tilt=tilt)
    # log M(tilt) of the whole. The tilt is undone relative to a middle point, so that nothing overflows.
    middle = mu * mu * (0.5 + tilt)
    scale = mu * mu / 2 * (tilt + tilt * tilt) - tilt * middle
    weights = weights * np.exp(-tilt * (losses - middle))
    return solve(losses, weights, math.log(delta) - scale)


def _composed(rounds: Counter[float], *, mu: float, step: float, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the losses of the grid (n,), in increasing order, and the tilted mass (n,) of the summed loss at each."""
    from scipy import fft

    size = fft.next_fast_len(math.ceil(2 * _REACH * mu / step) + 8, real=True)
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    offset = 0
    for value, count in rounds.items():
        first, mass = _one_round(1 / value, step, tilt)
        centre = first + len(mass) // 2
        # Cyclic, around the round's own middle: mass that wraps around is 12 standard deviations away.
        ring = np.zeros(size)
        ring[(first - centre + np.arange(len(mass))) % size] = mass
        spectrum *= fft.rfft(ring) ** count
        offset += centre * count
    total = fft.fftshift(fft.irfft(spectrum, size))
    # The numerical noise of the FFT, 1e-17 of the peak, would grow without bound when the tilt is undone.
    total[total < 1e-15 * total.max()] = 0.0
    return step * (offset - size // 2 + np.arange(size, dtype=np.float64)), total


def _one_round(mu: float, step: float, tilt: float) -> tuple[int, np.ndarray]:
    """Returns, for one Gaussian round, the first grid index and the tilted mass from there on, whose sum is about 1."""
    mean = mu * mu / 2
    middle = mean + tilt * mu * mu
    first = math.floor((middle - _REACH * mu) / step)
    last = math.ceil((middle + _REACH * mu) / step)
    ends = step * np.arange(first, last + 1, dtype=np.float64)
    normal = tilt * ends[:-1] - mean * (tilt + tilt * tilt)  # of the tilted measure, at each cell's lower end
    under_p = np.exp(log_mass((ends - mean) / mu) + normal)
    under_q = np.exp(log_mass((ends + mean) / mu) + normal + ends[:-1])
    # Solves a + b = P and a + b e^-h = Q e^l, so that P and Q keep their masses.
    upper = np.clip((under_p - under_q) / -math.expm1(-step), 0, under_p)
    mass = np.zeros(len(ends))
    mass[:-1] += under_p - upper
    mass[1:] += upper * math.exp(tilt * step)
    return first, mass


def log_mass(edges: np.ndarray) -> np.ndarray:
    """Returns the log of the standard normal mass between neighbouring edges, accurate far into both tails.

    Args:
      edges: float64 (n + 1,), not decreasing.

    Returns:
      float64 (n,); -inf for an empty cell.
    """
    from scipy.special import log_ndtr

    low, high = edges[:-1], edges[1:]
    flip = low > 0
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    top = log_ndtr(high)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(-np.expm1(log_ndtr(low) - top)))


def solve(losses: np.ndarray, weights: np.ndarray, log_delta: float) -> float:
    """Returns the smallest epsilon with sum over l > epsilon of (1 - e^(epsilon - l)) w <= delta, by bisection.

    Args:
      losses: float64 (n,), in increasing order.
      weights: float64 (n,), their masses w.
      log_delta: log of delta, which may be relative to a common factor of the weights.
    """

    def fits(epsilon: float) -> bool:
        above = losses > epsilon
        delta = float(np.sum(-np.expm1(epsilon - losses[above]) * weights[above]))
        return delta == 0 or math.log(delta) <= log_delta

    low, high = 0.0, max(float(losses[-1]), 0.0)
    if fits(low):
        return 0.0
    while (middle := (low + high) / 2) not in (low, high):
        if high - low < 1e-12 * high:
            break
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
