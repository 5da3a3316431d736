"""The frozen private embeddings: their shards, and the fingerprint to which all spent budget is bound."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pe_beam.engine.run import Run
from pe_beam.errors import InputError

INDEX = "private/embeddings/index.json"


def fingerprint_of(shards: Iterable[Mapping[str, Any]]) -> str:
    """Returns SHA-256 (hex) over the digests of the frozen shards, and then of their bins, if some have bins. Private.

    Args:
      shards: their entries in the index, in the order of their pieces.
    """
    shards = list(shards)
    total = hashlib.sha256(b"pe_beam/data/1" + b"".join(bytes.fromhex(each["sha256"]) for each in shards))
    if any("bins_sha256" in each for each in shards):
        bins = (bytes.fromhex(each.get("bins_sha256", "00" * 32)) for each in shards)
        total.update(b"pe_beam/bins/1" + b"".join(bins))
    return total.hexdigest()


def read_index(run: Run) -> dict[str, Any] | None:
    """Returns the index of the frozen embeddings: fingerprint, dimension, shards. None: not embedded yet.

    Raises:
      InputError: the index is damaged, or its fingerprint does not follow from the digests of its shards and bins.
    """
    data = run.store.find_committed(INDEX)
    if data is None:
        return None
    try:
        found: dict[str, Any] = json.loads(data)
        whole = found["fingerprint"] == fingerprint_of(found["shards"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{INDEX}: damaged; restore it, or start a new run directory") from None
    if not whole:
        raise InputError(f"{INDEX}: names other files than were frozen; restore it, or start a new run directory")
    return found


def shards_of(run: Run) -> list[dict[str, Any]]:
    """Returns the index entries of the frozen shards, in order; none before they are frozen. Raises as `read_index`."""
    index = read_index(run)
    return [] if index is None else list(index["shards"])


def fingerprint(run: Run) -> str:
    """Returns the fingerprint of the frozen embeddings (private). Raises InputError if there are none yet."""
    index = read_index(run)
    if index is None:
        raise InputError("private/embeddings: not frozen yet; the embed pipeline comes first")
    return str(index["fingerprint"])
