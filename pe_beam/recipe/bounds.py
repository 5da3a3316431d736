"""The most that a record can add to votes and to the initial measurement, from declared values alone."""

from __future__ import annotations

from pe_beam.privacy import accounting
from pe_beam.recipe.measured import measured
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder
from pe_beam.selection.quotas import largest_remainder


def declared_shares(recipe: Recipe) -> list[float] | None:
    """Returns the shares of the labels that the recipe states, in declared order; None if they are measured."""
    shares = recipe.privacy.label_counts
    if recipe.privacy.label_budget():
        return None
    if isinstance(shares, str):
        return [1.0] * recipe.label_count
    return [float(shares[str(label)]) for label in recipe.label_list]


def most_of_a_label(recipe: Recipe, iteration: int) -> int:
    """Returns the largest number of candidates of one label in population t. Each label has at least one family."""
    family = sum(recipe.evolution.family_at(iteration)) if iteration else 1
    places, shares = recipe.evolution.populations()[iteration] // family, declared_shares(recipe)
    if shares is None:  # measured: one label may get all families but one for each other label
        return (places - recipe.label_count + 1) * family
    return max(largest_remainder(shares, places)) * family


def votes_bound(recipe: Recipe) -> int:
    """Returns the most votes of one record in an iteration: k, or fewer if no label ever has k candidates (rule 15).

    A record votes among the candidates of its own label. The recipe bounds their number in each iteration. A
    population with more candidates of a label is refused when it is committed.
    """
    k, voted_on = recipe.evolution.votes_per_record, range(recipe.evolution.iterations)
    return 1 if k == 1 else min(k, max(most_of_a_label(recipe, t) for t in voted_on))


def measurement_sensitivity(recipe: Recipe) -> float:
    """Returns the sensitivity of the initial measurement: a record has one label, or one bin in each marginal.

    Where pairs of columns are counted too, it is that of all cells together (`Measured.norm_squared`). Several initial
    measurements have sensitivities of their own; together they are planned as one of a record's single vote.
    """
    squared = 1
    if recipe.privacy.marginals:
        squared = measured(recipe, new_embedder(recipe)).norm_squared
    unit, adjacency = recipe.vote_unit, recipe.privacy.adjacency
    return accounting.sensitivity(unit=unit, adjacency=adjacency, votes_per_record=squared)
