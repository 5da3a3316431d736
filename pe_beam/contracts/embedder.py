"""An embedder: record or candidate -> vector."""

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


@dataclass(frozen=True)
class Embedding:
    """Vectors of a batch, float32 of shape (n, d); rows named in `faults` are zero and count for nothing."""

    vectors: np.ndarray
    faults: Mapping[int, Fault] = field(default_factory=dict)


class Embedder(abc.ABC):
    """Record or candidate -> float32 vector of fixed length `dimension`."""

    Options: ClassVar[type[Options]]
    modality: ClassVar[str | None] = None
    """Name of the modality whose records it takes, as a generator's."""
    batch_size: ClassVar[int] = 1024
    """Rows embedded at a time, at most; fewer where they are large."""
    remote: ClassVar[bool] = False
    """True where records are sent to a service outside this machine."""
    takes_schema: ClassVar[bool] = False
    """True where `__init__` also takes `schema=`, as a generator's may."""

    dimension: int

    @abc.abstractmethod
    def __init__(self, options: BaseModel) -> None:
        """Loads what is needed; raises RecipeError or MissingExtraError."""

    @abc.abstractmethod
    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the payload columns of a table. A record that cannot be embedded is a fault.

        A vector is a function of its record alone, to the last bit, whatever stands beside it: the sensitivity of
        votes rests on it. Libraries that pad or multiply in batches do not give that by themselves.
        """

    def trial(self) -> pa.Table | None:
        """Made-up records for the self-check that each process makes before it embeds private ones.

        They are embedded in several companies (`modalities.selfcheck`), and a vector that comes out otherwise stops the
        run before any budget is spent. Whoever computes on torch, or with other libraries that work on batches, gives
        some: the same everywhere, of no private origin, enough to fill a batch of the size in use, and so ordered that
        every other one is of another kind (full and padded texts). None: records are embedded one by one, with nothing
        to find; of a remote service the contract is an assumption.
        """
        return None

    def marginal_sizes(self) -> dict[str, int]:
        """Column -> bins of its marginal; empty where vectors have none to count."""
        return {}

    def marginal_bins(self, vectors: np.ndarray) -> np.ndarray:
        """The one bin of each column that each vector, float32 (n, d), falls into: int64 (n, columns)."""
        raise NotImplementedError

    def attach(self, surroundings: Surroundings) -> None:  # noqa: B027
        """Told once which run it works in, before it is asked for anything; raises RecipeError."""

    def ready(self) -> None:  # noqa: B027
        """Asked on the driver before any data are read: is all there that embedding needs? Raises PeBeamError."""
