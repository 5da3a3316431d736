"""Private Evolution on Apache Beam: differentially private synthetic data without training.

`import pe_beam` is light; what a name needs is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_beam.driver.loop import evolve
    from pe_beam.recipe.loading import load_recipe
    from pe_beam.recipe.models import Recipe
    from pe_beam.recipe.plan import Plan
    from pe_beam.recipe.plan import make_plan as plan

__all__ = ["Plan", "Recipe", "evolve", "load_recipe", "plan"]

_HOME = {
    "Plan": ("pe_beam.recipe.plan", "Plan"),
    "Recipe": ("pe_beam.recipe.models", "Recipe"),
    "evolve": ("pe_beam.driver.loop", "evolve"),
    "load_recipe": ("pe_beam.recipe.loading", "load_recipe"),
    "plan": ("pe_beam.recipe.plan", "make_plan"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pe_beam' has no attribute {name!r}")
    import importlib

    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)
