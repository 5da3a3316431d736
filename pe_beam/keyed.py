"""Random number streams that have names. Everything random that affects a release uses them, except the noise.

The key of a stream is (seed, iteration, candidate, purpose). So a retry, another batch size or another number of
workers gets the same numbers (DESIGN, section 5). The module needs only NumPy.
"""

from __future__ import annotations

import hashlib

import numpy as np


def encode_fields(*fields: bytes | str | int) -> bytes:
    """Encodes fields as bytes, each with its kind and its length, so that different tuples have different encodings.

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
    """Returns the random generator of one named stream.

    Args:
      seed: the recipe's seed, any integer.
      iteration: the current iteration, from 0.
      candidate: a candidate id, or -1 for a choice about the whole population.
      purpose: a short literal ("random", "vary", "lookahead/3", "select/0").

    Returns:
      A Philox generator. Its 128-bit key is the first 16 bytes of SHA-256 over the encoded name.

    >>> bool(keyed_rng(7, 1, 2, "vary").random() == keyed_rng(7, 1, 2, "vary").random())
    True
    >>> bool(keyed_rng(7, 1, 2, "vary").random() == keyed_rng(7, 1, 3, "vary").random())
    False
    """
    digest = hashlib.sha256(b"pe_beam/keyed/1" + encode_fields(seed, iteration, candidate, purpose)).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
