"""Gathers records of one label over several batches, because a search among few candidates wants many queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pe_beam.contracts.search import USUAL_BLOCK

MOST_BYTES = 1 << 26
"""Vectors that wait, of all labels together."""


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


@dataclass
class _Waiting:
    vectors: list[np.ndarray] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    rows: int = 0


class LabelGatherer:
    """Turns batches into blocks of one label each. It changes neither records nor their number, only their order.

    Args:
      block: number of records with which a label's block is complete.
      most_bytes: number of bytes that may wait; then the label with the most records is not waited for any longer.
    """

    def __init__(self, *, block: int = USUAL_BLOCK, most_bytes: int = MOST_BYTES) -> None:
        self._block, self._most = block, most_bytes
        self._waiting: dict[int, _Waiting] = {}
        self._bytes = 0

    def add(self, vectors: np.ndarray, labels: np.ndarray, clients: Sequence[str] | None = None) -> Iterator[Block]:
        """Takes a batch, and gives the blocks that are complete. A batch of one label is complete if it is large.

        Args:
          vectors: float32 (n, d).
          labels: int32 (n,).
          clients: n client ids, for all batches or for none.

        Raises:
          ValueError: labels are not one for each vector.
        """
        if labels.shape != vectors.shape[:1]:
            raise ValueError(f"labels: shape {vectors.shape[:1]} is needed; got {labels.shape}")
        if len(labels) >= self._block and (labels == labels[0]).all():
            yield Block(vectors, labels, clients)
            return
        order = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else []:
            label = int(labels[rows[0]])
            waiting = self._waiting.setdefault(label, _Waiting())
            waiting.vectors.append(vectors[rows])
            waiting.rows += len(rows)
            self._bytes += waiting.vectors[-1].nbytes
            if clients is not None:
                waiting.clients += [clients[row] for row in rows.tolist()]
            if waiting.rows >= self._block:
                yield self._taken(label, with_clients=clients is not None)
        while self._bytes > self._most:
            fullest = max(self._waiting, key=lambda label: self._waiting[label].rows)
            yield self._taken(fullest, with_clients=clients is not None)

    def rest(self) -> Iterator[Block]:
        """Gives what still waits."""
        for label in sorted(self._waiting):
            yield self._taken(label, with_clients=bool(self._waiting[label].clients))

    def _taken(self, label: int, *, with_clients: bool) -> Block:
        waiting = self._waiting.pop(label)
        vectors = waiting.vectors[0] if len(waiting.vectors) == 1 else np.concatenate(waiting.vectors)
        self._bytes -= vectors.nbytes
        return Block(vectors, np.full(len(vectors), label, np.int32), waiting.clients if with_clients else None)
