"""Computes the exactly rounded Gaussian from uniform bits (privacy rule 2).

For a uniform real U in [0, 1) the draw is the k with CDF(k - 1/2) <= U < CDF(k + 1/2). The first 128 bits of U
decide it by a table, except for fewer than 2^-100 of all draws. Those read further bits until they are decided. The
law is therefore exactly that of round(N(0, sigma^2)), and the table and the slow way give the same draw.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pe_beam.privacy.precise import precision

BITS = 128
# The largest sigma with a table. It has 26 sigma entries (sigma 4096: 0.6 s, 2 MB; the largest: 2.3 s, 7 MB).
WIDEST_TABLE = 2.0**14
LEAST_SIGMA, MOST_SIGMA = 2.0**-20, 2.0**40
# Below this sigma a few hundred calls of mpmath are fast. Above it the series of `_series` converges fast.
_SERIES_FROM = 8.0
_FRACTION = 288
_ERROR_BITS = 64  # of 288: the error of the series is below 2^-224, and an entry is checked if that could matter
_STEP_BYTES = 32


class Table(NamedTuple):
    """floor(2^128 CDF(k + 1/2)) for k = first, first + 1, …, as high and low uint64 words (n,)."""

    first: int
    high: np.ndarray
    low: np.ndarray


@functools.lru_cache(maxsize=8)
def table(sigma: float) -> Table:
    """Returns the table of one sigma, for all k that 128 bits can distinguish. It is cached in each process.

    Args:
      sigma: in units of the grid, 2^-20 to 2^14.

    Returns:
      The table; its arrays are read-only.
    """
    reach = math.ceil(13.2 * sigma) + 1  # CDF(-13.2 sigma) is below 2^-128
    lower = lower_tail(sigma, reach)[::-1]
    # CDF(k + 1/2) = 1 - CDF(-k - 1 + 1/2), and as floors 2^128 - 1 - floor(…): no value is a whole number.
    values = lower + [2**BITS - 1 - value for value in reversed(lower)]
    high = np.array([value >> 64 for value in values], dtype=np.uint64)
    low = np.array([value & (2**64 - 1) for value in values], dtype=np.uint64)
    high.flags.writeable = low.flags.writeable = False
    return Table(-reach - 1, high, low)


def lower_tail(sigma: float, reach: int) -> list[int]:
    """Returns floor(2^128 CDF(-k - 1/2)) for k = 0, …, reach: exact, by the series or one by one."""
    if sigma < _SERIES_FROM:
        return [floor_cdf(-k - 1, sigma) for k in range(reach + 1)]
    spare = _FRACTION - BITS
    margin = 1 << _ERROR_BITS
    values = []
    for k, value in enumerate(_series(sigma, reach)):
        part = value & ((1 << spare) - 1)
        close = part < margin or part > (1 << spare) - margin  # a chance of 2^-95: the floor may be wrong by one
        values.append(floor_cdf(-k - 1, sigma) if close else value >> spare)
    return values


def _series(sigma: float, reach: int) -> list[int]:
    """Returns 2^288 CDF(-k - 1/2) for k = 0, …, reach, with an error below 2^64, by whole-number arithmetic.

    With d = 1/sigma, phi the density and w = (k d^2 / 2)^2, an expansion of exp(-k u d^2) and exp(-u^2 d^2 / 2) gives

      CDF(-k + 1/2) - CDF(-k - 1/2) = d phi(k d) sum_m b_m w^m,
      b_m = 1/(2m)! sum_j (-d^2/8)^j / (j! (2m + 2j + 1)).

    Error: as k grows, phi(k d) = phi((k-1) d) r_k and r_k = r_(k-1) e^(-d^2) only decrease. So the error of r_k is at
    most 2k units of the last place, that of the density 2k^2, and that of the sum over k is k^3. For k below 2^18 this
    is 2^54. The omitted terms (each below 2^-288) and the roundings of b and w add less than that.
    """
    unit = _FRACTION
    top, bottom = sigma.as_integer_ratio()
    with precision(unit + 64) as mpmath:

        def fixed(x: object) -> int:
            return int(mpmath.floor(mpmath.ldexp(x, unit)))

        square = mpmath.mpf(bottom) ** 2 / mpmath.mpf(top) ** 2  # d^2
        density = fixed(mpmath.sqrt(square / (2 * mpmath.pi)))
        ratio, shrink = fixed(mpmath.exp(-square / 2)), fixed(mpmath.exp(-square))
        value = fixed(mpmath.erfc(mpmath.sqrt(square / 8)) / 2)
        first_w = int(mpmath.floor(mpmath.ldexp(square * square / 4, unit + 64)))
        coefficients = [fixed(b) for b in _coefficients(square, reach)]
    last, *rest = reversed(coefficients)
    values = [value]
    for k in range(1, reach + 1):
        density = density * ratio >> unit
        ratio = ratio * shrink >> unit
        w = k * k * first_w >> 64
        total = last
        for coefficient in rest:
            total = (total * w >> unit) + coefficient
        value -= density * total >> unit
        values.append(value)
    return values


def _coefficients(square: object, reach: int) -> list[object]:
    """Returns b_0, b_1, … for d^2, enough of them for the largest w: omitted terms are below 2^-300."""
    import mpmath

    eighth = mpmath.mpf(square) / 8
    most = (reach * mpmath.mpf(square) / 2) ** 2
    coefficients: list[object] = []
    m = 0
    while most**m / mpmath.factorial(2 * m) > mpmath.ldexp(1, -300):
        terms, j = mpmath.mpf(0), 0
        while eighth**j / mpmath.factorial(j) > mpmath.ldexp(1, -320):
            terms += (-eighth) ** j / (mpmath.factorial(j) * (2 * m + 2 * j + 1))
            j += 1
        coefficients.append(terms / mpmath.factorial(2 * m))
        m += 1
    return coefficients


def floor_cdf(k: int, sigma: float) -> int:
    """Returns floor(2^128 CDF(k + 1/2)). It raises the precision until the floor is certain."""
    bits = 2 * BITS
    while True:
        least, most = cdf_bounds(k, sigma, bits)
        if least >> bits - BITS == most >> bits - BITS:
            return least >> bits - BITS
        bits *= 2


def cdf_bounds(k: int, sigma: float, bits: int) -> tuple[int, int]:
    """Returns whole numbers below and above 2^bits CDF(k + 1/2) of N(0, sigma^2), at most 3 apart, 0 or more.

    The error of mpmath's erfc is a few units of its last place. With 64 additional bits it is negligible.
    """
    with precision(bits + 64) as mpmath:
        x = (mpmath.mpf(k) + 0.5) / mpmath.mpf(sigma)
        value = int(mpmath.floor(mpmath.ldexp(mpmath.erfc(-x / mpmath.sqrt(2)) / 2, bits)))
    return max(value - 1, 0), value + 2


def lookup(words: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Looks draws up in the table.

    Args:
      words: uint64 (n, 2), high and low half of the first 128 bits of U.
      sigma: in units of the grid, 2^-20 to 2^14.

    Returns:
      int64 (n,) draws, and bool (n,): True if 128 bits do not decide the draw, which then needs `resolve`.
    """
    first, high, low = table(sigma)
    index = np.searchsorted(high, words[:, 0], side="left")
    undecided = (index == 0) | (index == len(high))
    # If the bits of U are below the entry, U < CDF(k + 1/2) for certain; if above, not; if equal, it is unknown.
    for row in np.flatnonzero(high[np.minimum(index, len(high) - 1)] == words[:, 0]).tolist():
        i, (u_high, u_low) = int(index[row]), words[row]
        while i < len(high) and high[i] == u_high and low[i] < u_low:
            i += 1
        index[row] = i
        undecided[row] = i in (0, len(high)) or bool(high[i] == u_high and low[i] == u_low)
    return index + first, undecided


def resolve(u: int, length: int, sigma: float, further: Callable[[int], bytes]) -> int:
    """Returns the draw for U = 0.u…. It reads as many bits as it needs, and is exact for every sigma.

    Args:
      u: the first bits of U as a whole number.
      length: the number of these bits.
      sigma: in units of the grid, 2^-20 to 2^40.
      further: `further(n)` returns the next n bytes of U. A longer answer starts with the shorter one.
    """
    extra = 0
    while True:
        more = int.from_bytes(further(extra), "big") if extra else 0
        bits, known = u << 8 * extra | more, length + 8 * extra
        k = _quantile(bits, known, sigma)
        while _side(bits, known, k, sigma) > 0:
            k += 1
        while (lower := _side(bits, known, k - 1, sigma)) < 0:
            k -= 1
        if lower > 0 and _side(bits, known, k, sigma) < 0:
            return k
        extra += _STEP_BYTES


def _side(bits: int, known: int, k: int, sigma: float) -> int:
    """Returns -1 if U < CDF(k + 1/2) for certain, 1 if U is surely not below it, 0 if its known bits do not tell."""
    least, most = cdf_bounds(k, sigma, known)
    if bits + 1 <= least:
        return -1
    return 1 if bits >= most else 0


def _quantile(bits: int, known: int, sigma: float) -> int:
    """Returns an approximation of the draw. `resolve` steps from it to the exact one."""
    from scipy.special import ndtri_exp

    near = min(bits, (1 << known) - 1 - bits)
    x = float(ndtri_exp(math.log(2 * near + 1) - (known + 1) * math.log(2)))
    return round(sigma * (x if near == bits else -x))
