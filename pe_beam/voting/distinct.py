"""Groups equal candidates, in bounded memory: a search treats them as one, or their ties would be undecided always."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_CHUNK = 1 << 17  # numbers looked at at once: some 4 MB of scratch


class Distinct:
    """The distinct rows among some candidates, which are not copied.

    Args:
      vectors: float32 (M, d), finite; it may be memory-mapped.
      among: int64 (m,), ascending positions in it; None: all.

    Attributes:
      firsts: int64 (u,), for each distinct row its first position in `vectors`, ascending.
      members: int64 (m,), positions among the m candidates, grouped by distinct row, ascending in each group.
      starts: int64 (u + 1,), the start of each group in `members`.

    >>> points = np.array([[0, 0], [3, 4], [-0.0, 0]], dtype=np.float32)
    >>> Distinct(points).members.tolist(), Distinct(points).starts.tolist()
    ([0, 2, 1], [0, 2, 3])
    """

    def __init__(self, vectors: np.ndarray, among: np.ndarray | None = None) -> None:
        self._vectors = vectors
        self._where = np.arange(len(vectors)) if among is None else among
        owner = self._owners()
        firsts = np.flatnonzero(owner == np.arange(len(owner)))
        self.members = np.argsort(owner, kind="stable")
        self.starts = np.append(np.searchsorted(owner[self.members], firsts), len(owner))
        self.firsts = self._where[firsts]

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of distinct rows, and dimension."""
        return len(self.firsts), self._vectors.shape[1]

    def __getitem__(self, columns: np.ndarray) -> np.ndarray:
        """Returns float32 (p, d), the distinct rows at int64 (p,) columns."""
        rows: np.ndarray = self._vectors[self.firsts[columns]]
        return rows

    def part(self, start: int, stop: int) -> np.ndarray:
        """Returns the distinct rows start to stop; a view, if nothing between them is left out."""
        first = self.firsts[start:stop]
        if first[-1] - first[0] == len(first) - 1:
            return self._vectors[first[0] : first[-1] + 1]
        rows: np.ndarray = self._vectors[first]
        return rows

    def _owners(self) -> np.ndarray:
        """Returns for each candidate the first one that is equal to it. Equal hashes only say what to compare."""
        hashes = self._hashes()
        order = np.argsort(hashes, kind="stable")
        owner = np.arange(len(order))
        same = np.append(False, hashes[order[1:]] == hashes[order[:-1]])
        group = np.cumsum(~same)
        left = np.flatnonzero(same | np.append(same[1:], False))  # in groups of several, by hash and then position
        while len(left):
            head = np.append(True, group[left[1:]] != group[left[:-1]])
            leader = order[left[head]][np.cumsum(head) - 1][~head]
            left = left[~head]  # a leader owns itself
            follower = order[left]
            equal = np.empty(len(left), dtype=bool)
            for part in self._chunks(len(left)):
                one, other = self._where[follower[part]], self._where[leader[part]]
                equal[part] = (self._vectors[one] == self._vectors[other]).all(axis=1)
            owner[follower[equal]] = leader[equal]
            left = left[~equal]
        return owner

    def _hashes(self) -> np.ndarray:
        keys = np.random.default_rng(0).integers(0, 2**63, self._vectors.shape[1], dtype=np.uint64) * 2 + 1
        hashes = np.empty(len(self._where), dtype=np.uint64)
        for part in self._chunks(len(self._where)):
            rows = self._vectors[self._where[part]] + np.float32(0)  # -0.0 becomes 0.0
            words = rows.view(np.uint32).astype(np.uint64)
            words ^= words >> np.uint64(15)
            hashes[part] = (words * keys).sum(axis=1, dtype=np.uint64)
        return hashes

    def _chunks(self, length: int) -> Iterator[slice]:
        step = max(1, _CHUNK // self._vectors.shape[1])
        return (slice(start, start + step) for start in range(0, length, step))
