"""Turns batches of private records into integer votes over the candidate matrix."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pe_beam.voting.nearest import DEFAULT_ENGINE, DEFAULT_MEMORY, NearestSearch, all_finite, flat_search


@dataclass(frozen=True)
class CandidateMatrix:
    """The candidates of one iteration, for all labels.

    Attributes:
      ids: int64 (m,), candidate_id, strictly ascending.
      labels: int32 (m,), position in the declared label list; all 0 without labels.
      vectors: float32 (m, d), finite.
      digest: SHA-256 (hex) of the file that the vectors were read from; empty if there is no file.

    Raises:
      ValueError: an array has another type or shape, ids are out of order, a label is negative, or a number is not
        finite.
    """

    ids: np.ndarray
    labels: np.ndarray
    vectors: np.ndarray
    digest: str = ""

    def __post_init__(self) -> None:
        for name, dtype, shape in (
            ("ids", np.int64, (len(self.ids),)),
            ("labels", np.int32, (len(self.ids),)),
            ("vectors", np.float32, (len(self.ids), *self.vectors.shape[1:2])),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                wanted = f"{np.dtype(dtype)} {shape}"
                raise ValueError(f"{name}: {wanted} is needed; got {array.dtype} {array.shape}")
        if self.vectors.ndim != 2:
            raise ValueError(f"vectors: 2 dimensions are needed; got {self.vectors.ndim}")
        if (np.diff(self.ids) <= 0).any():
            raise ValueError("ids: must be strictly ascending")
        if (self.labels < 0).any() or not all_finite(self.vectors):
            raise ValueError("labels must be 0 or more, and vectors finite")


SearchOf = Callable[[int, np.ndarray], NearestSearch]
"""Label, its candidates (float32 (c, d), of the matrix, in order) -> the search among them."""


class Voter:
    """Votes for the nearest candidates of a record's own label. Several threads may use it at once.

    Args:
      matrix: the candidates.
      distance, search_engine, memory: as in `flat_search`; memory is for each label.
      votes_per_record: k; a record casts min(k, candidates of its label) votes of 1, so its norm is at most sqrt(k).
      search_of: makes the search among a label's candidates; None: `flat_search`, which is exact.
      digest: digest of everything that is voted on, if that is more than the matrix.

    Raises:
      ValueError: as `flat_search`, at the first batch that contains a label.

    Attributes:
      digest: as given, or `CandidateMatrix.digest` of the matrix.
      width: m.
      votes_per_record: k.
    """

    def __init__(
        self,
        matrix: CandidateMatrix,
        *,
        distance: str,
        votes_per_record: int,
        search_engine: str = DEFAULT_ENGINE,
        memory: int = DEFAULT_MEMORY,
        search_of: SearchOf | None = None,
        digest: str = "",
    ) -> None:
        self._matrix, self._distance, self._votes, self._search_engine = (
            matrix,
            distance,
            votes_per_record,
            search_engine,
        )
        self._memory = memory
        self.digest, self.width, self.votes_per_record = digest or matrix.digest, len(matrix.ids), votes_per_record
        self._search_of = search_of
        self._lock = threading.Lock()
        self._searches: dict[int, tuple[NearestSearch, np.ndarray] | None] = {}

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns all votes of a batch. Records of a label without candidates cast no vote.

        Args:
          vectors: float32 (n, d).
          labels: int32 (n,).

        Returns:
          Rows and positions in the matrix, int64 (v,) each, ordered by row and then position.

        Raises:
          ValueError: an array has another type or shape, or a vector is not finite.
        """
        if labels.shape != vectors.shape[:1]:
            raise ValueError(f"labels: shape {vectors.shape[:1]} is needed; got {labels.shape}")
        if len(labels) and (labels == labels[0]).all():
            return self._of_label(int(labels[0]), vectors)
        rows, positions = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for label in np.unique(labels).tolist():
            mine = np.flatnonzero(labels == label)
            row, position = self._of_label(label, vectors[mine])
            rows.append(mine[row])
            positions.append(position)
        row, position = np.concatenate(rows), np.concatenate(positions)
        order = np.argsort(row, kind="stable")
        return row[order], position[order]

    def _of_label(self, label: int, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the votes of records that have all the same label, as `ballots` does."""
        found = self._search(label)
        if found is None:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        search, members = found
        nearest = search.nearest(vectors)
        return np.repeat(np.arange(len(vectors)), nearest.shape[1]), members[nearest.ravel()]

    def count(self, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Counts the votes of a batch: int64 (m,), by position in the matrix. Arguments and errors as in `ballots`."""
        _, positions = self.ballots(vectors, labels)
        return np.bincount(positions, minlength=len(self._matrix.ids)).astype(np.int64, copy=False)

    def _search(self, label: int) -> tuple[NearestSearch, np.ndarray] | None:
        """Returns the search among one label's candidates, built once, and their positions in the matrix."""
        with self._lock:
            if label not in self._searches:
                members = np.flatnonzero(self._matrix.labels == label)
                self._searches[label] = (self._build(label, members), members) if len(members) else None
            return self._searches[label]

    def _build(self, label: int, members: np.ndarray) -> NearestSearch:
        if self._search_of is not None:
            return self._search_of(label, self._matrix.vectors[members])
        return flat_search(
            self._matrix.vectors,
            distance=self._distance,
            votes=self._votes,
            search_engine=self._search_engine,
            among=members,
            memory=self._memory,
        )


def read_batch(batch: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Reads an Arrow batch of embedded records into arrays. Slices, offsets and chunks are respected.

    Args:
      batch: columns `label` int32, `vector` FixedSizeList<float32>[d] and, if there are clients, `client` string.

    Returns:
      vectors: float32 (n, d), without a copy if the column is one chunk.
      labels: int32 (n,).
      clients: n client ids; None without the column.

    Raises:
      ValueError: a column is missing, has another type or contains a null. The message contains no value.
    """
    vector, label = _column(batch, "vector"), _column(batch, "label")
    kind = vector.type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32() or label.type != pa.int32():
        raise ValueError(f"vector, label: fixed size lists of float, int32 are needed; got {kind}, {label.type}")
    flat = vector.flatten()  # of this slice only, unlike .values
    if flat.null_count:
        raise ValueError("vector: nulls are not allowed")
    vectors = flat.to_numpy(zero_copy_only=True).reshape(len(vector), kind.list_size)
    clients = _column(batch, "client").to_pylist() if "client" in batch.schema.names else None
    return vectors, label.to_numpy(zero_copy_only=True), clients


def read_clients(batch: pa.Table | pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Reads a batch that must have client ids. Otherwise it is like `read_batch`.

    Raises:
      ValueError: as `read_batch`, or the column `client` is missing.
    """
    vectors, labels, clients = read_batch(batch)
    if clients is None:
        raise ValueError("client: this column is missing")
    return vectors, labels, clients


def _column(batch: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    if name not in batch.schema.names:
        raise ValueError(f"{name}: this column is missing")
    column = batch.column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        raise ValueError(f"{name}: nulls are not allowed")
    return array
