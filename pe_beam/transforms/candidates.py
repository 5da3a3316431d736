"""Candidates for a user's own pipeline: a graph holds the name of a file, and each worker process loads it once."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.votes import BallotHandle, Ballots
from pe_beam.errors import InputError
from pe_beam.kept import kept
from pe_beam.storage import open_store
from pe_beam.storage.parquet import parse_parquet
from pe_beam.voting.nearest import DEFAULT_ENGINE
from pe_beam.voting.votes import CandidateMatrix, Voter


@dataclass(frozen=True)
class Candidates(BallotHandle):
    """Handle of the candidates that private records vote on. `write_candidates` makes it. It can be pickled.

    Attributes:
      store: URI of the store that holds the file.
      name: name of the file.
      digest: SHA-256 (hex) of its bytes. Another file of that name is refused.
      distance: "l2", "cosine" or "inner_product".
      votes_per_record: k; a record votes for the k nearest candidates of its label.
      search_engine: name of a registered search engine. Votes are the same with every engine.

    >>> import pickle
    >>> found = write_candidates("memory://a-handle", np.zeros((1, 2), dtype=np.float32), labels=[0])
    >>> len(pickle.dumps(found)) < 500
    True
    """

    store: str
    name: str
    digest: str
    distance: str = "l2"
    votes_per_record: int = 1
    search_engine: str = DEFAULT_ENGINE

    is_there: ClassVar[bool] = True

    def load(self) -> Ballots:
        """See `BallotHandle`. Raises InputError if the file has another digest."""
        return _loaded(self)


def write_candidates(
    store: str,
    vectors: np.ndarray,
    *,
    name: str = "candidates.parquet",
    labels: Sequence[int] | None = None,
    distance: str = "l2",
    votes_per_record: int = 1,
    search_engine: str = DEFAULT_ENGINE,
) -> Candidates:
    """Writes candidates as one file and returns their handle.

    Args:
      store: URI of a store, or a folder.
      vectors: float32 (m, d), independent of the private data. For cosine each has length 1 (`normalise_rows`).
      name: name of the file. An existing file is replaced.
      labels: m positions in the declared list; None: no labels.
      distance: as in `Candidates`.
      votes_per_record: as in `Candidates`.
      search_engine: as in `Candidates`.

    Raises:
      ValueError: the vectors have another type or shape, or contain a number that is not finite.

    >>> corners = np.array([[0, 0], [9, 9]], dtype=np.float32)
    >>> candidates = write_candidates("memory://a-vote", corners)
    >>> candidates.load().width
    2
    """
    codes = np.zeros(len(vectors), dtype=np.int32) if labels is None else np.asarray(labels, dtype=np.int32)
    matrix = CandidateMatrix(np.arange(len(vectors)), codes, vectors)
    columns = {
        "label": pa.array(matrix.labels, pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1]),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
    opened = open_store(store)
    opened.commit(name, sink.getvalue(), replace=True)
    digest = hashlib.sha256(sink.getvalue()).hexdigest()
    return Candidates(opened.uri, name, digest, distance, votes_per_record, search_engine)


@kept(maxsize=2)
def _loaded(handle: Candidates) -> Voter:
    data = open_store(handle.store).read(handle.name)
    if hashlib.sha256(data).hexdigest() != handle.digest:
        raise InputError(f"candidates {handle.name}: another file lies there than the handle names; write them again")
    table = parse_parquet(data)
    vector = table["vector"].combine_chunks()
    matrix = CandidateMatrix(
        np.arange(table.num_rows),
        table["label"].to_numpy(),
        vector.flatten().to_numpy().reshape(table.num_rows, vector.type.list_size),
        digest=handle.digest,
    )
    votes = handle.votes_per_record
    return Voter(matrix, distance=handle.distance, votes_per_record=votes, search_engine=handle.search_engine)
