"""Several generators (makers) in one recipe: when each is open, which ones take over candidates, and the shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_beam import registry
from pe_beam.errors import RecipeError
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.part import Maker


def openers(makers: Sequence[Maker], iteration: int) -> list[int]:
    """Returns the places of the makers that are open in an iteration."""
    return [place for place, maker in enumerate(makers) if maker.open_at(iteration)]


def receivers(makers: Sequence[Maker], takes: Sequence[bool], iteration: int) -> list[int]:
    """Returns the places of the open makers that can vary candidates of other makers (`Generator.varies_any`)."""
    return [place for place in openers(makers, iteration) if takes[place]]


def shares_of(makers: Sequence[Maker], among: Sequence[int]) -> np.ndarray:
    """Returns the shares of some makers, scaled to a sum of 1: float64 (makers,), 0 for all others."""
    shares = np.zeros(len(makers))
    shares[list(among)] = [makers[place].share for place in among]
    total = shares.sum()
    return shares / total if total else shares


def takes_any(recipe: Recipe) -> list[bool]:
    """Returns for each maker whether it can vary candidates of other makers."""
    parts = recipe.generator_parts
    return [bool(registry.find("generators", part.name, key=f"{key}.name").varies_any) for key, part in parts]


def check_phases(recipe: Recipe) -> None:
    """Checks that some maker can take over each candidate, and that each maker makes candidates at some time.

    Raises:
      RecipeError: one of these is not so. The message names maker and iteration.
    """
    makers, takes = recipe.generators or [], takes_any(recipe)
    asked = set(openers(makers, 0))
    # Makers of candidates that the population may contain. A release may contain those of any.
    inside = set(asked) if recipe.evolution.start is None else set(range(len(makers)))
    for iteration in range(1, recipe.evolution.iterations + 1):
        going = inside & set(openers(makers, iteration))
        over = inside - going
        if over:
            taking = receivers(makers, takes, iteration)
            if not taking:
                raise _nobody_takes(recipe, makers[min(over)], iteration)
            going |= set(taking)
        asked |= going
        inside = going | (over if recipe.evolution.family_at(iteration)[1] else set())
    for place in sorted(set(range(len(makers))) - asked):
        why = "the phase of no other is over then" if takes[place] else "it varies only what it made itself"
        raise RecipeError(
            f"generators: {makers[place].name} would never be asked: it opens in iteration {makers[place].first}, when "
            f"nothing is made at random and nothing is handed over to it ({why}); from: 0, or a to for another, is "
            "wanted"
        )


def _nobody_takes(recipe: Recipe, over: Maker, iteration: int) -> RecipeError:
    return RecipeError(
        f"generators: the phase of {over.name} is over in iteration {iteration}, and none that is open then varies "
        f"candidates of another's making (allowed: {that_vary_any(recipe.modality)})"
    )


def that_vary_any(modality: str) -> str:
    """Returns, for a message, the generators of a modality that vary any candidate, not their own alone."""
    names = registry.names_for("generators", modality)
    able = [name for name in names if registry.find("generators", name, key="generators").varies_any]
    return ", ".join(able) or "none installed"


def expected_shares(recipe: Recipe) -> np.ndarray:
    """Returns each maker's share of the new candidates in each iteration, if votes favour no maker's candidates.

    Returns:
      float64 (iterations + 1, makers); one column of ones for a recipe with one generator.
    """
    iterations = recipe.evolution.iterations
    if recipe.generators is None:
        return np.ones((iterations + 1, 1))
    makers, takes = recipe.generators, takes_any(recipe)
    shares = [shares_of(makers, openers(makers, 0))]
    for iteration in range(1, iterations + 1):
        going = np.array([maker.open_at(iteration) for maker in makers])
        handed = shares[-1][~going].sum()
        own = np.where(going, shares[-1], 0.0)
        shares.append(own + handed * shares_of(makers, receivers(makers, takes, iteration)))
    return np.stack(shares)
