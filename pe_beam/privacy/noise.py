"""The only place where noise is made: an exactly rounded Gaussian from a keyed stream (privacy rules 2 and 3).

A retry or a resume with the same counts gets the same noise. If anything that the noise belongs to differs, by one vote
or one bit of sigma, the stream is unrelated.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
from typing import Protocol

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.keyed import encode_fields
from pe_beam.privacy import rounded

FORMAT = "pe_beam/noise/1"
BLOCK = 4096
KEY_BYTES = 32
_BYTES = rounded.BITS // 8
_WIDEST_GRID = 4096.0
_COUNT_LIMIT = 2**52


class BitSource(Protocol):
    """The source of the sampler's bits. Tests pass their own."""

    def bits(self, label: int, block: int, size: int) -> bytes:
        """Returns the first `size` bytes of a block of BLOCK draws, 16 bytes per draw."""

    def further(self, label: int, position: int, size: int) -> bytes:
        """Returns the first `size` bytes that follow the 16 bytes of one draw of a label."""


class NoiseStream:
    """A stream of bits: SHAKE-256 of a secret key, a label and a position. It can be read again, in any order."""

    def __init__(self, key: bytes) -> None:
        """Takes a key of `noise_key`, 32 bytes. It is never shown."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"key: {KEY_BYTES} bytes are wanted")
        self._key = bytes(key)

    def bits(self, label: int, block: int, size: int = BLOCK * _BYTES) -> bytes:
        """Returns the first `size` bytes of block `block` of a label."""
        return self._expand("draws", label, block, size)

    def further(self, label: int, position: int, size: int) -> bytes:
        """Returns the first `size` bytes that continue draw `position` of a label."""
        return self._expand("further bits", label, position, size)

    def _expand(self, purpose: str, label: int, place: int, size: int) -> bytes:
        return hashlib.shake_256(self._key + encode_fields(FORMAT, purpose, label, place)).digest(size)


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
    """Returns the key of an iteration's stream: HMAC-SHA-256 of the secret over everything that the noise belongs to.

    Deterministic signatures have such keys (RFC 6979): equal counts give the same noise, others unrelated noise.

    Args:
      secret: secret of the run directory, 32 bytes.
      run_id: hash of the resolved recipe.
      fingerprint: fingerprint of the frozen embedding shards.
      iteration: 0 (initial measurement) or more; below 0 earlier ones.
      sigma: in votes, exact.
      grid_bits: b.
      counts_digest: digest of all counts of the iteration.

    Returns:
      32 bytes, which must be kept as secret as the secret.
    """
    if len(secret) != KEY_BYTES:
        raise ValueError(f"secret: {KEY_BYTES} bytes are wanted")
    fields = (FORMAT, run_id, fingerprint, int(iteration), float(sigma).hex(), int(grid_bits), counts_digest)
    return hmac.new(secret, encode_fields(*fields), hashlib.sha256).digest()


def grid_bits_for(sigma: float, unit: str) -> int:
    """Returns b: counts are whole multiples of 2^-b votes. It is 0 for records, and 8 to 16 for clients.

    For clients it is the largest b for which the sampler's table stays small (sigma 2^b at most 4096), but at least 8.

    Args:
      sigma: sigma of the iteration, in votes, 0 or more.
      unit: "record" or "client".

    Raises:
      RecipeError: the unit is another one, or sigma is negative or not finite.

    >>> grid_bits_for(12.5, "record"), grid_bits_for(12.5, "client"), grid_bits_for(0.01, "client")
    (0, 8, 16)
    """
    if unit not in ("record", "client"):
        raise RecipeError(f"privacy.unit: {unit!r} is not allowed; record or client is wanted")
    if not 0 <= sigma < math.inf:
        raise RecipeError(f"sigma: {sigma!r} is not allowed; a finite number, 0 or more, is wanted")
    if unit == "record":
        return 0
    return max(b for b in range(8, 17) if b == 8 or math.ldexp(sigma, b) <= _WIDEST_GRID)


def refuse_unless_drawn(sigma: float, unit: str) -> None:
    """Refuses noise that the sampler cannot draw, before any budget is spent.

    Raises:
      RecipeError: sigma (in votes) is not within 2^-20 to 2^40 on the grid, or `grid_bits_for` refuses it.
    """
    on_grid = math.ldexp(sigma, grid_bits_for(sigma, unit))
    if sigma and not rounded.LEAST_SIGMA <= on_grid <= rounded.MOST_SIGMA:
        raise RecipeError(
            f"privacy: this budget wants noise of {sigma:.3g} votes, which is beyond what can be drawn (2^-20 to "
            "2^40 on the grid); look at epsilon, weights and label_counts.budget"
        )


def rounded_gaussian(*, key: bytes, sigma_grid: float, label: int, size: int, start: int = 0) -> np.ndarray:
    """Returns draws number `start` to `start + size` - 1 of round(N(0, sigma_grid^2)) for one label, exact in law.

    Args:
      key: a key of `noise_key`.
      sigma_grid: sigma in units of the grid: 0, or 2^-20 to 2^40. Beyond 2^14 a draw takes 0.6 ms.
      label: position of the label in the declared list.
      size: number of draws.
      start: number of the first draw. A slice of a longer request has the same draws.

    Returns:
      int64 (size,).

    Raises:
      ValueError: sigma is out of its range, or size, start or label is negative.
    """
    if not min(size, start, label) >= 0:
        raise ValueError("size, start and label: 0 or more is wanted")
    if sigma_grid == 0:
        return np.zeros(size, dtype=np.int64)
    return draw_from(NoiseStream(key), sigma_grid=sigma_grid, label=label, size=size, start=start)


def draw_from(source: BitSource, *, sigma_grid: float, label: int, size: int, start: int = 0) -> np.ndarray:
    """Returns the same draws as `rounded_gaussian`, from any source of bits; int64 (size,)."""
    if not rounded.LEAST_SIGMA <= sigma_grid <= rounded.MOST_SIGMA:
        raise ValueError("sigma_grid: 0 or 2^-20 to 2^40 is wanted")
    draws = np.empty(size, dtype=np.int64)
    stop = start + size
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first, last = max(start, block * BLOCK), min(stop, (block + 1) * BLOCK)
        data = source.bits(label, block, (last - block * BLOCK) * _BYTES)[(first - block * BLOCK) * _BYTES :]
        words = np.frombuffer(data, dtype=">u8").astype(np.uint64).reshape(-1, 2)
        if sigma_grid <= rounded.WIDEST_TABLE:
            found, undecided = rounded.lookup(words, sigma_grid)
        else:
            found, undecided = np.zeros(len(words), dtype=np.int64), np.ones(len(words), dtype=bool)
        for row in np.flatnonzero(undecided).tolist():
            u = int(words[row, 0]) << 64 | int(words[row, 1])
            more = functools.partial(source.further, label, first + row)
            found[row] = rounded.resolve(u, rounded.BITS, sigma_grid, more)
        draws[first - start : last - start] = found
    return draws


def add_noise(*, counts: np.ndarray, labels: np.ndarray, sigma: float, grid_bits: int, key: bytes) -> np.ndarray:
    """Returns noisy votes: (count + noise) / 2^b for every candidate, zeros included.

    Args:
      counts: int (m,), exact votes in units of 2^-b, 0 or more.
      labels: int (m,), position of each candidate's label. The draws of a label are in the order of its candidates.
      sigma: in votes; 0 adds nothing.
      grid_bits: b, 0 to 16.
      key: a key of `noise_key`; it has no effect if sigma is 0.

    Returns:
      float64 (m,), in votes, without rounding. The inputs are not changed.

    Raises:
      ValueError: counts are not whole, negative, or 2^52 or more; lengths differ; or sigma or b is out of range.
    """
    counts, labels = np.asarray(counts), np.asarray(labels)
    whole = all(array.dtype.kind in "iu" or not array.size for array in (counts, labels))
    if not whole or counts.ndim != 1 or counts.shape != labels.shape:
        raise ValueError("counts and labels: whole numbers, one each a candidate, are wanted")
    # Noise is below 2^45 at the widest sigma: sums stay below 2^53 and float64 holds them exactly.
    if counts.size and not (counts.min() >= 0 and counts.max() < _COUNT_LIMIT and labels.min() >= 0):
        raise ValueError("counts: 0 to below 2^52 is wanted, and labels from 0")
    if not 0 <= grid_bits <= 16:
        raise ValueError("grid_bits: 0 to 16 is wanted")
    noisy = counts.astype(np.int64)
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=False):
        noisy[rows] += rounded_gaussian(key=key, sigma_grid=math.ldexp(sigma, grid_bits), label=name, size=len(rows))
    return noisy / 2.0**grid_bits
