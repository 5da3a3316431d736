"""A third party's modality, installed beside ours, brings a metric of its own."""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.recipe.loading import parse_recipe

CODE = '''
import pyarrow as pa
import numpy as np
from pe_beam.errors import MissingExtraError
from pe_beam.contracts import *

def median_gap(comparison):
    """Difference of medians; the table of training records is there, but for the ceiling."""
    values = {name: np.array(getattr(comparison, name)["value"]) for name in ("samples", "held_out")}
    figures = {"median_gap": abs(np.median(values["samples"]) - np.median(values["held_out"]))}
    if comparison.training is not None:
        figures["training_rows"] = comparison.training.num_rows
    assert comparison.samples.column_names == ["label", "value"]
    assert comparison.recipe["data"]["labels"] == comparison.labels
    bins = [0.0, 0.5, 1.0]
    counts = {name: np.histogram(x, bins)[0].tolist() for name, x in values.items()}
    chart = Series(title="Values", x=["low", "high"], y=counts, x_title="value", y_title="records")
    return Measured(figures=figures, series=[chart], notes=["medians of few rows"])

def needs_more(comparison):
    raise MissingExtraError("metric x needs the extra [tiny]")

MODALITY = Modality(
    name="numbers", payload=pa.schema([("value", pa.float64())]), metrics=(median_gap, needs_more), metric_rows=30
)

class Uniform(Generator):
    Options = Options
    def __init__(self, options, *, labels):
        pass
    def _rows(self, values):
        count = len(values)
        return pa.table({"state": pa.nulls(count, pa.string()), "value": pa.array(values, pa.float64())})
    def random(self, labels, rngs):
        return self._rows([rng.random() for rng in rngs])
    def vary(self, parents, step, rngs):
        return self._rows([v + step.degree * rng.normal() for v, rng in zip(parents["value"].to_pylist(), rngs)])

class Itself(Embedder):
    Options = Options
    dimension = 1
    def __init__(self, options):
        pass
    def embed(self, records):
        return Embedding(np.array(records["value"], dtype=np.float32).reshape(-1, 1))
'''

POINTS = """
[pe_beam.modalities]
numbers = tiny_numbers:MODALITY
[pe_beam.generators]
uniform = tiny_numbers:Uniform
[pe_beam.embedders]
itself = tiny_numbers:Itself
"""


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """A package on the path with entry points, as pip would leave it."""
    site = tmp_path / "site"
    info = site / "tiny_numbers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "tiny_numbers.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-numbers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(POINTS))
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("tiny_numbers", None)


@pytest.fixture
def run_dir(installed, tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name, rows in (("training", 60), ("held", 50)):
        pq.write_table(pa.table({"value": rng.random(rows) / 2}), tmp_path / f"{name}.parquet")
    recipe = {
        "name": "numbers",
        "modality": "numbers",
        "data": {"source": "parquet", "path": str(tmp_path / "training.parquet")},
        "generator": {"name": "uniform"},
        "embedder": {"name": "itself"},
        "evolution": {"iterations": 1, "samples": 40},
        "privacy": {"epsilon": 1, "delta": 1e-5},
    }
    recipe["data"]["holdout"] = str(tmp_path / "held.parquet")
    evolve(parse_recipe(recipe), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.reported
def test_a_third_partys_metric_is_asked_for_every_population_and_the_ceiling(run_dir, tmp_path):
    found = evaluate(run_dir)
    samples = np.array(pq.read_table(run_dir / "release/samples.parquet")["value"])
    held = np.array(pq.read_table(tmp_path / "held.parquet")["value"])
    assert found["metrics"]["training_rows"] == found["floor"]["metrics"]["training_rows"] == 30
    assert "training_rows" not in found["ceiling"]["metrics"]
    gap = abs(np.median(samples) - np.median(held))
    assert abs(found["metrics"]["median_gap"] - gap) < 0.3  # of 30 rows each, not of all
    assert found["ceiling"]["metrics"]["median_gap"] < found["floor"]["metrics"]["median_gap"]
    assert found["series"][0]["title"] == "Values"
    assert "medians of few rows" in found["notes"]
    assert any("extra [tiny]" in note for note in found["notes"])
    page = (run_dir / "private/evaluation/evaluation.html").read_text()
    assert "The records themselves" in page
    assert "median gap" in page
    assert "median_gap" not in json.dumps([str(path) for path in (run_dir / "release").rglob("*")])


def test_changed_training_records_are_not_shown_to_a_metric(run_dir, tmp_path):
    pq.write_table(pa.table({"value": np.zeros(60)}), tmp_path / "training.parquet")
    found = evaluate(run_dir)
    assert "training_rows" not in found["metrics"]
    assert "median_gap" not in found["ceiling"]["metrics"]
    assert any("cannot be read as they voted" in note for note in found["notes"])
    assert "left_out" not in found["memorisation"]


def test_a_metric_may_not_take_a_name_that_is_taken(run_dir, installed, monkeypatch):
    import tiny_numbers

    from pe_beam.contracts.metric import Measured

    for figures in ({"precision": 1.0}, {"Not allowed": 1.0}, {"fine": float("nan")}):
        modality = tiny_numbers.MODALITY
        object.__setattr__(modality, "metrics", (lambda _, f=figures: Measured(figures=f),))
        with pytest.raises(Exception, match="a new name and a number"):
            evaluate(run_dir)
