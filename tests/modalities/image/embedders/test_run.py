"""A whole run through the command, on features of a real network."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.engine.run import Run
from pe_beam.engine.shards import dimension_of
from pe_beam.recipe.loading import parse_recipe

EMBEDDER = {"name": "efficientnet-lite0", "crop": False, "batch_size": 2}


@pytest.fixture
def recipe(small, tmp_path):
    """Few digits, for the network takes a while on a CPU: of two labels, most of them held out."""
    small["data"] |= {"labels": ["0", "1"], "max_rejects": 1.0, "holdout": {"share": 0.97, "random_state": 0}}
    small["data"]["expected_records"] = 10
    return small | {"embedder": EMBEDDER, "evolution": {"iterations": 1, "samples": 8}}


def test_digits_are_evolved_in_the_features_of_efficientnet(recipe, tmp_path, secret_file):
    path, run_dir = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe))
    asked = ["run", str(path), "--run-dir", str(run_dir), "--secret-file", str(secret_file)]
    assert main(asked) == 0
    assert main(asked) == 0  # a complete run again: nothing to do
    assert pq.read_table(run_dir / "release/samples.parquet").num_rows == 8
    run = Run(str(run_dir), parse_recipe(recipe))
    assert run.embedder.dimension == 1280
    kept = [pq.read_schema(file) for file in (run_dir / "private/embeddings").rglob("*.parquet")]
    assert kept and all(dimension_of(schema) == 1280 for schema in kept if "vector" in schema.names)
    check = next((run_dir / "private/embeddings").glob("check_*.json"))
    assert len(json.loads(check.read_text())["digest"]) == 64


def test_weights_that_are_not_there_cost_no_budget(recipe, tmp_path, capsys):
    path, run_dir = tmp_path / "recipe.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(recipe | {"embedder": {"name": "inception", "weights": "/nowhere/inception.pt"}}))
    assert main(["run", str(path), "--run-dir", str(run_dir)]) == 2
    assert "embedder.weights: '/nowhere/inception.pt' is not a file" in capsys.readouterr().err
    assert not Path(run_dir / "ledger.jsonl").exists()
