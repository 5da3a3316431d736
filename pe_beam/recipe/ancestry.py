"""Adds up what a run and the releases before it have spent (`evolution.start`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pe_beam.numbers import json_number
from pe_beam.privacy.statement import compose_runs, started_words, window_words
from pe_beam.privacy.subsampled import Spending
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.start import Ancestor


class Composed(NamedTuple):
    """The cost of one run, as `compose_runs` takes it."""

    unit: str
    adjacency: str
    delta: float
    spent: Sequence[Spending]


def ancestors_of(recipe: Recipe) -> list[Ancestor]:
    """Returns what the releases before a run have spent; none without a start."""
    start = recipe.evolution.start
    return [] if start is None or start.found is None else start.found.ancestors


def added_to(recipe: Recipe) -> list[Ancestor]:
    """Returns the releases whose cost is added to the run's: maybe over its data, in its unit and adjacency."""
    own = (recipe.privacy.unit, recipe.privacy.adjacency)
    return [each for each in ancestors_of(recipe) if each.data == 0 and (each.unit, each.adjacency) == own]


def as_run(each: Ancestor) -> Composed:
    """Returns the cost of one release in the form of `compose_runs`."""
    bought = each.label_shares_noise_multiplier
    spent = [Spending(z, each.sampling_rate) for z in each.noise_multiplier]
    return Composed(each.unit, each.adjacency, each.delta, [*([] if bought is None else [Spending(bought)]), *spent])


def with_ancestors(recipe: Recipe, own: Sequence[Spending]) -> tuple[float, float]:
    """Returns epsilon and delta of a run together with the releases whose cost is added to it.

    Args:
      recipe: of the run.
      own: what the run itself spends, by its plan or by its ledger.

    Returns:
      Epsilon, inf if the run is NOT PRIVATE; and the largest delta.
    """
    privacy = recipe.privacy
    runs = [Composed(privacy.unit, privacy.adjacency, privacy.delta, own), *map(as_run, added_to(recipe))]
    epsilon, delta = compose_runs(runs)
    return (epsilon if recipe.private else math.inf), delta


def costs_apart(recipe: Recipe) -> list[dict[str, Any]]:
    """Returns the costs that are stated beside the run's, one for each set of data, unit and adjacency.

    Each has `data` ("shared": maybe that of the run, in another unit or adjacency; "disjoint": other data), `sets` (of
    disjoint data, each of which has spent this), unit, adjacency, epsilon and delta.
    """
    own = (0, recipe.privacy.unit, recipe.privacy.adjacency)
    every = ancestors_of(recipe)
    kinds = dict.fromkeys((each.data, each.unit, each.adjacency) for each in every)
    return [_apart(kind, [e for e in every if (e.data, e.unit, e.adjacency) == kind]) for kind in kinds if kind != own]


def _apart(kind: tuple[int, str, str], releases: Sequence[Ancestor]) -> dict[str, Any]:
    data, unit, adjacency = kind
    epsilon, delta = compose_runs([as_run(each) for each in releases])
    return {
        "data": "disjoint" if data else "shared",
        "sets": max(each.sets for each in releases),
        "unit": unit,
        "adjacency": adjacency,
        "epsilon": json_number(epsilon),
        "delta": delta,
    }


def words_over(recipes: Iterable[Recipe]) -> str:
    """Returns what a statement says of the releases that runs start from; empty if they start from none."""
    said = [_words(recipe) for recipe in recipes]
    return "".join(dict.fromkeys(said))


def _words(recipe: Recipe) -> str:
    if recipe.stream is not None:
        return window_words(unit=recipe.privacy.unit, windows=recipe.unit_windows)
    return words_of_start(recipe, who="run")


def words_of_start(recipe: Recipe, *, who: str) -> str:
    """Returns what a statement says of the release of `evolution.start`, empty without one; `who` starts from it."""
    start, unit = recipe.evolution.start, recipe.privacy.unit
    if start is None:
        return ""
    added = bool(added_to(recipe))
    return started_words(unit=unit, public=start.public, added=added, apart=costs_apart(recipe), who=who)
