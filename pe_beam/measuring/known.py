"""What is known of columns from noisy one-way counts, and what to count next by it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pe_beam.measuring.cliques import Clique, norm_squared, weights_within
from pe_beam.measuring.groups import equal_mass
from pe_beam.measuring.interactions import BLURRED, CLEAR, Product, blocks, products, together
from pe_beam.measuring.pairs import Pair, Question, scores, spanning
from pe_beam.measuring.shares import grouped, shares_of
from pe_beam.measuring.slices import Sliced, clique_of, worth_counting


class Answer(NamedTuple):
    """The noisy counts of a clique.

    Attributes:
      clique: what was counted.
      counts: float64 (labels, groups of each column), or (1, groups of each column) over all labels; in records.
      sigma: standard deviation of the noise on each, in records.
    """

    clique: Clique
    counts: np.ndarray
    sigma: float


class Interaction(NamedTuple):
    """Columns that say something only all together.

    Attributes:
      answer: their counts in halves.
      score: how much: 1 if the half of each follows from label and the others, 0 if nothing does.
    """

    answer: Answer
    score: float


def one_way(sizes: Sequence[int], weights: Sequence[int], *, by_label: bool = True) -> list[Clique]:
    """Returns each column by label, or over all, bin by bin, with its weight; a column of weight 0 is left out."""
    return [
        Clique((place,), (np.arange(size),), by_label, weight)
        for place, (size, weight) in enumerate(zip(sizes, weights, strict=True))
        if weight
    ]


class Known:
    """What noisy one-way counts tell, and declared facts. All of it is public."""

    def __init__(self, counts: Sequence[np.ndarray], totals: np.ndarray, ordered: Sequence[int]) -> None:
        """Takes what is released.

        Args:
          counts: by column float64 (labels, bins), noisy.
          totals: float64 (labels,), noisy numbers of records.
          ordered: by column how many of its first bins lie in an order, as `groups.equal_mass` takes it.
        """
        self._totals, self._ordered = totals, ordered
        self._sizes = [each.shape[1] for each in counts]
        self._shares = [
            np.stack([shares_of(row, total) for row, total in zip(each, totals, strict=True)]) for each in counts
        ]
        self._label_shares = shares_of(totals, float(totals.sum()))

    @cached_property
    def _total(self) -> float:
        """The noisy number of records, 1 or more."""
        return max(float(self._totals.sum()), 1.0)

    def groups(self, column: int, most: int) -> np.ndarray:
        """Returns groups of about equal shares of a column's bins, int64 (bins,)."""
        return equal_mass(self._label_shares @ self._shares[column], self._ordered[column], most)

    def together(self, columns: Sequence[int], most: int, *, by_label: bool) -> Clique:
        """Returns columns that are counted together, in at most so many groups of each."""
        own = tuple(sorted(columns))
        return Clique(own, tuple(self.groups(column, most) for column in own), by_label)

    def all_pairs(self, most: int) -> list[Clique]:
        """Returns all pairs of columns over all labels, in at most so many groups of each column."""
        every = itertools.combinations(range(len(self._sizes)), 2)
        return [self.together(pair, most, by_label=False) for pair in every]

    def halves(self, most: int | None) -> list[Clique]:
        """Returns columns together by label, each in at most two groups; missing values are in the second.

        Args:
          most: columns at a time, so that any three come together; None: all at once.
        """
        groups = [np.minimum(self.groups(column, 2), 1) for column in range(len(self._sizes))]
        return [Clique(own, tuple(groups[column] for column in own), True) for own in blocks(len(groups), most)]

    def interactions(self, halves: Sequence[Answer], joined: Sequence[Sequence[int]] = ()) -> list[Interaction]:
        """Returns the columns that go together by more than pairs, with their counts, from counts of halves.

        Args:
          halves: counts of columns, as `halves` asks for them. Where several have the same columns, the first tells.
          joined: positions of columns that are counted together already.
        """
        found: dict[tuple[int, ...], Product] = {}
        told_by: dict[tuple[int, ...], Answer] = {}
        for answer in halves:
            places, groups = answer.clique.columns, answer.clique.groups
            by_group = [grouped(self._shares[column], own) for column, own in zip(places, groups, strict=True)]
            for own, product in products(answer.counts, answer.sigma, self._totals, by_group).items():
                columns = tuple(places[axis] for axis in own)
                found.setdefault(columns, product)
                told_by.setdefault(columns, answer)
        sets = together(found, joined)
        return [Interaction(_summed(told_by[columns], columns), score) for columns, score in sets.items()]

    def _parted(self, halves: Clique, most: int, weight: int, *, by_label: bool) -> Clique:
        """Returns columns together with each half in so many groups at most: what the halves tell is not blurred."""
        groups = []
        for column, own in zip(halves.columns, halves.groups, strict=True):
            shares, found = self._label_shares @ self._shares[column], np.zeros(len(own), dtype=np.int64)
            for half in range(int(own.max()) + 1):
                bins = np.flatnonzero(own == half)
                ordered = int((bins < self._ordered[column]).sum())
                found[bins] = equal_mass(shares[bins], ordered, most) + (found.max() + 1 if half else 0)
            groups.append(found)
        return Clique(halves.columns, tuple(groups), by_label, weight)

    def _worth(self, own: Clique, answer: Answer, noise: float) -> bool:
        """Returns whether a finer clique tells more than the halves do: finer groups, or the same with less noise.

        Args:
          own: the clique, by label as the halves are, or over all labels.
          answer: counts of halves.
          noise: of the clique, as a sum of absolute differences of shares.
        """
        blurred = answer.counts.size * answer.sigma * math.sqrt(2 / math.pi) / self._total
        return own.shape != answer.clique.shape or (own.by_label and blurred > max(BLURRED, 2 * noise))

    def scores(self, coarse: Sequence[Answer]) -> dict[Pair, float]:
        """Returns the scores of those pairs that go together beyond doubt, from counts of all pairs over all labels."""
        by_group, counts = {}, {}
        for answer in coarse:
            a, b = answer.clique.columns
            counts[a, b] = answer.counts[0]
            for column, own in zip((a, b), answer.clique.groups, strict=True):
                by_group[column] = grouped(self._shares[column], own)
        shares = [by_group[column] for column in range(len(by_group))]
        return scores(self._label_shares, shares, counts, coarse[0].sigma, self._total)

    def tree(
        self,
        coarse: Sequence[Answer],
        *,
        sigma: float,
        bound: int,
        weight: int,
        most: int,
        by_label: bool,
        joined: Sequence[Sequence[int]] = (),
        more: Sequence[Interaction] = (),
    ) -> list[Clique]:
        """Returns the pairs of a tree that noise does not hide, and one-way counts for what the others leave over.

        Columns that were found to say something together are counted again with each half parted, as finely as noise
        lets it, or as they are if noise blurs their halves. For them is what the pairs leave over.

        Args:
          coarse: counts of all pairs over all labels.
          sigma: of the query, in votes: `weight` of them are a record.
          bound: the squared norm of what a record may add to all cells, in votes.
          weight: how often a record counts in its cell of a pair.
          most: groups of a column, at most; fewer where noise would hide a pair.
          by_label: whether each label has cells of its own.
          joined: positions of columns that are counted together already.
          more: columns that say something together, which close no circle with these.
        """
        scored, labels = self.scores(coarse), len(self._totals) if by_label else None
        asked = Question(sigma=sigma, total=self._total, labels=labels, most=most, groups_of=self.groups)
        joined = [*joined, *(each.answer.clique.columns for each in more)]
        tree = [asked.finest(pair, scored[pair], weight) for pair in spanning(scored, len(self._sizes), joined)]
        worth = [each for each in tree if each is not None]
        left = math.isqrt((bound - norm_squared(worth)) // len(more)) if more else 0
        for each in more:
            parted = (
                self._parted(each.answer.clique, parts, left, by_label=by_label) for parts in range(most // 2, 1, -1)
            )
            clear = (own for own in parted if asked.noise(own) <= min(each.score, CLEAR))
            worth += [own for own in itertools.islice(clear, 1) if self._worth(own, each.answer, asked.noise(own))]
        weights = weights_within(bound - norm_squared(worth), len(self._sizes))
        return [*worth, *one_way(self._sizes, weights)]

    def slices(self, columns: Sequence[Sliced], *, sigma: float, bound: int) -> list[Clique]:
        """Returns the slices of bins that hold many records, or one-way counts if no bin does.

        Columns without such a bin are left out, and the others count more often in their place.

        Args:
          columns: whose bins have slices, one or more.
          sigma: of the query, in votes.
          bound: the squared norm of what a record may add to all cells, in votes.
        """
        counts = [self._label_shares @ self._shares[each.column] * self._total for each in columns]

        def worth(weights: Sequence[int]) -> list[np.ndarray]:
            return worth_counting(columns, counts, [sigma / max(each, 1) for each in weights])

        some = [at for at, bins in enumerate(worth(weights_within(bound, len(columns)))) if len(bins)]
        if not some:
            return one_way(self._sizes, weights_within(bound, len(self._sizes)))
        weights = dict(zip(some, weights_within(bound, len(some)), strict=True))
        bins = worth([weights.get(at, 0) for at in range(len(columns))])
        return [clique_of(columns[at], bins[at], weight) for at, weight in weights.items()]


def _summed(answer: Answer, columns: tuple[int, ...]) -> Answer:
    """Returns the counts of some columns of a clique by label: the sums over its others."""
    own = dict(zip(answer.clique.columns, answer.clique.groups, strict=True))
    others = tuple(axis for axis, column in enumerate(own, start=1) if column not in columns)
    summed = math.prod(answer.counts.shape[axis] for axis in others)
    clique = Clique(columns, tuple(own[column] for column in columns), True)
    return Answer(clique, answer.counts.sum(axis=others), answer.sigma * math.sqrt(summed))
