"""Votes: each record for its nearest candidates among those of its own label."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pe_beam.voting.nearest import NearestSearch, flat_search


@dataclass(frozen=True)
class CandidateMatrix:
    """What records vote on.

    Attributes:
      ids: int64 (m,), strictly ascending.
      labels: int32 (m,), position of each candidate's label in the declared list.
      vectors: float32 (m, d), finite.
    """

    ids: np.ndarray
    labels: np.ndarray
    vectors: np.ndarray

    def __post_init__(self) -> None:
        """Refuses parts that do not fit together."""
        count = len(self.ids)
        if self.labels.shape != (count,) or self.vectors.ndim != 2 or len(self.vectors) != count:
            raise ValueError(f"ids {self.ids.shape}, labels {self.labels.shape}, vectors {self.vectors.shape}")
        if count and not (np.diff(self.ids) > 0).all():
            raise ValueError("ids: strictly ascending is wanted")


class Voter:
    """Counts votes on one candidate matrix. One instance serves several threads."""

    def __init__(self, matrix: CandidateMatrix, *, distance: str, votes_per_record: int) -> None:
        """Keeps the matrix; a label's search is built when it is first needed."""
        self._matrix = matrix
        self._distance = distance
        self._votes = votes_per_record
        self._searches: dict[int, tuple[NearestSearch, np.ndarray]] = {}
        self._lock = threading.Lock()

    def _search(self, label: int) -> tuple[NearestSearch, np.ndarray] | None:
        with self._lock:
            if label not in self._searches:
                rows = np.flatnonzero(self._matrix.labels == label)
                if not len(rows):
                    return None
                search = flat_search(self._matrix.vectors[rows], distance=self._distance, votes=self._votes)
                self._searches[label] = (search, rows)
            return self._searches[label]

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each vote as (row of the batch, position of the candidate).

        Args:
          vectors: float32 (n, d).
          labels: int32 (n,).

        Returns:
          Two int64 arrays of one length: k votes a record, fewer where its label has fewer candidates.
        """
        rows, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for label in np.unique(labels).tolist():
            own = np.flatnonzero(labels == label)
            found = self._search(label)
            if found is not None:
                nearest = found[1][found[0].nearest(vectors if len(own) == len(labels) else vectors[own])]
                rows.append(np.repeat(own, nearest.shape[1]))
                positions.append(nearest.ravel())
        return np.concatenate(rows), np.concatenate(positions)

    def count(self, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """int64 (m,): votes of a batch for each candidate."""
        _, positions = self.ballots(vectors, labels)
        return np.bincount(positions, minlength=len(self._matrix.ids)).astype(np.int64)


def read_batch(batch: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Arrow batch -> vectors float32 (n, d) without a copy where it is one chunk, labels int32 (n,), clients."""
    column = batch["vector"]
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    vectors = array.flatten().to_numpy(zero_copy_only=True).reshape(len(array), array.type.list_size)
    clients = batch["client"].to_pylist() if "client" in batch.schema.names else None
    return vectors, batch["label"].to_numpy().astype(np.int32, copy=False), clients


def read_clients(batch: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """As `read_batch`, of a batch that has to carry clients; ValueError if it does not."""
    vectors, labels, clients = read_batch(batch)
    if clients is None:
        raise ValueError("client: the batch has no such column")
    return vectors, labels, clients
