"""How far noise alone moves each marginal that a plan measures, from declared values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pe_beam.measuring.interactions import blocks
from pe_beam.recipe.measured import Measured, measured_steps
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of counts that a plan measures.

    Attributes:
      what: its columns; `label` stands for the labels.
      cells: number of its counts.
      weight: how often a record counts in one of them, as a share of the norm that sigma is calibrated to.
    """

    what: tuple[str, ...]
    cells: int
    weight: float

    def noise_tvd(self, multiplier: float, records: int) -> float:
        """Returns the expected total variation distance between its shares with noise and without, 1 at most.

        The noise on a count has a mean absolute value of sigma sqrt(2 / pi). The generator's projection of the counts
        on shares of 0 or more takes part of it away, so that this is the least favourable case.

        Args:
          multiplier: noise multiplier of the measurement (sigma over sensitivity).
          records: public guess of their number.
        """
        return min(1.0, 0.5 * self.cells * math.sqrt(2 / math.pi) * multiplier / (self.weight * records))

    def to_json(self, multiplier: float, records: int) -> dict[str, Any]:
        """Returns it as JSON, with its expected error."""
        return {
            "columns": list(self.what),
            "cells": self.cells,
            "expected_noise_tvd": self.noise_tvd(multiplier, records),
        }


def measured_tables(recipe: Recipe) -> list[Table]:
    """Returns the tables of counts that a recipe measures before its first iteration; none if it measures nothing."""
    return [table for kind in _KINDS for table in kind(recipe)]


def one_way_tables(recipe: Recipe, pairs: int | None = None) -> Iterator[Table]:
    """Yields each column by label, as a recipe that measures them would count it, with or without pairs of columns."""
    sizes = new_embedder(recipe).marginal_sizes()
    cost = Measured(len(sizes), pairs)
    for name, size in sizes.items():
        yield Table(
            what=(name, "label") if recipe.data.labels else (name,),
            cells=recipe.label_count * size,
            weight=cost.weight / math.sqrt(cost.norm_squared * replaced(recipe)),
        )


def _labels(recipe: Recipe) -> Iterator[Table]:
    if recipe.privacy.label_budget() and not recipe.privacy.counts_columns:
        yield Table(what=("label",), cells=recipe.label_count, weight=1 / math.sqrt(replaced(recipe)))


def _one_way(recipe: Recipe) -> Iterator[Table]:
    if recipe.privacy.marginals:
        yield from one_way_tables(recipe, recipe.privacy.marginals.pairs)


def _pairs(recipe: Recipe) -> Iterator[Table]:
    told = recipe.privacy.marginals
    if told is None or told.pairs is None:
        return
    groups = {name: int(own.max()) + 1 for name, own in new_embedder(recipe).marginal_groups(told.pairs).items()}
    cost = Measured(len(groups), told.pairs)
    for a, b in itertools.combinations(groups, 2):
        weight = 1 / math.sqrt(cost.norm_squared * replaced(recipe))
        yield Table(what=(a, b), cells=groups[a] * groups[b], weight=weight)


def _steps(recipe: Recipe) -> Iterator[Table]:
    """Yields what the steps of `privacy.measure` count, but for the tree, whose pairs are not known yet.

    A step has a part of what all steps may spend, and so more noise than all together would have.
    """
    told, sizes = recipe.privacy.measure, new_embedder(recipe).marginal_sizes()
    steps = {each.name: each for each in measured_steps(recipe, len(sizes))}
    if told is None:
        return
    counted: dict[str, list[tuple[str, ...]]] = {"one_way": [(name,) for name in sizes]}
    if told.cliques is not None:
        counted["cliques"] = [tuple(columns) for columns in told.cliques.columns]
    if told.halves is not None:
        names = list(sizes)
        counted["halves"] = [tuple(names[i] for i in own) for own in blocks(len(names), told.halves.columns)]
    if told.coarse is not None:
        counted["coarse"] = list(itertools.combinations(sizes, 2))
    for name, each in ((name, columns) for name, sets in counted.items() for columns in sets):
        step, section = steps[name], told.steps[name]
        most = 2 if name == "halves" else getattr(section, "groups", math.inf)
        by_label = bool(getattr(section, "by_label", name in ("one_way", "halves")))
        cells = math.prod(int(min(sizes[column], most)) for column in each) * (recipe.label_count if by_label else 1)
        weight = math.sqrt(step.budget / told.budget / (step.norm_squared * replaced(recipe)))
        yield Table(what=(*each, *(["label"] if by_label and recipe.data.labels else [])), cells=cells, weight=weight)
        if name == "one_way" and told.one_way.overall:
            yield Table(what=each, cells=sizes[each[0]], weight=weight)


def replaced(recipe: Recipe) -> int:
    """Returns by how much replacing a record, in place of adding one, raises a squared norm."""
    return 2 if recipe.privacy.adjacency == "replace-one" else 1


_KINDS: tuple[Callable[[Recipe], Iterator[Table]], ...] = (_labels, _one_way, _pairs, _steps)
"""What is measured; a further kind of measurement is one more entry."""
