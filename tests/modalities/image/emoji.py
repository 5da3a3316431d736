"""The recipe emoji: where its pictures lie, its run, and how near its samples are to the private ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.neighbors import KNeighborsClassifier

from pe_beam.driver.loop import evolve
from pe_beam.engine.populations import read_population
from pe_beam.engine.run import open_run
from pe_beam.metrics.distances import frechet_distance
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.loading import load_recipe
from tests.whole_runs import ROOT

RECIPE = ROOT / "templates/recipes/emoji.yaml"
PICTURES = Path(os.environ.get("PE_BEAM_EMOJI", ROOT / "data/emoji"))
"""Where docs/examples/emoji/fetch.py has put them."""


def evolve_emoji(run_dir: Path, *, secret_file: Path | None = None, **changed: Any) -> None:
    """A whole run on the pictures that are there; `changed` names keys of the recipe with __ for a dot."""
    given = {"data.path": str(PICTURES / "private"), "generator.path": str(PICTURES / "public")}
    given |= {name.replace("__", "."): value for name, value in changed.items()}
    evolve(load_recipe(RECIPE, given), run_dir, secret_file=secret_file)


def nearness(run_dir: Path) -> dict[str, tuple[float, float]]:
    """Of the first and the last population: nearest neighbour accuracy on the categories of the private pictures,
    and Fréchet distance to them, in the space of the recipe's embedder.
    """
    run = open_run(run_dir)
    files = sorted((PICTURES / "private").glob("*/*.png"))
    real = run.embedder.embed(pa.table({"image": [file.read_bytes() for file in files]})).vectors.astype(np.float64)
    kinds = [file.parent.name for file in files]
    found = {}
    for word, iteration in (("first", 0), ("last", run.recipe.evolution.iterations)):
        table = read_population(run, iteration, ["label", "image"])
        own = run.embedder.embed(table.select(["image"])).vectors.astype(np.float64)
        nearest = KNeighborsClassifier(1).fit(own, table["label"].to_pylist())
        distance = frechet_distance(Moments.of(own), Moments.of(real))
        found[word] = float(nearest.score(real, kinds)), distance
    return found
