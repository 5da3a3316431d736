"""The contract of an embedder, which turns a record or candidate into a vector."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import StageError


@dataclass(frozen=True)
class Embedding:
    """Vectors of a batch, float32 of shape (n, d). The rows in `faults` are zero and are not used."""

    vectors: np.ndarray
    faults: Mapping[int, Fault] = field(default_factory=dict)


def checked_vectors(found: Embedding, rows: int, dimension: int) -> np.ndarray:
    """Returns what `Embedder.embed` has made of some rows, if it is float32 (rows, dimension).

    Checked, because NumPy would copy one vector, or one number, to all of several records.

    Raises:
      StageError: it is something else. The message has no number of rows, because that of private records is private.
    """
    if not isinstance(found, Embedding):
        raise StageError(f"embedder: {type(found).__name__} came back where contracts.Embedding is wanted")
    vectors = found.vectors
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        told = getattr(vectors, "dtype", type(vectors).__name__)
        raise StageError(f"embedder: vectors are {told}; an array of float32 is wanted")
    if vectors.ndim != 2 or vectors.shape[1] != dimension:
        told = f"of length {vectors.shape[1]}" if vectors.ndim == 2 else f"an array of {vectors.ndim} dimensions"
        raise StageError(f"embedder: vectors are {told}; dimension says {dimension}, and a row a record is wanted")
    if len(vectors) != rows:
        raise StageError("embedder: it gives not as many vectors as records; a row a record is wanted, faults included")
    return vectors


class Embedder(abc.ABC):
    """Turns a record or candidate into a float32 vector of the fixed length `dimension`."""

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose records it takes, with the same meaning as for a generator."""
    batch_size: ClassVar[int] = 1024
    """Largest number of rows that are embedded at a time. It is smaller for large rows."""
    remote: ClassVar[bool] = False
    """True if records are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True if `__init__` also takes `schema=`, with the same meaning as for a generator."""

    counts_several: ClassVar[frozenset[str]] = frozenset()
    """Columns of `marginal_sizes` in which a record has several bins. If there are any, `marginal_ballots` is counted
    instead of `marginal_bins`. Only norms of clients bound that, so the privacy unit has to be the client."""

    dimension: int
    marginal_parts: int = 1
    """In how many equal parts a record counts in marginals: 1, or more where it is several rows (`marginal_bins`)."""

    @abc.abstractmethod
    def __init__(self, options: BaseModel) -> None:
        """Loads the model and whatever else it needs. Raises RecipeError or MissingExtraError."""

    @abc.abstractmethod
    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the payload columns of a table. A record that cannot be embedded is a fault.

        A vector is a function of its record alone, to the last bit, whatever other records are in the batch. The
        sensitivity of votes depends on this. Libraries that pad or multiply in batches do not guarantee it.
        """

    def trial(self) -> pa.Table | None:
        """Returns made-up records for the self-check, which each process makes before it embeds private records.

        They are embedded in several combinations (`contracts.selfcheck`). If a vector changes, the run stops before any
        budget is spent. An embedder that uses torch or another library that works on batches returns trial records.
        They are the same everywhere, contain nothing private, fill at least one batch of the size in use, and alternate
        between two kinds (full and padded texts). It returns None if records are embedded one by one, because then the
        check can find nothing. For a remote service the contract is only assumed.
        """
        return None

    def marginal_sizes(self) -> dict[str, int]:
        """Returns column -> number of bins of its marginal; empty if vectors have no marginals to count."""
        return {}

    def marginal_groups(self, most: int) -> dict[str, np.ndarray]:
        """Returns column -> the group of each bin, int64 (bins,), at most `most` groups of neighbouring bins.

        Counts of pairs of columns are by group. An embedder whose last bin is that of missing values gives it a group.
        """
        return {name: group_bins(size, most) for name, size in self.marginal_sizes().items()}

    def marginal_ordered(self) -> dict[str, int]:
        """Returns column -> how many of its first bins lie in an order; 0 for categories.

        Ordered bins are grouped with their neighbours, and what follows them (missing values) by itself.
        """
        return self.marginal_sizes()

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the bin of each vector in each column, int64 (n * marginal_parts, columns): part by part of a record.

        The vectors are float32 (n, d).
        """
        raise NotImplementedError

    def marginal_slices(self) -> dict[str, int]:
        """Returns column -> number of slices of each of its ordered bins, for columns whose bins hold several values.

        Slices are finer bins: several values next to each other, or one. Empty if they cannot be counted.
        """
        return {}

    def sliced_bins(self, vectors: np.ndarray) -> np.ndarray:
        """Returns the slice of each vector in each column of `marginal_slices`, int64 (n, those columns).

        The vectors are float32 (n, d). Slices are numbered bin by bin; each bin without an order counts as one more.
        """
        raise NotImplementedError

    def marginal_ballots(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what is counted of each vector where a record has several bins of a column (`counts_several`).

        Returns:
          Rows of `vectors`, columns (places in `marginal_sizes`) and bins, int64 (v,) each. One that comes several
          times has that weight. The weights of a row say how its bins compare: all of a client's together are scaled
          to norm 1 before they are counted.
        """
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Receives the run that it works in. It is called once, before other methods. Raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Raises PeBeamError if anything that embedding needs is missing. The driver calls it before data are read."""

    def ready_here(self) -> None:  # noqa: B027
        """Raises PeBeamError if this machine lacks what it needs, such as a GPU.

        The driver calls it after `ready` if all workers run on its machine.
        """


def group_bins(bins: int, most: int) -> np.ndarray:
    """Returns the group of each bin, int64 (bins,): neighbouring bins together, as even as they can be.

    >>> group_bins(5, 2).tolist(), group_bins(3, 8).tolist()
    ([0, 0, 0, 1, 1], [0, 1, 2])
    """
    return np.arange(bins) * min(bins, most) // bins
