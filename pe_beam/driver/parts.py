"""Checks the parts of a recipe before a run begins."""

from __future__ import annotations

from pe_beam.custody import keeping
from pe_beam.errors import RecipeError
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder, new_generator
from pe_beam.recipe.plan import Plan, make_plan
from pe_beam.voting.nearest import find_engine


def check_parts(recipe: Recipe) -> Plan:
    """Builds plan, generator and embedder once, so that their errors come before any budget is spent.

    Returns:
      The plan.
    """
    plan = make_plan(recipe)
    find_engine(recipe.execution.search_engine)
    if recipe.privacy.secret is not None:
        keeping.demand_library(recipe.privacy.secret.custody, recipe.privacy.secret.options)
    generator, embedder = new_generator(recipe), new_embedder(recipe)
    if recipe.data.never_stop and embedder.remote:
        raise RecipeError(
            f"data.never_stop: embedder {recipe.embedder.name!r} asks a service, which may refuse a record and so stop "
            "the run; an embedder on this machine is wanted"
        )
    if not recipe.private and (generator.remote or embedder.remote) and not recipe.privacy.send_unprotected:
        raise RecipeError(
            f"{'evolution.start: a run that is NOT PRIVATE' if recipe.noisy else 'privacy.epsilon: inf'} with a remote "
            "service would send private data out; where that is allowed, say privacy.send_unprotected: true"
        )
    return plan
