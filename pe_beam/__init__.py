"""Private Evolution on Apache Beam: differentially private synthetic data without training.

`import pe_beam` is light; what a name needs is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_beam.runs.driver import evolve
    from pe_beam.runs.plan import Plan
    from pe_beam.runs.plan import make_plan as plan
    from pe_beam.runs.recipe import Recipe, load_recipe

__all__ = ["Plan", "Recipe", "evolve", "load_recipe", "plan"]

_HOME = {
    "Plan": ("pe_beam.runs.plan", "Plan"),
    "Recipe": ("pe_beam.runs.recipe", "Recipe"),
    "evolve": ("pe_beam.runs.driver", "evolve"),
    "load_recipe": ("pe_beam.runs.recipe", "load_recipe"),
    "plan": ("pe_beam.runs.plan", "make_plan"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pe_beam' has no attribute {name!r}")
    import importlib

    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)
