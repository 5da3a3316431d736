"""Private Evolution on Apache Beam: differentially private synthetic data without training.

`import pe_beam` is fast: a module is imported when one of its names is first used.

>>> import pe_beam
>>> pe_beam.Unit.CLIENT.value
'client'
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pe_beam.contracts.votes import Adjacency, Unit
    from pe_beam.kept import free_memory
    from pe_beam.privacy.mechanism import GaussianMechanism, open_mechanism
    from pe_beam.python.runs import EvolvedRun, evolve
    from pe_beam.python.synthesize import synthesize
    from pe_beam.recipe.loading import load_recipe
    from pe_beam.recipe.models import Recipe
    from pe_beam.recipe.plan import Plan
    from pe_beam.recipe.plan import make_plan as plan
    from pe_beam.releases.reading import Release, open_release
    from pe_beam.storage import open_store
    from pe_beam.transforms.candidates import Candidates, write_candidates
    from pe_beam.transforms.embed import EmbedRecords
    from pe_beam.transforms.generate import Generate
    from pe_beam.transforms.group_rows import GroupRows
    from pe_beam.transforms.histogram import NoisyHistogram
    from pe_beam.transforms.select import Select
    from pe_beam.transforms.vote import Vote

__all__ = [
    "Adjacency",
    "Candidates",
    "EmbedRecords",
    "EvolvedRun",
    "GaussianMechanism",
    "Generate",
    "GroupRows",
    "NoisyHistogram",
    "Plan",
    "Recipe",
    "Release",
    "Select",
    "Unit",
    "Vote",
    "evolve",
    "free_memory",
    "load_recipe",
    "open_mechanism",
    "open_release",
    "open_store",
    "plan",
    "synthesize",
    "write_candidates",
]

_HOME = {
    "Adjacency": ("pe_beam.contracts.votes", "Adjacency"),
    "Candidates": ("pe_beam.transforms.candidates", "Candidates"),
    "EmbedRecords": ("pe_beam.transforms.embed", "EmbedRecords"),
    "EvolvedRun": ("pe_beam.python.runs", "EvolvedRun"),
    "GaussianMechanism": ("pe_beam.privacy.mechanism", "GaussianMechanism"),
    "Generate": ("pe_beam.transforms.generate", "Generate"),
    "GroupRows": ("pe_beam.transforms.group_rows", "GroupRows"),
    "NoisyHistogram": ("pe_beam.transforms.histogram", "NoisyHistogram"),
    "Plan": ("pe_beam.recipe.plan", "Plan"),
    "Recipe": ("pe_beam.recipe.models", "Recipe"),
    "Release": ("pe_beam.releases.reading", "Release"),
    "Select": ("pe_beam.transforms.select", "Select"),
    "Unit": ("pe_beam.contracts.votes", "Unit"),
    "Vote": ("pe_beam.transforms.vote", "Vote"),
    "evolve": ("pe_beam.python.runs", "evolve"),
    "free_memory": ("pe_beam.kept", "free_memory"),
    "load_recipe": ("pe_beam.recipe.loading", "load_recipe"),
    "open_mechanism": ("pe_beam.privacy.mechanism", "open_mechanism"),
    "open_release": ("pe_beam.releases.reading", "open_release"),
    "open_store": ("pe_beam.storage", "open_store"),
    "plan": ("pe_beam.recipe.plan", "make_plan"),
    "synthesize": ("pe_beam.python.synthesize", "synthesize"),
    "write_candidates": ("pe_beam.transforms.candidates", "write_candidates"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("pe_beam")
        except PackageNotFoundError:  # a checkout is on the path but is not installed
            return "0+unknown"
    if name not in _HOME:
        raise AttributeError(f"module 'pe_beam' has no attribute {name!r}")
    import importlib

    module, attribute = _HOME[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
