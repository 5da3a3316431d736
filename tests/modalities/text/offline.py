"""The offline recipe at any size: its texts, its model, its run, and how good its samples are."""

from __future__ import annotations

import collections
import csv
import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.driver.loop import evolve
from pe_beam.engine import matrices, populations
from pe_beam.engine.run import Run, open_run
from pe_beam.metrics.distances import frechet_distance
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.loading import load_recipe
from tests import forks
from tests.modalities.text import corpus
from tests.modalities.text.server import Served
from tests.whole_runs import ROOT

RECIPE = ROOT / "templates/recipes/snippets-offline.yaml"


KINDS = ("product review", "tweet")  # of the private texts; the public ones, which the model learns from, are of four


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything; texts and samples are of each kind."""

    private: int
    held_out: int
    samples: int
    training_steps: int
    changed: dict[str, Any]
    """Keys of the recipe with other values than it ships."""


FULL = Size(private=1200, held_out=340, samples=200, training_steps=250, changed={})
"""The recipe as it ships, and what docs/text.md tells of: `benchmarks/text_quality.py`."""


EIGHTH = Size(
    private=150,
    held_out=120,
    samples=25,
    training_steps=60,
    changed={"evolution.samples": 50, "evolution.population": 200, "embedder.batch_size": 8},
)
"""As many votes a candidate, so as much noise for each of them; batches of 8 are quicker where calls are small."""


def _some(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    seen: collections.Counter[str] = collections.Counter()
    chosen = []
    for kind, text in rows:
        if kind in KINDS and seen[kind] < count:
            seen[kind] += 1
            chosen.append((kind, text))
    return chosen


def prepare(folder: Path, size: Size) -> None:
    """Puts private.csv, held-out.csv and a trained model into a folder."""
    parts = corpus.parts(corpus.load())
    (folder / "private.csv").write_text(corpus.as_csv(_some(parts["private"], size.private)))
    (folder / "held-out.csv").write_text(corpus.as_csv(_some(parts["held out"], size.held_out)))
    (folder / "public.json").write_text(json.dumps([text for _, text in parts["public"]]))
    train = [forks.python(), "-m", "tests.modalities.text.language_model", "train", str(folder / "public.json")]
    subprocess.run([*train, str(folder / "model.npz"), str(size.training_steps)], check=True, cwd=ROOT)


def evolve_offline(folder: Path, name: str, size: Size, *, seed: int = 0) -> None:
    """Serves the model and runs the recipe in folder/name, at a size."""
    serve = ("tests.modalities.text.language_model", "serve", str(folder / "model.npz"))
    with Served(folder / f"{name}.log", command=serve, python=forks.python(), models=["small-words"]) as server:
        recipe = load_recipe(
            RECIPE,
            {
                "seed": seed,
                "data.path": str(folder / "private.csv"),
                "data.holdout": str(folder / "held-out.csv"),
                "execution.llm.endpoints": [{"base_url": server.url, "key_env": None}],
                **size.changed,
            },
        )
        evolve(recipe, folder / name)


@dataclasses.dataclass(frozen=True)
class Quality:
    """Of `samples` texts of each kind: accuracy of a classifier trained on them and tested on held-out texts, and the
    Fréchet distance to held-out texts, of each kind by itself (their mean) and of all kinds together.
    """

    accuracy: float
    by_kind: float
    together: float


def quality(folder: Path, name: str, size: Size) -> dict[str, Quality]:
    """Of the first and the last population, and of private texts themselves: what no samples can beat."""
    run = open_run(folder / name)
    last = run.recipe.evolution.iterations
    held = _embedded(run, folder / "held-out.csv", size.held_out)
    found = {"real": _compared(_embedded(run, folder / "private.csv", size.samples), held, size.samples)}
    for word, iteration in (("first", 0), ("last", last)):
        # Votes have embedded them already: the last population was selected from the one before.
        matrix = matrices.load_matrix(run, min(iteration + 1, last))
        own = np.isin(matrix.ids, populations.read_population(run, iteration)["candidate_id"].to_numpy())
        found[word] = _compared((matrix.vectors[own].astype(float), matrix.labels[own]), held, size.samples)
    return found


def _embedded(run: Run, path: Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and labels of the first texts of each kind."""
    with path.open(newline="") as file:
        rows = _some([(row["kind"], row["text"]) for row in csv.DictReader(file)], most)
    vectors = run.embedder.embed(pa.table({"text": [text for _, text in rows]})).vectors
    return vectors.astype(float), run.recipe.codes(kind for kind, _ in rows)


def _compared(own: tuple[np.ndarray, np.ndarray], held: tuple[np.ndarray, np.ndarray], samples: int) -> Quality:
    from sklearn.linear_model import LogisticRegression

    codes = range(len(KINDS))
    rows = np.concatenate([np.flatnonzero(own[1] == code)[:samples] for code in codes])
    made, kinds = own[0][rows], own[1][rows]
    apart = [frechet_distance(Moments.of(made[kinds == code]), Moments.of(held[0][held[1] == code])) for code in codes]
    return Quality(
        accuracy=float(LogisticRegression(max_iter=1000).fit(made, kinds).score(*held)),
        by_kind=float(np.mean(apart)),
        together=frechet_distance(Moments.of(made), Moments.of(held[0])),
    )
