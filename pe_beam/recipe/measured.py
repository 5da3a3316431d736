"""What an initial measurement of marginals counts, and how often a record counts in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pe_beam.recipe.models import Recipe

MOST_COLUMNS = 40
"""Columns of which all pairs are counted, at most: a record counts in columns^2 / 2 cells."""


@dataclass(frozen=True)
class Measured:
    """One-way marginals by label, with or without counts of all pairs of columns over all labels.

    Attributes:
      columns: number of columns, m.
      groups: groups of a column in the counts of pairs; None: pairs are not counted.
    """

    columns: int
    groups: int | None = None

    @property
    def pairs(self) -> int:
        """The number of pairs of columns that are counted, p: all, or none."""
        return 0 if self.groups is None else self.columns * (self.columns - 1) // 2

    @property
    def weight(self) -> int:
        """How often a record counts in its bin of each column, w; once in its cell of each pair.

        It makes the two kinds of counts share the budget about evenly: w^2 m is near p.
        """
        return max(1, round(math.sqrt(self.pairs / self.columns)))

    @property
    def norm_squared(self) -> int:
        """The squared L2 norm of what one record adds to all cells: w^2 m + p.

        >>> Measured(13).norm_squared, Measured(13, 12).norm_squared
        (13, 130)
        """
        return self.weight**2 * self.columns + self.pairs


def measured(recipe: Recipe, columns: int) -> Measured:
    """Returns what a recipe with `privacy.marginals` measures of so many columns."""
    assert recipe.privacy.marginals is not None
    return Measured(columns, recipe.privacy.marginals.pairs)
