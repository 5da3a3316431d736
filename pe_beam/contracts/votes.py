"""Types of votes: the privacy unit, the neighbouring relation, ballots, and tallies of votes."""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np


class Unit(enum.StrEnum):
    """The privacy unit, which a noisy histogram protects.

    >>> Unit("client").value
    'client'
    """

    RECORD = "record"
    CLIENT = "client"


class Adjacency(enum.StrEnum):
    """The neighbouring relation: when two data sets are neighbours.

    >>> Adjacency("replace-one").value
    'replace-one'
    """

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"


class Ballots(Protocol):
    """Computes the votes of records. Several threads may use it at once.

    Attributes:
      digest: digest of the candidates. Votes on candidates with another digest are never added to these. It is empty
        if the positions are declared.
      width: the number of positions.
      votes_per_record: largest number of votes of weight 1 that a record casts.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def votes_per_record(self) -> int: ...  # noqa: D102

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns all votes of a batch.

        Args:
          vectors: float32 (n, d).
          labels: int32 (n,), positions in the declared list.

        Returns:
          Rows of the batch and the positions that they vote for, int64 (v,) each.
        """


class BallotHandle(abc.ABC):
    """Names the candidates that records vote on. It is small and is pickled into a graph in place of vectors.

    Attributes:
      is_there: whether they can be loaded before any record comes, so that no records at all have a tally of zeros.
    """

    is_there: ClassVar[bool] = False

    @abc.abstractmethod
    def load(self) -> Ballots:
        """Returns the ballots. They are loaded once per process, so callers can call it for each batch."""


class Grid(abc.ABC):
    """Declares the resolution of the counts of clients. It can be pickled."""

    @abc.abstractmethod
    def grid_bits(self) -> int:
        """Returns b: counts are whole multiples of 2^-b votes."""


@dataclass(frozen=True)
class Tally:
    """Exact votes of all records so far. Private.

    Attributes:
      digest: digest of the candidates, as `Ballots.digest`.
      counts: int64 (m,), in units of 2^-grid_bits votes.
      unit: the privacy unit, whose votes are bounded together.
      votes_per_record: largest number of votes of weight 1 that a record casts; 1 for clients, whose norm is 1.
      grid_bits: b; 0 for records.
    """

    digest: str
    counts: np.ndarray
    unit: Unit
    votes_per_record: int
    grid_bits: int

    def belongs(self) -> tuple[str, Unit, int, int]:
        """Returns the values that two tallies must share if they are added."""
        return self.digest, self.unit, self.votes_per_record, self.grid_bits
