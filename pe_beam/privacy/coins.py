"""Coins that say who votes in an iteration: Bernoulli(q), from the secret, for a position or a client (rule 11).

They are independent of what a record holds: with coins from the content, copies of a record would vote all together or
not at all, and their number in a histogram would tell the coin and so the record. A retry or a resume gets the same
coins.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pe_beam.keyed import encode_fields

FORMAT = "pe_beam/coins/1"
_BITS = 64
_BLOCK = 4096


class Coins:
    """The coins of one iteration. Whoever has them knows who took part: they are as secret as the secret.

    Args:
      secret: secret of the run directory, 32 bytes.
      run_id: hash of the resolved recipe.
      fingerprint: fingerprint of the frozen embedding shards.
      iteration: 1 or more.
      rate: q, above 0 to 1. It is rounded down to a multiple of 2^-64, so that it is never above what is accounted for.

    Raises:
      ValueError: the rate is out of its range, or the secret has another length.
    """

    def __init__(self, secret: bytes, *, run_id: str, fingerprint: str, iteration: int, rate: float) -> None:
        if len(secret) != 32 or not 0 < rate <= 1:
            raise ValueError("coins: 32 bytes of secret and a rate above 0 to 1 are wanted")
        fields = encode_fields(FORMAT, run_id, fingerprint, int(iteration))
        self._key = hmac.new(secret, fields, hashlib.sha256).digest()
        self._below = int(Fraction(rate) * 2**_BITS)  # heads: 64 bits below this

    def of_rows(self, shard: str, start: int, count: int) -> np.ndarray:
        """Returns whether `count` records of a frozen shard, from row `start` on, vote: bool (count,)."""
        words = np.empty(count, dtype=np.uint64)
        for block in range(start // _BLOCK, -(-(start + count) // _BLOCK)):
            first, last = max(start, block * _BLOCK), min(start + count, (block + 1) * _BLOCK)
            data = self._expand(encode_fields("row", shard, block), 8 * (last - block * _BLOCK))
            words[first - start : last - start] = np.frombuffer(data, dtype=">u8")[first - block * _BLOCK :]
        return self._heads(words)

    def of_clients(self, clients: Sequence[str]) -> np.ndarray:
        """Returns whether all records of each client vote: bool (n,), the same for one client wherever it occurs."""
        each = {
            client: int.from_bytes(self._expand(encode_fields("client", client), 8), "big") for client in set(clients)
        }
        return self._heads(np.array([each[client] for client in clients], dtype=np.uint64))

    def _heads(self, words: np.ndarray) -> np.ndarray:
        if self._below == 1 << _BITS:
            return np.ones(len(words), dtype=bool)
        heads: np.ndarray = words < np.uint64(self._below)
        return heads

    def _expand(self, place: bytes, size: int) -> bytes:
        return hashlib.shake_256(self._key + place).digest(size)
