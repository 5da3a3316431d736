"""The recipe strokes at any size: its model, its run, and how well a classifier learns from its samples."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.svm import SVC

from pe_beam.contracts.record import Fault
from pe_beam.driver.loop import evolve
from pe_beam.engine.populations import read_population
from pe_beam.engine.run import open_run
from pe_beam.modalities.image.codec import decode_image
from pe_beam.recipe.loading import load_recipe
from pe_beam.sources.sklearn_sets import _load
from tests.whole_runs import ROOT

RECIPE = ROOT / "templates/recipes/strokes.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    training_steps: int
    examples: int
    changed: dict[str, Any]
    """Keys of the recipe with other values than it ships."""


FULL = Size(training_steps=500, examples=2000, changed={})
"""The recipe as it ships, and what docs/images.md tells of: `benchmarks/strokes.py`."""

SMALL = Size(
    training_steps=150,
    examples=600,
    changed={
        "evolution.samples": 200,
        "evolution.population": 200,
        "evolution.iterations": 4,
        "generator.random.steps": 8,
        "generator.vary.steps": 8,
    },
)


def train(folder: Path, size: Size) -> None:
    """A model in `folder`, trained on printed digits as docs/examples/strokes says."""
    script = runpy.run_path(str(ROOT / "docs/examples/strokes/train.py"))
    script["train"](folder, steps=size.training_steps, seed=0, examples=size.examples)


def evolve_strokes(model: Path, run_dir: Path, size: Size, *, seed: int = 0) -> None:
    """A whole run with a trained model."""
    evolve(load_recipe(RECIPE, {"seed": seed, "generator.model": str(model), **size.changed}), run_dir)


def accuracies(run_dir: Path) -> dict[str, float]:
    """Of an SVC that learns from the first population, from the last, and from the private digits, on held-out ones."""
    run = open_run(run_dir)
    held = _real("test")
    made = {"real": _real("train")}
    for word, iteration in (("first", 0), ("last", run.recipe.evolution.iterations)):
        made[word] = _pixels(read_population(run, iteration))
    return {word: float(SVC().fit(*own).score(*held)) for word, own in made.items()}


def _real(part: str) -> tuple[np.ndarray, np.ndarray]:
    values, targets = _load("digits", (part, 0.3, 0))
    return values.reshape(len(values), -1) / 255, targets


def _pixels(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for data in table["image"].to_pylist():
        picture = decode_image(data, mode="L")
        assert not isinstance(picture, Fault)
        small = picture if picture.size == (8, 8) else picture.reduce(picture.width // 8)
        found.append(np.asarray(small, dtype=np.float64).ravel() / 255)
    return np.stack(found), np.array([int(label) for label in table["label"].to_pylist()])
