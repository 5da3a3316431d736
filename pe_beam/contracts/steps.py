"""Handles for what follows a noisy histogram: selection and generation. Small; pickled into a graph."""

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
"""Rows of the next population: new ids, the parent's id and row (null: from nothing), and whether it stays as it is."""


class SelectHandle(abc.ABC):
    """Noisy votes -> the rows of the next population. Post-processing: it sees nothing private."""

    @abc.abstractmethod
    def select(self, histogram: pa.Table) -> Iterator[pa.RecordBatch]:
        """The selection in batches of SELECTION, each as many rows as one call of a generator makes.

        Args:
          histogram: columns candidate_id, label, noisy_votes, sorted by candidate_id.
        """


class GenerateHandle(abc.ABC):
    """Rows of a selection -> candidates."""

    @abc.abstractmethod
    def generate(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The candidates of one batch of SELECTION.

        It is called again for the same rows after a failure, and makes the same candidates.
        """
