"""What initial measurements count, and how often a record counts in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pe_beam.contracts.embedder import Embedder
from pe_beam.measuring.interactions import blocks
from pe_beam.measuring.pairs import FINE
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.measure import Cliques, Halves, OneWay, Slices

MOST_COLUMNS = 40
"""Columns of which all pairs are counted, at most: a record counts in columns^2 / 2 cells."""


@dataclass(frozen=True)
class Measured:
    """One-way marginals by label, with or without counts of all pairs of columns over all labels.

    Attributes:
      columns: number of columns, m.
      groups: groups of a column in the counts of pairs; None: pairs are not counted.
      parts: parts of a record, as `Embedder.marginal_parts`. All of them may be in one cell.
    """

    columns: int
    groups: int | None = None
    parts: int = 1

    @property
    def pairs(self) -> int:
        """The number of pairs of columns that are counted, p: all, or none."""
        return 0 if self.groups is None else self.columns * (self.columns - 1) // 2

    @property
    def weight(self) -> int:
        """How often a record's part counts in its bin of each column, w; once in its cell of each pair.

        It makes the two kinds of counts share the budget about evenly: w^2 m is near p.
        """
        return max(1, round(math.sqrt(self.pairs / self.columns)))

    @property
    def norm_squared(self) -> int:
        """The largest squared L2 norm of what one record adds to all cells: w^2 m + p, times parts^2.

        >>> Measured(13).norm_squared, Measured(13, 12).norm_squared, Measured(13, parts=2).norm_squared
        (13, 130, 52)
        """
        return (self.weight**2 * self.columns + self.pairs) * self.parts**2


def measured(recipe: Recipe, embedder: Embedder) -> Measured:
    """Returns what a recipe with `privacy.marginals` measures of the columns of its embedder."""
    assert recipe.privacy.marginals is not None
    return Measured(len(embedder.marginal_sizes()), recipe.privacy.marginals.pairs, embedder.marginal_parts)


MOST_CELLS = 1 << 16
"""Cells of columns in halves, at most."""

PAIR_WEIGHT = 4
"""How often a record counts in its cell of a pair of a tree. With weights above 1 what pairs leave over can move."""

_CHOSEN = ("tree", "slices")  # what they count, and how often, is chosen within a bound


SPLIT = {"one_way": 0.6, "coarse": 0.05, "tree": 0.35}
"""How the share for measurements is best divided where a tree is chosen (docs/tables.md says on which tables)."""


@dataclass(frozen=True)
class Step:
    """One step of `privacy.measure`.

    Attributes:
      name: of its section.
      budget: its share of the budget.
      norm_squared: the squared L2 norm of what one record adds to all its cells, at most.
      unit: how often a record counts in a cell of it: counts and noise are divided by that.
    """

    name: str
    budget: float
    norm_squared: int
    unit: int = 1


def measured_steps(recipe: Recipe, columns: int) -> list[Step]:
    """Returns the steps of `privacy.measure` of so many columns, in order; none without it.

    A record counts once in each column, and once more if these are counted over all labels too; in each declared
    clique, in each set of columns in halves and in each pair of columns. Of a tree it counts `PAIR_WEIGHT` times in
    each pair, of which there are columns - 1 at most, or in one-way counts in their place; of slices as often in each
    column, or oftener if fewer columns have slices that are worth counting.
    """
    told = recipe.privacy.measure
    if told is None:
        return []
    norms = {"one_way": columns * (2 if told.one_way.overall else 1), "coarse": columns * (columns - 1) // 2}
    norms |= {"tree": PAIR_WEIGHT**2 * (columns - 1), "slices": PAIR_WEIGHT**2 * columns}
    if told.halves is not None:
        norms["halves"] = len(blocks(columns, told.halves.columns))
    if told.cliques is not None:
        norms["cliques"] = len(told.cliques.columns)
    return [
        Step(name, float(step.budget), norms[name], PAIR_WEIGHT if name in _CHOSEN else 1)
        for name, step in told.steps.items()
    ]


def cells_of_halves(labels: int, columns: int, most: int | None) -> int:
    """Returns how many cells columns in halves have by label, all sets of at most so many together."""
    return int(sum(labels * 2 ** len(own) for own in blocks(columns, most)))


def cells_of_step(recipe: Recipe, name: str, sizes: Sequence[int], slices: Sequence[int]) -> float:
    """Returns how many cells a step has in a column, pair, clique or bin that it counts, on average.

    Args:
      recipe: with `privacy.measure`.
      name: of the step.
      sizes: number of bins of each column.
      slices: of a bin, of each column whose bins have some.
    """
    told = recipe.privacy.measure
    assert told is not None
    step = told.steps[name]
    if isinstance(step, OneWay):
        kinds = [recipe.label_count, 1] if step.overall else [recipe.label_count]
        return sum(kinds) / len(kinds) * sum(sizes) / len(sizes)
    if isinstance(step, Slices):
        return sum(slices) / max(len(slices), 1)
    if isinstance(step, Halves):
        return cells_of_halves(recipe.label_count, len(sizes), step.columns) / len(blocks(len(sizes), step.columns))
    most = min(step.groups, FINE) if name == "tree" else step.groups  # finer pairs are counted where noise leaves them
    grouped = [min(size, most) for size in sizes]
    labels = recipe.label_count if getattr(step, "by_label", False) else 1
    width = 2 if not isinstance(step, Cliques) else sum(map(len, step.columns)) / len(step.columns)
    return labels * (sum(grouped) / len(grouped)) ** width
