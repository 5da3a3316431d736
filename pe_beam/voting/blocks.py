"""Gathers records of a label over batches, so that a search among few candidates still gets many queries at a time.

A batch of 8,192 records of 50 labels holds 164 records a label. A product of so few queries costs far more a query,
because the candidates are brought into the cache again for each of them. Votes are a function of the record alone, so
gathering changes no count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROWS = 1024
"""Records of a label that are voted on together: as many queries as a search takes at a time."""
BYTES = 256 << 20
"""Bytes of vectors that wait at most, over all labels."""


@dataclass(frozen=True)
class Block:
    """Records that are voted on together.

    Attributes:
      vectors: float32 (n, d). They may be a view of memory that is used again once the next block is asked for.
      labels: int32 (n,).
      clients: n client ids; None for the record unit.
    """

    vectors: np.ndarray
    labels: np.ndarray
    clients: list[str] | None


class _Waiting:
    """Records of one label, at most `rows`."""

    def __init__(self, label: int, rows: int, dimension: int) -> None:
        self._vectors = np.empty((rows, dimension), dtype=np.float32)
        self.relabel(label)

    def relabel(self, label: int) -> None:
        self._label, self._clients, self.used = label, list[str](), 0

    def room(self) -> int:
        return len(self._vectors) - self.used

    def add(self, vectors: np.ndarray, rows: np.ndarray, clients: list[str] | None) -> None:
        self._vectors[self.used : self.used + len(rows)] = vectors[rows]
        self._clients += _picked(clients, rows) or []
        self.used += len(rows)

    def taken(self, *, clients: bool) -> Block:
        labels = np.full(self.used, self._label, dtype=np.int32)
        block = Block(self._vectors[: self.used], labels, self._clients if clients else None)
        self.relabel(self._label)
        return block


class LabelBlocks:
    """Takes batches and gives blocks of one label each. Every record comes out once. For one bundle and one thread.

    Args:
      rows: records of a label that are given together; less where `most` asks for it.
      most: bytes of vectors that wait at most, over all labels (at least one record of one label).
    """

    def __init__(self, *, rows: int = ROWS, most: int = BYTES) -> None:
        self._rows, self._most = rows, most
        self._waiting: dict[int, _Waiting] = {}
        self._dimension: int | None = None
        self._clients = False

    def add(self, vectors: np.ndarray, labels: np.ndarray, clients: list[str] | None = None) -> Iterator[Block]:
        """Takes a batch and gives the blocks that are full. All of them have to be taken.

        Args:
          vectors: float32 (n, d); d is the same for all batches.
          labels: int32 (n,).
          clients: n client ids, for all batches or for none.

        Raises:
          ValueError: the arrays have different lengths, or vectors another d than before.
        """
        if labels.shape != vectors.shape[:1] or vectors.ndim != 2:
            raise ValueError(f"labels: shape {vectors.shape[:1]} is needed; got {labels.shape}")
        if self._dimension is None:
            self._dimension, self._clients = vectors.shape[1], clients is not None
            self._rows = max(1, min(self._rows, self._most // (4 * max(1, self._dimension))))
        elif vectors.shape[1] != self._dimension:
            raise ValueError(f"vectors: all batches must have one dimension, {self._dimension}; got {vectors.shape[1]}")
        if not len(labels):
            return
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        if len(present) == 1 and len(labels) >= self._rows:
            yield Block(vectors, labels, clients)  # without a copy
            return
        for label, mine in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
            whole = len(mine) - len(mine) % self._rows
            if whole:
                yield Block(vectors[mine[:whole]], labels[mine[:whole]], _picked(clients, mine[:whole]))
            yield from self._keep(label, vectors, mine[whole:], clients)

    def flush(self) -> Iterator[Block]:
        """Gives what is left, by ascending label."""
        for _, waiting in sorted(self._waiting.items()):
            if waiting.used:
                yield waiting.taken(clients=self._clients)
        self._waiting = {}

    def _keep(self, label: int, vectors: np.ndarray, rows: np.ndarray, clients: list[str] | None) -> Iterator[Block]:
        """Lets fewer than a block's records wait. Gives the block that they fill, or one that made room for them."""
        if not len(rows):
            return
        if label not in self._waiting:
            yield from self._opened(label)
        waiting = self._waiting[label]
        fit = min(waiting.room(), len(rows))
        waiting.add(vectors, rows[:fit], clients)
        if not waiting.room():
            yield waiting.taken(clients=self._clients)
        waiting.add(vectors, rows[fit:], clients)

    def _opened(self, label: int) -> Iterator[Block]:
        """Finds memory for a label: new, or that of the label of which most records wait, which are given."""
        assert self._dimension is not None
        size = 4 * self._rows * max(1, self._dimension)
        if not self._waiting or (len(self._waiting) + 1) * size <= self._most:
            self._waiting[label] = _Waiting(label, self._rows, self._dimension)
            return
        fullest = max(self._waiting, key=lambda known: (self._waiting[known].used, -known))
        waiting = self._waiting.pop(fullest)
        if waiting.used:
            yield waiting.taken(clients=self._clients)
        waiting.relabel(label)
        self._waiting[label] = waiting


def _picked(clients: list[str] | None, rows: np.ndarray) -> list[str] | None:
    return None if clients is None else [clients[row] for row in rows.tolist()]
