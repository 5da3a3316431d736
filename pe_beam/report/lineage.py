"""Parents and children of candidates, and the candidates that a report shows. Equal releases give equal choices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.errors import InputError
from pe_beam.report.history import History

MOST_ITERATIONS = 12
MOST_LABELS = 60
MOST_IN_GALLERIES = 1700
_KIN = 8
MOST_NODES = 6000  # for pictures; a quarter of it for texts and rows


def evenly(count: int, most: int) -> list[int]:
    """Returns at most `most` of `count` positions at even steps, with the first and the last; only the last for 1.

    >>> evenly(11, 3), evenly(3, 5), evenly(5, 1)
    ([0, 5, 10], [0, 1, 2], [4])
    """
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


@dataclass(frozen=True, eq=False)
class Generation:
    """One population without its content. All arrays have one entry per candidate, in order of id.

    Attributes:
      ids: int64, candidate ids.
      codes: int32, position of the label in the declared list.
      parents: int64, row of the parent (of the candidate itself, if it was kept) in the previous population; -1 if the
        candidate is random.
      kept: bool, whether the candidate was kept unchanged from the previous population.
      votes: float64, noisy votes of each candidate; None if there was no vote on this population.
      children: int64, number of direct descendants in the next population (including the candidate itself, if kept).
    """

    ids: np.ndarray
    codes: np.ndarray
    parents: np.ndarray
    kept: np.ndarray
    votes: np.ndarray | None
    children: np.ndarray

    @cached_property
    def order(self) -> np.ndarray:
        """Returns rows by noisy votes, most first; by id without votes."""
        return np.arange(len(self.ids)) if self.votes is None else np.lexsort((self.ids, -self.votes))


@dataclass(frozen=True, eq=False)
class Lineage:
    """All generations of a release, and the candidates that its report shows.

    Attributes:
      history: the release.
      gallery_size: most records of one label and iteration that are shown.
      most_nodes: limit for the candidates of galleries and their ancestors in the family tree.

    Raises:
      InputError: when generations are read: a candidate's parent is not in the previous population.
    """

    history: History
    gallery_size: int
    most_nodes: int = MOST_NODES

    @cached_property
    def generations(self) -> list[Generation]:
        """Returns the generations by iteration."""
        found: list[Generation] = []
        for t in self.history.iterations:
            found.append(self._generation(t, found[-1] if found else None))
            if t:
                before = found[t - 1]
                before.children[:] = np.bincount(found[t].parents, minlength=len(before.ids))
        return found

    def _generation(self, t: int, before: Generation | None) -> Generation:
        table = self.history.population(t, ["candidate_id", "parent_id", "label", "origin"])
        ids = table["candidate_id"].to_numpy()
        labels = pa.array(self.history.labels, pa.string())
        codes = pc.index_in(table["label"], value_set=labels).to_numpy().astype(np.int32)
        kept = pc.equal(table["origin"], "kept").to_numpy(zero_copy_only=False)
        if before is None:
            parents = np.full(len(ids), -1)
        else:
            named = pc.fill_null(table["parent_id"], -1).to_numpy()
            wanted = np.where(kept, ids, named)
            parents = np.minimum(np.searchsorted(before.ids, wanted), len(before.ids) - 1)
            if not (before.ids[parents] == wanted).all():
                raise InputError(f"population {t}: a parent is not in population {t - 1}; restore the release")
        voted = t + 1 in self.history.iterations
        votes = self.history.votes(t + 1) if voted else None
        return Generation(ids, codes, parents, kept, votes, np.zeros(len(ids), dtype=np.int64))

    @cached_property
    def shown_iterations(self) -> list[int]:
        """Returns the populations that get a gallery."""
        return evenly(len(self.history.iterations), MOST_ITERATIONS)

    @cached_property
    def shown_codes(self) -> list[int]:
        """Returns the positions of the labels that get a gallery."""
        return evenly(len(self.history.labels), MOST_LABELS)

    @cached_property
    def size(self) -> int:
        """Returns the number of records of one label in the newest population's gallery. Others get half as many."""
        cells = (len(self.shown_iterations) + 1) * len(self.shown_codes)
        return max(2, min(self.gallery_size, 2 * MOST_IN_GALLERIES // cells))

    @cached_property
    def gallery(self) -> Callable[[int, int], list[int]]:
        """Returns what gives the rows of a population that are shown for one label, chosen once.

        For the newest population they are taken at even steps. For another population the first half are the candidates
        with most votes, and the second half is taken from the rest at even steps.
        """
        return functools.cache(self._gallery)  # of this object: a cache of the class would keep each Lineage alive

    def _gallery(self, t: int, code: int) -> list[int]:
        generation = self.generations[t]
        rows = np.flatnonzero(generation.codes == code)
        if t == self.history.last:
            return [int(rows[i]) for i in evenly(len(rows), self.size)]
        ranked = generation.order[generation.codes[generation.order] == code].tolist()
        size = (self.size + 1) // 2
        best, rest = ranked[: (size + 1) // 2], ranked[(size + 1) // 2 :]
        return best + [rest[i] for i in evenly(len(rest), size - len(best))] if size > len(best) else best

    def ancestors(self, t: int, row: int) -> list[tuple[int, int]]:
        """Returns (iteration, row) from population 0 to the candidate itself."""
        chain = [(t, row)]
        while chain[0][0] > 0:
            at, here = chain[0]
            chain.insert(0, (at - 1, int(self.generations[at].parents[here])))
        return chain

    @cached_property
    def nodes(self) -> set[tuple[int, int]]:
        """Returns (iteration, row) of all candidates in the family tree.

        These are records of galleries with all their ancestors, and children along the line of each label's best
        sample.
        """
        found = set(self._followed)
        for code in self.shown_codes:
            row = self.best(code)
            for t, at in self.ancestors(self.history.last, row)[:-1] if row is not None else []:
                brood = np.flatnonzero(self.generations[t + 1].parents == at)
                found |= {(t + 1, int(child)) for child in brood[:_KIN]}
        return found

    @cached_property
    def _followed(self) -> set[tuple[int, int]]:
        """Returns (iteration, row) of records of galleries and their ancestors, as many as the limit allows."""
        found: set[tuple[int, int]] = set()
        for t in reversed(self.shown_iterations):
            for row in _dealt([self.gallery(t, code) for code in self.shown_codes]):
                chain = set(self.ancestors(t, row)) - found
                if len(found) + len(chain) <= self.most_nodes:
                    found |= chain
        return found

    def best(self, code: int) -> int | None:
        """Returns the shown row of the newest population whose ancestors together got the most votes."""
        rows = [row for row in self.gallery(self.history.last, code) if (self.history.last, row) in self._followed]
        return max(rows, key=lambda row: (self._fame(row), -row), default=None)

    def _fame(self, row: int) -> float:
        chain = self.ancestors(self.history.last, row)[:-1]
        return sum(self._votes(t, at) for t, at in chain)

    def _votes(self, t: int, row: int) -> float:
        votes = self.generations[t].votes
        return 0.0 if votes is None else float(votes[row])


def _dealt(hands: Sequence[Sequence[int]]) -> Iterable[int]:
    """Yields one row of each list in turn, so that a limit cuts all lists equally."""
    for place in range(max(map(len, hands), default=0)):
        for hand in hands:
            if place < len(hand):
                yield hand[place]
