"""What votes are made of: who casts them, on what, and how they add up."""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Unit(enum.StrEnum):
    """The privacy unit: what one noisy histogram hides.

    >>> Unit("client").value
    'client'
    """

    RECORD = "record"
    CLIENT = "client"


class Adjacency(enum.StrEnum):
    """The neighbouring relation: what makes two data sets neighbours.

    >>> [adjacency.value for adjacency in Adjacency]
    ['add-or-remove-one', 'replace-one']
    """

    ADD_OR_REMOVE_ONE = "add-or-remove-one"
    REPLACE_ONE = "replace-one"


class Ballots(Protocol):
    """What a record votes for. Safe for use from several threads at once.

    Attributes:
      digest: of what is voted on; votes on another are never added to these. Empty where it is declared.
      width: how many positions there are.
      votes_per_record: votes of 1 that a record casts, at most.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def votes_per_record(self) -> int: ...  # noqa: D102

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every vote of a batch.

        Args:
          vectors: float32 (n, d).
          labels: int32 (n,), positions in the declared list.

        Returns:
          Rows of the batch and positions voted for, int64 (v,) each.
        """


class BallotHandle(abc.ABC):
    """Names what is voted on. Small; pickles; a graph holds it instead of vectors."""

    @abc.abstractmethod
    def load(self) -> Ballots:
        """The ballots, loaded once a process: call it for each batch."""


class Grid(abc.ABC):
    """Says how fine the counts of clients are. Pickles."""

    @abc.abstractmethod
    def grid_bits(self) -> int:
        """The number b: counts are whole multiples of 2^-b votes."""


@dataclass(frozen=True)
class Tally:
    """Exact votes of all records so far. Private.

    Attributes:
      digest: of what was voted on, as `Ballots.digest`.
      counts: int64 (m,), on the grid of 2^-grid_bits votes.
      unit: whose votes are bounded together.
      votes_per_record: votes of 1 that a record casts, at most; 1 for clients, whose norm is 1.
      grid_bits: b; 0 for records.
    """

    digest: str
    counts: np.ndarray
    unit: Unit
    votes_per_record: int
    grid_bits: int

    def belongs(self) -> tuple[str, Unit, int, int]:
        """What two tallies must agree in to be added."""
        return self.digest, self.unit, self.votes_per_record, self.grid_bits
