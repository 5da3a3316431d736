"""The offline recipe, whole: real texts, MiniLM, and a language model that is trained here and served over HTTP."""

from __future__ import annotations

import collections
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.evaluation.distances import frechet_distance
from pe_beam.evaluation.moments import Moments
from pe_beam.runs import steps
from pe_beam.runs.driver import evolve
from pe_beam.runs.recipe import load_recipe
from pe_beam.runs.run import open_run
from tests.text import corpus
from tests.text.server import Served

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "templates/recipes/snippets-offline.yaml"
TRAINING_SECONDS = 45
pytestmark = pytest.mark.xdist_group("text-offline")  # one worker: it trains one model and makes one run
PRIVATE, HELD_OUT, SAMPLES = 400, 120, 100  # of each kind


def _some(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    seen: collections.Counter[str] = collections.Counter()
    chosen = []
    for kind, text in rows:
        if seen[kind] < count:
            seen[kind] += 1
            chosen.append((kind, text))
    return chosen


def prepare(folder: Path, *, seconds: float = TRAINING_SECONDS) -> None:
    """Puts private.csv, held-out.csv and a trained model into a folder."""
    parts = corpus.parts(corpus.load())
    (folder / "private.csv").write_text(corpus.as_csv(_some(parts["private"], PRIVATE)))
    (folder / "held-out.csv").write_text(corpus.as_csv(_some(parts["held out"], HELD_OUT)))
    (folder / "public.json").write_text(json.dumps([text for _, text in parts["public"]]))
    train = [sys.executable, "-m", "tests.text.language_model", "train", str(folder / "public.json")]
    subprocess.run([*train, str(folder / "model.npz"), str(seconds)], check=True, cwd=ROOT)


def evolve_offline(folder: Path, name: str, *, seed: int = 0) -> None:
    """Serves the model and runs the recipe in folder/name."""
    serve = ("tests.text.language_model", "serve", str(folder / "model.npz"))
    with Served(folder / f"{name}.log", command=serve, models=["small-words"]) as server:
        recipe = load_recipe(
            RECIPE,
            {
                "seed": seed,
                "data.path": str(folder / "private.csv"),
                "data.holdout": str(folder / "held-out.csv"),
                "execution.llm.endpoints": [{"base_url": server.url, "key_env": None}],
            },
        )
        evolve(recipe, folder / name)


def quality(folder: Path, name: str) -> dict[int, tuple[float, float]]:
    """Iteration -> accuracy of a classifier trained on `SAMPLES` of each kind and tested on held-out texts, and the
    Fréchet distance to held-out texts of the same kind, averaged over kinds. Of the first and the last population.
    """
    from sklearn.linear_model import LogisticRegression

    run = open_run(folder / name)
    last = run.recipe.evolution.iterations
    with (folder / "held-out.csv").open(newline="") as file:
        real = list(csv.DictReader(file))
    held = run.embedder.embed(pa.table({"text": [row["text"] for row in real]})).vectors.astype(float)
    held_kinds = np.array([run.label_codes[row["kind"]] for row in real])
    found = {}
    for iteration in (0, last):
        # Votes have embedded them already: the last population was selected from the one before.
        matrix = steps.load_matrix(run, min(iteration + 1, last))
        ids = steps.read_population(run, iteration)["candidate_id"].to_numpy()
        own = np.flatnonzero(np.isin(matrix.ids, ids))
        own = np.concatenate([own[matrix.labels[own] == kind][:SAMPLES] for kind in range(4)])
        made, kinds = matrix.vectors[own].astype(float), matrix.labels[own]
        accuracy = LogisticRegression(max_iter=1000).fit(made, kinds).score(held, held_kinds)
        apart = [
            frechet_distance(Moments.of(made[kinds == kind]), Moments.of(held[held_kinds == kind])) for kind in range(4)
        ]
        found[iteration] = (float(accuracy), float(np.mean(apart)))
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, the model and the finished run."""
    folder = tmp_path_factory.mktemp("offline")
    prepare(folder)
    evolve_offline(folder, "run")
    return folder


def test_samples_are_clearly_better_than_the_first_population(finished: Path) -> None:
    """The model knows nothing of kinds: what the first population has of them is chance."""
    first, last = quality(finished, "run").values()
    assert first[0] < 0.5
    assert last[0] > max(0.55, first[0] + 0.15)
    assert last[1] < 0.97 * first[1]


def test_the_release_says_what_was_rejected_and_nothing_of_the_service(finished: Path) -> None:
    for iteration in range(5):
        manifest = json.loads((finished / f"run/release/iteration={iteration:04d}/manifest.json").read_text())
        assert manifest["generation"]["stand_ins"] <= 6
    files = [path for path in (finished / "run/release").rglob("*") if path.is_file()]
    assert not [path for path in files if b"127.0.0.1" in path.read_bytes()]
