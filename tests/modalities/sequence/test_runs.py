"""Whole runs on sequences, in memory."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import pe_beam
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.run import open_run
from pe_beam.errors import DataError, RecipeError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.sequence.conftest import RECIPE, visits


def recipe_of(path, **changes):
    found = {**RECIPE, **changes}
    return parse_recipe({**found, "data": {**found["data"], "path": str(path)}})


def test_a_run_from_rows_to_rows(tmp_path, secret_file):
    rows = visits(80)
    csv.write_csv(rows.slice(0, 100), tmp_path / "visits.csv")
    csv.write_csv(visits(30, seed=1), tmp_path / "others.csv")
    run = pe_beam.evolve(recipe_of(tmp_path / "visits.csv"), "memory://sequences", secret_file=secret_file)
    assert run.privacy["unit"] == "client" and "unit: client" in run.privacy["statement"]
    run.export(tmp_path / "out.parquet")
    made = pq.read_table(tmp_path / "out.parquet")
    assert made.column_names == ["patient", "position", "visit", "gap", "gap_middle", "ward", "cost"]
    assert len(set(made["patient"].to_pylist())) == 40
    found = evaluate("memory://sequences", against=str(tmp_path / "others.csv"))
    assert "tvd_transition_shuffled" in str(found)
    held = open_run("memory://sequences")
    [shard] = shards_of(held)
    before = held.store.read(shard["shard"])
    csv.write_csv(rows.slice(0, 100).take(pa.array(range(100)[::-1])), tmp_path / "visits.csv")
    again = recipe_of(tmp_path / "visits.csv", privacy={**RECIPE["privacy"], "marginals": None})
    pe_beam.evolve(again, "memory://sequences-again", secret_file=secret_file)
    other = open_run("memory://sequences-again")
    assert other.store.read(shards_of(other)[0]["shard"]) == before  # rows in another order: the same vectors


def test_rejects_hold_no_value_in_messages(tmp_path):
    rows = visits(10).to_pylist()
    wrong = [{**row, "visit": "hidden thing"} for row in rows]
    csv.write_csv(pa.Table.from_pylist(wrong), tmp_path / "visits.csv")
    with pytest.raises(DataError, match="no record that can be used") as caught:
        pe_beam.evolve(recipe_of(tmp_path / "visits.csv"), "memory://sequences-wrong")
    assert "hidden" not in str(caught.value) and "p1" not in str(caught.value)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"privacy\.unit: client is wanted"):
        recipe_of("x.csv", privacy={"epsilon": 1, "delta": 1e-5})
    with pytest.raises(RecipeError, match="unknown when"):
        pe_beam.evolve(
            parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": "x.csv", "columns": {"when": "day"}}}),
            "memory://sequences-refused",
        )
