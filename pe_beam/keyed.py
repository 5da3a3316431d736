"""Randomness that is named, not drawn in turn: everything random except noise and vote sampling.

A stream is keyed by (seed, iteration, candidate, purpose), so that a retry, another batch size or another
number of workers sees the same numbers (DESIGN, section 5). NumPy only.
"""

from __future__ import annotations

import hashlib

import numpy as np


def encode_fields(*fields: bytes | str | int) -> bytes:
    """An injective encoding: each field is written with its kind and its length, so no two tuples agree.

    >>> encode_fields("ab", "c") == encode_fields("a", "bc")
    False
    >>> encode_fields(1) == encode_fields("1")
    False
    """
    parts = []
    for field in fields:
        if isinstance(field, bytes):
            kind, body = b"b", field
        elif isinstance(field, str):
            kind, body = b"s", field.encode("utf-8")
        else:
            kind, body = b"i", str(int(field)).encode("ascii")
        parts.append(kind + len(body).to_bytes(8, "big") + body)
    return b"".join(parts)


def keyed_rng(seed: int, iteration: int, candidate: int, purpose: str) -> np.random.Generator:
    """The generator of one named stream.

    Args:
      seed: the recipe's seed, any integer.
      iteration: the iteration that asks, from 0.
      candidate: a candidate id, or -1 for a choice that concerns the whole population.
      purpose: a short literal ("random", "vary", "lookahead-3", "select/label").

    Returns:
      A Philox generator whose 128-bit key is the head of SHA-256 over the encoded name.

    >>> bool(keyed_rng(7, 1, 2, "vary").random() == keyed_rng(7, 1, 2, "vary").random())
    True
    >>> bool(keyed_rng(7, 1, 2, "vary").random() == keyed_rng(7, 1, 3, "vary").random())
    False
    """
    digest = hashlib.sha256(b"pe_beam/keyed/1" + encode_fields(seed, iteration, candidate, purpose)).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
