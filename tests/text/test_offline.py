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
import pyarrow.parquet as pq
import pytest

from pe_beam.runs.driver import evolve
from pe_beam.runs.evaluate import frechet_distance
from pe_beam.runs.recipe import load_recipe
from tests.text import corpus
from tests.text.server import Served

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "templates/recipes/snippets-offline.yaml"
TRAINING_SECONDS = 45
PRIVATE, HELD_OUT, SAMPLES = 400, 150, 100  # of each kind


def _some(rows: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    seen: collections.Counter[str] = collections.Counter()
    chosen = []
    for kind, text in rows:
        if seen[kind] < count:
            seen[kind] += 1
            chosen.append((kind, text))
    return chosen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private.csv, held-out.csv and the finished run."""
    folder = tmp_path_factory.mktemp("offline")
    parts = corpus.parts(corpus.load())
    (folder / "private.csv").write_text(corpus.as_csv(_some(parts["private"], PRIVATE)))
    (folder / "held-out.csv").write_text(corpus.as_csv(_some(parts["held out"], HELD_OUT)))
    (folder / "public.json").write_text(json.dumps([text for _, text in parts["public"]]))
    model = folder / "model.npz"
    train = [sys.executable, "-m", "tests.text.language_model", "train", str(folder / "public.json"), str(model)]
    subprocess.run([*train, str(TRAINING_SECONDS)], check=True, cwd=ROOT)
    serve = ("tests.text.language_model", "serve", str(model))
    with Served(folder / "log", command=serve, models=["small-words"]) as server:
        recipe = load_recipe(
            RECIPE,
            {
                "data.path": str(folder / "private.csv"),
                "data.holdout": str(folder / "held-out.csv"),
                "execution.llm.endpoints": [{"base_url": server.url, "key_env": None}],
            },
        )
        run = evolve(recipe, folder / "run")
    assert run.root == str(folder / "run")
    return folder


def _quality(folder: Path, iteration: int) -> tuple[float, float]:
    """Accuracy of a classifier trained on a population and tested on held-out texts; Fréchet distance, mean by kind."""
    from sklearn.linear_model import LogisticRegression

    from pe_beam.runs.run import open_run

    run = open_run(folder / "run")
    table = pq.read_table(folder / f"run/release/iteration={iteration:04d}/population/part-00000.parquet")
    made, kinds = run.embedder.embed(table).vectors.astype(float), np.array(table["label"].to_pylist())
    with (folder / "held-out.csv").open(newline="") as file:
        real = list(csv.DictReader(file))
    held = run.embedder.embed(pa.table({"text": [row["text"] for row in real]})).vectors.astype(float)
    held_kinds = np.array([row["kind"] for row in real])
    first = np.concatenate([np.flatnonzero(kinds == kind)[:SAMPLES] for kind in sorted(set(kinds))])
    made, kinds = made[first], kinds[first]
    accuracy = LogisticRegression(max_iter=1000).fit(made, kinds).score(held, held_kinds)
    own = [frechet_distance(made[kinds == kind], held[held_kinds == kind]) for kind in sorted(set(kinds))]
    return float(accuracy), float(np.mean(own))


def test_samples_are_clearly_better_than_the_first_population(finished: Path) -> None:
    """The model knows nothing of kinds: what the first population has of them is chance."""
    first, last = _quality(finished, 0), _quality(finished, 4)
    (finished / "quality.json").write_text(json.dumps({"first": first, "last": last}))
    assert first[0] < 0.4
    assert last[0] > first[0] + 0.2
    assert last[1] < 0.97 * first[1]


def test_the_release_says_what_was_rejected_and_nothing_of_the_service(finished: Path) -> None:
    for iteration in range(5):
        manifest = json.loads((finished / f"run/release/iteration={iteration:04d}/manifest.json").read_text())
        assert manifest["generation"]["stand_ins"] <= 6
    files = [path for path in (finished / "run/release").rglob("*") if path.is_file()]
    assert not [path for path in files if b"127.0.0.1" in path.read_bytes()]
