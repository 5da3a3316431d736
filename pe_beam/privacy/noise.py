"""An exactly rounded Gaussian from a keyed stream: the one place where noise is made (privacy rules 2 and 3).

A draw is the k whose interval [CDF(k - 1/2), CDF(k + 1/2)) holds a uniform number U of 128 bits, found in a table.
Where 128 bits do not decide, U is continued with further bits until they do, so the law is exact.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
from collections.abc import Callable

import numpy as np

from pe_beam.keyed import encode_fields

FORMAT = "pe_beam/noise/1"
BLOCK = 4096
_BYTES = 16
_WIDEST_TABLE = 1024.0
_PRECISION = 256


def grid_bits_for(sigma: float, unit: str) -> int:
    """b, so that noisy counts are whole multiples of 2^-b votes: 0 for records; for clients 8 to 16.

    The largest for which the table stays small (sigma 2^b at most 1024).
    """
    if unit == "record":
        return 0
    if sigma == 0:
        return 16
    return max(8, min(16, math.floor(math.log2(_WIDEST_TABLE / sigma))))


def noise_key(
    *,
    secret: bytes,
    run_id: str,
    fingerprint: str,
    iteration: int,
    sigma: float,
    grid_bits: int,
    counts_digest: bytes,
) -> bytes:
    """The key of an iteration's stream: HMAC-SHA-256 of the secret over all that the noise belongs to.

    As deterministic signatures are keyed: equal counts give the same noise again, others unrelated noise.
    """
    fields = (FORMAT, run_id, fingerprint, iteration, float(sigma).hex(), grid_bits, counts_digest)
    return hmac.new(secret, encode_fields(*fields), hashlib.sha256).digest()


def stream_bytes(key: bytes, label: int, block: int, size: int, purpose: str = "draw") -> bytes:
    """Bytes of one position of the stream: SHAKE-256 of the key and the position."""
    return hashlib.shake_256(key + encode_fields(FORMAT, purpose, label, block)).digest(size)


def _cdf(half: int, sigma: float, precision: int) -> int:
    """floor(2^precision CDF(half + 1/2)) of N(0, sigma^2), from well over that many bits."""
    import mpmath

    with mpmath.workprec(precision + 64):
        x = (mpmath.mpf(half) + mpmath.mpf(1) / 2) / mpmath.mpf(sigma)
        return int(mpmath.floor(mpmath.ldexp(mpmath.erfc(-x / mpmath.sqrt(2)) / 2, precision)))


@functools.lru_cache(maxsize=64)
def _table(sigma: float) -> tuple[int, np.ndarray, np.ndarray]:
    """First k, and the high and low 64-bit words of floor(2^128 CDF(k + 1/2)) for all k that 128 bits can tell."""
    reach = math.ceil(13.2 * sigma) + 1  # CDF(-13.2 sigma) is below 2^-128
    lower = [_cdf(k, sigma, 128) for k in range(-reach - 1, 0)]
    # CDF(k + 1/2) = 1 - CDF(-k - 1 + 1/2); as floors: 2^128 - 1 - floor(...), for no value is a whole number.
    upper = [2**128 - 1 - value for value in reversed(lower)]
    values = lower + upper
    high = np.array([value >> 64 for value in values], dtype=np.uint64)
    low = np.array([value & (2**64 - 1) for value in values], dtype=np.uint64)
    return -reach - 1, high, low


def _lookup(words: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws for uint64 (n, 2) words of U, and which of them 128 bits do not decide."""
    first, high, low = _table(sigma)
    index = np.searchsorted(high, words[:, 0], side="left")
    tied = np.flatnonzero((index < len(high)) & (high[np.minimum(index, len(high) - 1)] == words[:, 0]))
    undecided = np.zeros(len(words), dtype=bool)
    for row in tied.tolist():
        i = int(index[row])
        while i < len(high) and high[i] == words[row, 0] and low[i] < words[row, 1]:
            i += 1
        undecided[row] = bool(i < len(high) and high[i] == words[row, 0] and low[i] == words[row, 1])
        index[row] = i
    undecided |= (index == 0) | (index >= len(high))
    return index + first, undecided


def exact_draw(bits: int, length: int, sigma: float, more: Callable[[int], bytes]) -> int:
    """The draw for U = 0.bits, continued by `more(n)` (n further bytes) for as long as U does not decide.

    Args:
      bits: the first `length` bits of U.
      length: how many there are.
      sigma: on the grid, above 0.
      more: gives the n-th and later further bytes; called with 32, 64, ... and has to continue the same bytes.
    """
    extra = 0
    while True:
        tail = more(extra) if extra else b""
        u = (bits << (8 * extra)) | int.from_bytes(tail, "big")
        precision = length + 8 * extra
        k = _guess(bits, length, sigma)
        while _cdf(k, sigma, precision) < u:
            k += 1
        while _cdf(k - 1, sigma, precision) > u:
            k -= 1
        # Now floor(CDF(k-1)) <= u <= floor(CDF(k)): decided unless u equals one of the floors.
        if u != _cdf(k, sigma, precision) and u != _cdf(k - 1, sigma, precision):
            return k
        extra += 32


def _guess(bits: int, length: int, sigma: float) -> int:
    from scipy.special import ndtri

    half = 1 << (length - 1)
    near = bits if bits < half else (1 << length) - 1 - bits
    quantile = float(ndtri(max(math.ldexp(float(near), -length), 1e-300))) * sigma
    return round(quantile if bits < half else -quantile)


def rounded_gaussian(*, key: bytes, sigma_grid: float, label: int, size: int) -> np.ndarray:
    """`size` draws of round(N(0, sigma_grid^2)) for one label, exact in law.

    Args:
      key: of `noise_key`.
      sigma_grid: on the grid of votes, 0 or more.
      label: position of the label in the declared list.
      size: how many.

    Returns:
      int64 (size,). The first n of a longer request are the same n.
    """
    if sigma_grid == 0:
        return np.zeros(size, dtype=np.int64)
    if not 0 < sigma_grid < 2**40:
        raise ValueError("sigma_grid: from 0 to 2^40")
    draws = np.empty(size, dtype=np.int64)
    for block, start in enumerate(range(0, size, BLOCK)):
        count = min(BLOCK, size - start)
        data = stream_bytes(key, label, block, count * _BYTES)
        words = np.frombuffer(data, dtype=">u8").astype(np.uint64).reshape(count, 2)
        if sigma_grid <= _WIDEST_TABLE:
            found, undecided = _lookup(words, sigma_grid)
        else:
            found, undecided = np.zeros(count, dtype=np.int64), np.ones(count, dtype=bool)
        for row in np.flatnonzero(undecided).tolist():
            bits = int(words[row, 0]) << 64 | int(words[row, 1])
            more = functools.partial(_more, key, label, start + row)
            found[row] = exact_draw(bits, 128, sigma_grid, more)
        draws[start : start + count] = found
    return draws


def _more(key: bytes, label: int, draw: int, size: int) -> bytes:
    return stream_bytes(key, label, draw, size, "further bits")


def add_noise(*, counts: np.ndarray, labels: np.ndarray, sigma: float, grid_bits: int, key: bytes) -> np.ndarray:
    """Noisy votes: (count + noise) / 2^b, every candidate once, zeros included.

    Args:
      counts: int64 (m,), exact votes on the grid of 2^-b.
      labels: int (m,), position of each candidate's label; a label's draws follow its candidates' order.
      sigma: in votes; 0 adds nothing.
      grid_bits: b.
      key: of `noise_key`.

    Returns:
      float64 (m,), in votes, without rounding.

    Raises:
      ValueError: counts so large that float64 could not hold them.
    """
    if len(counts) and int(np.abs(counts).max()) >= 2**52:
        raise ValueError("counts: below 2^52 is wanted")
    noisy = counts.astype(np.int64)
    for label in np.unique(labels).tolist():
        rows = np.flatnonzero(labels == label)
        noisy[rows] += rounded_gaussian(key=key, sigma_grid=sigma * 2.0**grid_bits, label=label, size=len(rows))
    return noisy / 2.0**grid_bits
