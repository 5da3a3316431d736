"""The frozen embeddings of the records that voted, and which of the records they are."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pe_beam.engine.frozen import shards_of
from pe_beam.engine.run import Run
from pe_beam.engine.shards import listed
from pe_beam.errors import DataError, StorageError
from pe_beam.storage.parquet import parquet_file
from pe_beam.voting.votes import read_batch


def shard_rows(run: Run, name: str) -> int:
    """Returns the number of records in a frozen shard. Raises DataError if it is missing or damaged."""
    try:
        with parquet_file(run.store, name) as file:
            return int(file.metadata.num_rows)
    except (OSError, StorageError, pa.ArrowException):
        raise damaged_shard() from None


def damaged_shard() -> DataError:
    """Returns the error for embeddings that differ from the frozen ones of the run."""
    return DataError("private/embeddings: a frozen shard is missing or damaged; restore it, or delete that folder")


class Frozen:
    """The frozen vectors and label codes of a piece, in the order of its records that were not rejected."""

    def __init__(self, run: Run, piece: str) -> None:
        shards = shards_of(run)
        name = next(shard["shard"] for shard in shards if shard["piece"] == piece)
        self._groups = read_shard(run, name)
        self._vectors = np.empty((0, run.embedder.dimension), dtype=np.float32)
        self._codes = np.empty(0, dtype=np.int32)

    def next(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the next `count` vectors and codes. Raises DataError if there are fewer."""
        while len(self._codes) < count:
            found = next(self._groups, None)
            if found is None:
                raise damaged_shard()
            self._vectors = np.concatenate([self._vectors, found[0]])
            self._codes = np.concatenate([self._codes, found[1]])
        taken = self._vectors[:count], self._codes[:count]
        self._vectors, self._codes = self._vectors[count:], self._codes[count:]
        return taken


def rejected_rows(run: Run, piece: str) -> set[str] | None:
    """Returns the places of a piece's records that ingest rejected, or None if its list of them is not complete."""
    name, about = f"private/rejects/{piece}.jsonl", f"private/embeddings/{piece}.json"
    if not run.store.exists(about):
        return None
    lines = run.store.read(name).decode().splitlines() if run.store.exists(name) else []
    rejected = {json.loads(line)["where"] for line in lines}
    return rejected if len(rejected) == json.loads(run.store.read(about))["rejects"] else None


def read_shard(run: Run, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the vectors and label codes of a frozen shard, one row group at a time.

    Raises:
      DataError: the shard is missing or has changed.
    """
    known = {shard["shard"]: shard["sha256"] for shard in shards_of(run)}
    if not run.store.exists(name) or run.store.digest(name) != known.get(name):
        raise damaged_shard()
    with parquet_file(run.store, name) as file:
        for group in range(file.num_row_groups):
            rows = listed(file.read_row_group(group, columns=["label", "vector"]).combine_chunks())
            vectors, codes, _ = read_batch(rows)
            yield vectors, codes
