"""Whole runs on sequences, in memory."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import pe_beam
from pe_beam.contracts.asking import Asker
from pe_beam.engine import tables
from pe_beam.engine.counting import read_counts
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.run import open_run
from pe_beam.engine.spending import grid_bits
from pe_beam.errors import DataError, InputError, RecipeError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.init.main import write_recipe
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.plan import make_plan
from tests.modalities.sequence.conftest import RECIPE, visits
from tests.whole_runs import ROOT


def recipe_of(path, **changes):
    found = {**RECIPE, **changes}
    return parse_recipe({**found, "data": {**found["data"], "path": str(path)}})


def test_a_run_from_rows_to_rows(tmp_path, secret_file):
    path = tmp_path / "visits.csv"
    csv.write_csv(visits(80), path)
    cut = {**RECIPE["data"], "holdout": {"share": 0.3, "random_state": 0}}
    run = pe_beam.evolve(recipe_of(path, data=cut), "memory://sequences", secret_file=secret_file)
    assert run.privacy["unit"] == "client" and "unit: client" in run.privacy["statement"]
    assert "noisy counts of length, transition, gap, ward, cost by label" in run.privacy["statement"]
    run.export(tmp_path / "out.parquet")
    made = pq.read_table(tmp_path / "out.parquet")
    assert made.column_names == ["patient", "position", "visit", "gap", "gap_middle", "ward", "cost"]
    assert len(set(made["patient"].to_pylist())) == 40
    run.export(tmp_path / "shared", form="huggingface")
    card = (tmp_path / "shared/README.md").read_text()
    assert "list of kind (string), gap (string), ward (string), cost (float64)" in card
    found = evaluate("memory://sequences")
    assert "tvd_transition_shuffled" in str(found) and "cannot be read as they voted" not in str(found)


def test_one_client_more_moves_counts_by_its_norm_at_most(tmp_path, secret_file):
    """However many rows it has, and although all other rows then come in another order."""
    rows = visits(40)
    day, often = rows["day"][0].as_py(), {"patient": "long", "visit": "therapy", "ward": "a", "cost": 1}
    more = pa.concat_tables([rows, pa.Table.from_pylist([{**often, "day": day}] * 300).select(rows.column_names)])
    counts, vectors = [], []
    for at, table in enumerate((rows, more.take(pa.array(range(len(more))[::-1])))):
        csv.write_csv(table, tmp_path / "visits.csv")
        recipe = recipe_of(tmp_path / "visits.csv", evolution={**RECIPE["evolution"], "samples": 4})
        pe_beam.evolve(recipe, f"memory://sequences-{at}", secret_file=secret_file)
        run = open_run(f"memory://sequences-{at}")
        counts.append(read_counts(run, 0)["count"].to_numpy())
        [shard] = shards_of(run)
        found = tables.read_bytes(run.store.read(shard["shard"])).to_pylist()
        vectors.append({row["client"]: row["vector"] for row in found})
    norm = float(np.sqrt(((counts[1] - counts[0]).astype(float) ** 2).sum()))
    assert 0.999 * 2 ** grid_bits(run, 0) < norm <= 2 ** grid_bits(run, 0)
    assert vectors[1].keys() - vectors[0].keys() == {"long"}
    assert all(vectors[1][client] == vector for client, vector in vectors[0].items())


def test_records_in_memory_are_rows(tmp_path):
    small = {**RECIPE["evolution"], "samples": 4}
    bare = {**RECIPE["privacy"], "marginals": None}
    recipe = recipe_of("", privacy=bare, evolution=small)
    run = pe_beam.evolve(recipe, tmp_path / "run", records=visits(20))
    assert run.records().column_names[:3] == ["patient", "position", "visit"]
    assert run.recipe.data.options == {"rows": "parquet"}


def test_the_example_is_a_recipe_and_init_writes_one(tmp_path):
    found = make_plan(load_recipe(ROOT / "docs/examples/sequences/visits.yaml"))
    assert found.schedule.sensitivity == 1 and found.schedule.label_noise_multiplier is not None
    csv.write_csv(visits(2), tmp_path / "visits.csv")
    answers = {
        "data.path": str(tmp_path / "visits.csv"), "modality": "sequence", "look": "yes",
        "data.expected_records": "500",
        "data.columns.client": "patient", "data.columns.time": "day", "data.columns.kind": "visit",
        "data.schema.time.min": "2020-01-01", "data.schema.time.max": "2021-01-01", "data.schema.most": "9",
        "data.schema.kind.values": "admission, surgery", "data.schema.gaps.edges": "0, 2, 9",
    }  # fmt: skip
    told = io.StringIO()
    recipe, _ = write_recipe(Asker(answers, interactive=False, sink=told), str(tmp_path / "out.yaml"))
    assert recipe.data.source == "events" and recipe.privacy.unit == "client"
    assert recipe.data.table_schema["gaps"]["edges"] == [0, 2, 9] and "ward, cost" in told.getvalue()
    with pytest.raises(InputError) as caught:
        write_recipe(Asker({"data.path": "x.csv", "modality": "sequence"}, interactive=False), str(tmp_path / "no"))
    assert all(name in str(caught.value) for name in ("columns.client", "most", "kind.values", "time.min"))
    columns = {
        key: value for key, value in answers.items() if key.startswith(("data.path", "modality", "data.columns"))
    }
    shown = tmp_path / "shown.csv"
    shown.write_bytes((tmp_path / "visits.csv").read_bytes())
    more = {"public": str(shown), "data.expected_records": "50", "data.schema.most": "9"}
    with pytest.raises(InputError, match="these are the private records"):
        own = more | {"public": str(tmp_path / "visits.csv")}
        write_recipe(Asker(columns | own, interactive=False), str(tmp_path / "no"))
    read, _ = write_recipe(Asker(columns | more, interactive=False), str(tmp_path / "read.yaml"))
    assert list(read.data.table_schema["attributes"]) == ["ward", "cost"]
    assert read.data.table_schema["time"]["type"] == "date" and "discharge" in read.data.table_schema["kind"]["values"]


def test_a_person_is_asked_for_the_client_until_it_is_there(tmp_path):
    csv.write_csv(visits(2), tmp_path / "v.csv")
    answers = [
        "yes",
        "",
        "50",
        "",
        "",
        "",
        "",
        "nobody",
        "patient",
        "day",
        "visit",
        "",
        "",
        "",
        "2020-01-01",
        "2021-01-01",
    ]
    answers += ["surgery", "ward", "categorical", "a, b", "", "", "", "9", "", "", "", "", ""]
    told = io.StringIO()
    given = {"data.path": str(tmp_path / "v.csv"), "data.source": "csv", "modality": "sequence"}
    asker = Asker(given, interactive=True, source=io.StringIO("\n".join(answers) + "\n"), sink=told)
    recipe, _ = write_recipe(asker, str(tmp_path / "made.yaml"))
    assert recipe.data.columns == {"client": "patient", "time": "day", "kind": "visit"}
    assert list(recipe.data.table_schema["attributes"]) == ["ward"]
    assert "one column of patient, day, visit, ward, cost" in told.getvalue()


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
    with pytest.raises(RecipeError, match="allowed: events"):
        recipe_of("x.csv", data={**RECIPE["data"], "source": "csv", "options": {}})
    with pytest.raises(RecipeError, match="unknown when"):
        pe_beam.evolve(
            parse_recipe({**RECIPE, "data": {**RECIPE["data"], "path": "x.csv", "columns": {"when": "day"}}}),
            "memory://sequences-refused",
        )
