"""Gathers records of one label over several batches, because a search among few candidates wants many queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pe_beam.contracts.search import USUAL_BLOCK

MOST_BYTES = 1 << 27
"""Vectors of the batches that are held, because some of their records wait."""
_SHORT = 1 << 16  # labels below it are sorted as 16-bit numbers: NumPy does that eight times as fast


@dataclass(frozen=True)
class Block:
    """Records of one label.

    Attributes:
      vectors: float32 (n, d).
      labels: int32 (n,), all equal.
      clients: n client ids; None if there are none.
    """

    vectors: np.ndarray
    labels: np.ndarray
    clients: Sequence[str] | None


@dataclass(eq=False)
class _Batch:
    """A batch, and how many of its records still wait. Numbers rise."""

    number: int
    vectors: np.ndarray
    clients: Sequence[str] | None
    waiting: int


@dataclass
class _Waiting:
    """The records of one label: rows of batches, the oldest batch first."""

    parts: list[tuple[_Batch, np.ndarray]] = field(default_factory=list)
    rows: int = 0


class LabelGatherer:
    """Turns batches into blocks of one label each. It changes neither records nor their number, only their order.

    A batch is held as it is until all of its records are in blocks, and each record is copied once, into its block.

    Args:
      block: number of records with which a label's block is complete.
      most_bytes: number of bytes that may be held; then what waits in the oldest batch is not held any longer.
    """

    def __init__(self, *, block: int = USUAL_BLOCK, most_bytes: int = MOST_BYTES) -> None:
        self._block, self._most = block, most_bytes
        self._waiting: dict[int, _Waiting] = {}
        self._batches = self._bytes = 0

    def add(self, vectors: np.ndarray, labels: np.ndarray, clients: Sequence[str] | None = None) -> Iterator[Block]:
        """Takes a batch, and gives the blocks that are complete. A batch of one label is complete if it is large.

        Args:
          vectors: float32 (n, d). They are held, and must not change.
          labels: int32 (n,).
          clients: n client ids, for all batches or for none.

        Raises:
          ValueError: labels are not one for each vector.
        """
        if labels.shape != vectors.shape[:1]:
            raise ValueError(f"labels: shape {vectors.shape[:1]} is needed; got {labels.shape}")
        if len(labels) == 0:
            return
        if len(labels) >= self._block and (labels == labels[0]).all():
            yield Block(vectors, labels, clients)
            return
        batch = _Batch(self._batches, vectors, clients, len(labels))
        self._batches += 1
        self._bytes += vectors.nbytes
        for label, rows in _by_label(labels):
            waiting = self._waiting.setdefault(label, _Waiting())
            waiting.parts.append((batch, rows))
            waiting.rows += len(rows)
            if waiting.rows >= self._block:
                yield self._taken(label)
        while self._bytes > self._most:
            since = {label: waiting.parts[0][0].number for label, waiting in self._waiting.items()}
            oldest = min(since.values())
            for label in [label for label, number in since.items() if number == oldest]:
                yield self._taken(label)

    def rest(self) -> Iterator[Block]:
        """Gives what still waits."""
        for label in sorted(self._waiting):
            yield self._taken(label)

    def _taken(self, label: int) -> Block:
        waiting = self._waiting.pop(label)
        first = waiting.parts[0][0]
        vectors = np.empty((waiting.rows, first.vectors.shape[1]), dtype=np.float32)
        clients: list[str] | None = None if first.clients is None else []
        start = 0
        for batch, rows in waiting.parts:
            stop = start + len(rows)
            # "clip": with the usual "raise" NumPy copies twice. The rows are within the batch.
            np.take(batch.vectors, rows, axis=0, out=vectors[start:stop], mode="clip")
            if clients is not None and batch.clients is not None:
                clients += [batch.clients[row] for row in rows.tolist()]
            self._release(batch, len(rows))
            start = stop
        return Block(vectors, np.full(len(vectors), label, np.int32), clients)

    def _release(self, batch: _Batch, rows: int) -> None:
        batch.waiting -= rows
        if not batch.waiting:
            self._bytes -= batch.vectors.nbytes


def _by_label(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each label, ascending, and its rows, int64, for int32 (n,) labels, n > 0."""
    short = labels.min() >= 0 and labels.max() < _SHORT
    order = np.argsort(labels.astype(np.uint16) if short else labels, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for rows in np.split(order, starts):
        yield int(labels[rows[0]]), rows
