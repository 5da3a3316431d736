"""Handles of selection and generation, the steps after a noisy histogram. They are small and pickled into a graph."""

from __future__ import annotations

import abc
from collections.abc import Iterator

import pyarrow as pa

SELECTION = pa.schema(
    [
        ("candidate_id", pa.int64()),
        ("parent_id", pa.int64()),
        ("parent_row", pa.int64()),
        ("label", pa.string()),
        ("kept", pa.bool_()),
    ]
)
"""Rows of the next population: its new id, the id and row of its parent (null: it has none), its label, and whether
the parent is kept unchanged."""


class SelectHandle(abc.ABC):
    """Turns noisy votes into the rows of the next population. It is post-processing and sees nothing private."""

    @abc.abstractmethod
    def select(self, histogram: pa.Table) -> Iterator[pa.RecordBatch]:
        """Yields the selection in batches of SELECTION, each with the rows of one call of a generator.

        Args:
          histogram: columns candidate_id, label, noisy_votes, sorted by candidate_id.
        """


class GenerateHandle(abc.ABC):
    """Turns rows of a selection into candidates."""

    @abc.abstractmethod
    def generate(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the candidates of one batch of SELECTION.

        After a failure it is called again for the same rows, and makes the same candidates.
        """
