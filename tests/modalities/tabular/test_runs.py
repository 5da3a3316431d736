"""Whole runs on tables: measured marginals against a direct count, phases, sources, bad days, the shipped recipe."""

from __future__ import annotations

import copy
import csv
import datetime as dt
import io
import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.contracts.source import UNREAD
from pe_beam.driver.export import export
from pe_beam.driver.loop import evolve
from pe_beam.engine import counting, populations
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.run import open_run
from pe_beam.engine.spending import grid_bits, sigma_of
from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.marginals import bin_of
from pe_beam.modalities.tabular.schema import RESERVED
from pe_beam.privacy import accounting
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.sources import private_source, source_at
from pe_beam.selection.quotas import largest_remainder
from tests.modalities.tabular.tables import SCHEMA, TABLE, rows
from tests.whole_runs import RECIPES, release_digests


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """A recipe on a CSV file."""
    recipe = copy.deepcopy(TABLE)
    pyarrow.csv.write_csv(rows(), tmp_path / "private-file.csv")
    recipe["data"]["path"] = str(tmp_path / "private-file.csv")
    return recipe


@pytest.mark.reported
def test_bought_marginals_are_what_a_direct_count_says_plus_noise(table, tmp_path, secret_file):
    recipe = parse_recipe(table)
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    run = open_run(tmp_path / "run")
    data = rows().slice(5)
    codes = {
        "age": data["age"].to_numpy(),
        "income": np.clip(data["income in dollars"].to_numpy(), 0, 1000),
        "city": np.array([["Oslo", "Rome", "Lima"].index(x) for x in data["city"].to_pylist()]),
        "zero": np.zeros(data.num_rows),
    }
    labels = np.array([recipe.label_list.index(x) for x in data["group"].to_pylist()])
    columns = run.modality.content.schema.columns
    sizes = run.embedder.marginal_sizes()
    assert sizes == {"age": 10, "income": 5, "city": 3, "zero": 1}
    wanted = [
        np.bincount(bin_of(codes[name][labels == label].astype(float), columns[name]), minlength=size)
        for name, size in sizes.items()
        for label in range(3)
    ]
    exact = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    assert np.array_equal(exact, np.concatenate(wanted))
    # One query of norm sqrt(4): its line in the ledger, and the budget as a whole, say so.
    line = json.loads((tmp_path / "run/ledger.jsonl").read_text().splitlines()[0])
    assert line["iteration"] == 0 and line["sensitivity"] == 2.0
    assert line["sigma"] == pytest.approx(2 * line["noise_multiplier"], rel=1e-9)
    said = json.loads((tmp_path / "run/release/privacy.json").read_text())
    spent = accounting.spent_epsilon([line["noise_multiplier"], *said["noise_multiplier"]], 1e-5)
    assert said["spent_epsilon"] == pytest.approx(spent) and 0.999 < spent <= 1
    # Bought with 0.4 of the budget, in terms of 1 / multiplier^2.
    assert line["noise_multiplier"] ** -2 / (
        line["noise_multiplier"] ** -2 + said["noise_multiplier"][0] ** -2
    ) == pytest.approx(0.4, rel=1e-6)
    noisy = pq.read_table(tmp_path / "run/release/iteration=0000/labels")
    assert noisy.column_names == ["label", "column", "bin", "noisy_count"]
    totals = read_marginals(run).totals()
    assert np.abs(totals - np.bincount(labels, minlength=3)).max() < 5 * line["sigma"] * 2
    # They also say how many candidates each label gets; a label that nobody has still gets one.
    population = populations.read_population(run, 0)["label"].to_pylist()
    assert [population.count(label) for label in ("x", "y", "never seen")] == largest_remainder(totals.tolist(), 30)
    page = (tmp_path / "run/release/report.html").read_text()
    assert "Marginals that were bought" in page and "It begins with bought marginals" in page
    assert "private-file" not in page and "income in dollars" not in page
    again = tmp_path / "again"
    evolve(recipe, again, ["--direct_runner_bundle_repeat=1"], secret_file=secret_file, unroll=True)
    assert release_digests(again) == release_digests(tmp_path / "run")


def test_noise_of_marginals_has_its_scale(table, tmp_path, secret_file):
    """57 noisy cells: their spread is within 2/3 and 3/2 of sigma but for a chance below 1 in 10,000."""
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    exact = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    noisy = pq.read_table(tmp_path / "run/release/iteration=0000/labels")["noisy_count"].to_numpy()
    sigma = sigma_of(open_run(tmp_path / "run"), 0)
    assert len(noisy) == 3 * (10 + 5 + 3 + 1)
    assert 2 / 3 < np.std(noisy - exact) / sigma < 3 / 2


def test_clients_are_bounded_over_all_columns(table, tmp_path, secret_file):
    table["privacy"]["unit"] = "client"
    recipe = parse_recipe(table)
    assert make_plan(recipe).schedule.label_sigma == pytest.approx(
        make_plan(recipe).schedule.label_noise_multiplier, rel=1e-9
    )
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    run = open_run(tmp_path / "run")
    counts = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    # 50 clients, each of norm 1 at most, over at most 57 cells: the norm of the sum is at most 50.
    assert np.sqrt((counts.astype(float) ** 2).sum()) / 2 ** grid_bits(run, 0) <= 50
    assert counts.sum() > 0


def test_sources_give_the_same_release(table, tmp_path, secret_file):
    parquet, jsonl = tmp_path / "t.parquet", tmp_path / "t.jsonl"
    pq.write_table(rows(), parquet)
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows().to_pylist()))
    digests = []
    for source, path in (("csv", table["data"]["path"]), ("parquet", parquet), ("jsonl", jsonl)):
        recipe = copy.deepcopy(table)
        recipe["data"] |= {"source": source, "path": str(path)}
        run_dir = tmp_path / f"run-{source}"
        evolve(parse_recipe(recipe), run_dir, secret_file=secret_file)
        index = json.loads((run_dir / "private/embeddings/index.json").read_text())
        digests.append(index["fingerprint"])
        assert len(list((run_dir / "private/rejects").iterdir())) == 1
    assert digests[0] == digests[1] == digests[2]  # the same vectors whatever the file


def test_two_stages_as_published_without_a_paid_round_that_does_nothing(table, tmp_path, secret_file):
    table["privacy"] = {"epsilon": 100, "delta": 1e-5}
    table["evolution"] = {
        "iterations": 4,
        "population": [20, 20, 80, 80],
        "samples": 20,
        "selection": "multinomial",
        "threshold": 0,
        "degree": {"from": 0.5, "to": 0.01, "decay": "tab-pe"},
        "phases": [{"from": 2, "variations": 3, "keep_parents": True}, {"from": 3, "selection": "rank"}],
        "final": "selected",
    }
    table["data"]["labels"] = ["x", "y"]
    recipe = parse_recipe(table)
    assert recipe.evolution.populations() == [20, 20, 80, 80, 20]
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    run = open_run(tmp_path / "run")
    origins = [populations.read_population(run, t)["origin"].to_pylist() for t in range(5)]
    assert set(origins[0]) == {"random"} and set(origins[1]) == {"varied"} and set(origins[4]) == {"kept"}
    assert 1 < origins[2].count("kept") <= 20 and origins[3].count("kept") == 20
    # Rank: the best 10 of each label's 40, and every survivor gets three variations.
    histogram = populations.read_histogram(run, 3)
    votes, labels = histogram["noisy_votes"].to_numpy(), np.array(histogram["label"].to_pylist())
    kept = {
        i
        for i, o in zip(populations.read_population(run, 3)["candidate_id"].to_pylist(), origins[3], strict=True)
        if o == "kept"
    }
    ids = histogram["candidate_id"].to_numpy()
    best = {
        int(i)
        for label in ("x", "y")
        for i in ids[labels == label][np.argsort(-votes[labels == label], kind="stable")[:10]]
    }
    assert kept == best


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phases": [{"from": 9}]}, "phases"),
        ({"phases": [{"from": 2}, {"from": 1}]}, "phases"),
        ({"phases": [{"from": 1, "variations": 0}]}, "keep_parents"),
        ({"phases": [{"from": 1, "selction": "rank"}]}, "did you mean 'selection'"),
        ({"phases": [{"from": 2, "threshold": "auto"}], "smoothing": 1}, "auto"),
        ({"phases": [{"from": 2, "variations": 7}], "samples": 30}, "multiple of 7"),
    ],
)
def test_phases_that_cannot_be_are_refused(table, change, said):
    table["evolution"] |= {"iterations": 3} | change
    with pytest.raises(RecipeError, match=said):
        parse_recipe(table)


def test_marginals_are_for_parts_that_have_them(small, table, tmp_path):
    small["privacy"]["marginals"] = {"budget": 0.5}
    with pytest.raises(RecipeError, match=r"privacy\.marginals"):
        make_plan(parse_recipe(small))
    table["privacy"]["label_counts"] = {"budget": 0.1}
    with pytest.raises(RecipeError, match="label_counts"):
        parse_recipe(table)


def test_a_schema_may_lie_in_a_file_and_is_then_part_of_the_recipe(table, tmp_path):
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    whole = parse_recipe(table)
    table["data"]["schema"] = "schema.yaml"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(table))
    assert load_recipe(tmp_path / "recipe.yaml") == whole
    for text, said in (
        ("[", "not valid YAML"),
        ("columns: {a: {type: date, min: 2020-13-01, max: 2021-01-01}}", "a date that does not exist"),
        ("columns: {a: {type: integer, min: 0, max: 1" + "0" * 5000 + "}}", "far too long"),
        ("- 1", "data.schema"),
        ("columns: {a: {type: float, min: 2, max: 1}}", "reversed"),
    ):
        (tmp_path / "schema.yaml").write_text(text)
        with pytest.raises(RecipeError, match=said):
            load_recipe(tmp_path / "recipe.yaml")
    del table["data"]["schema"]
    with pytest.raises(RecipeError, match=r"data\.schema"):
        parse_recipe(table)


def write(table: pa.Table, path: Path) -> Path:
    """A file of the kind that the ending says, with columns as they come: names may be twice."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return path
    lines = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(lines)
        else:
            for line in lines:
                fields = (
                    f"{json.dumps(k)}: {json.dumps(v, default=str)}"
                    for k, v in zip(table.column_names, line, strict=True)
                )
                file.write("{" + ", ".join(fields) + "}\n")
    return path


def column(name: str, values: Any) -> Any:
    """Replaces a column of all rows."""

    def change(table: pa.Table) -> pa.Table:
        array = values if isinstance(values, pa.Array) else pa.array(values * table.num_rows)
        return table.set_column(table.column_names.index(name), name, array)

    return change


BAD_DAYS: dict[str, tuple[Any, str]] = {
    "label missing": (lambda t: t.drop_columns(["group"]), "data.columns.label"),
    "label of nobody": (column("group", [None]), "label"),
    "column missing": (lambda t: t.drop_columns(["city"]), "data.columns.city"),
    "name twice": (lambda t: t.append_column("age", t["age"]), "data.columns.age"),
    "unseen category": (
        column("city", pa.array(["Zzsecret", "Yysecret", "oslo"] * 200)),
        "column city: category that is not declared (2 kinds of it: another text, in another case)",
    ),
    "all missing": (column("age", pa.nulls(600, pa.int64())), "column age: missing value"),
    "NaN where nothing may be missing": (column("age", [math.nan]), "column age: missing value"),
    "not constant": (column("zero", [41]), "column zero: value out of its declared bounds"),
    "beyond 2^53": (column("age", [2**60]), "2^53"),
    "infinite": (column("age", [math.inf]), "not finite"),
    "infinite where numbers are clipped": (column("income in dollars", [-math.inf]), "not finite"),
    "date out of range": (column("day", [dt.date(1841, 7, 6)]), "column day: value out of its declared bounds"),
    "last day there is": (column("day", [dt.date(9999, 12, 31)]), "column day: value out of its declared bounds"),
    "no date": (column("day", ["1841-02-30"]), "column day: value that is no date"),
    "no rows": (lambda t: t.slice(0, 0), "no r"),
}
IN_JSONL = {  # no record has the key; a name that comes twice is a fault of each line
    "label missing": "data.columns.label: ",
    "column missing": "data.columns.city: 'city': no record of data.path has a key of that name",
    "name twice": "the same name twice",
}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("day", BAD_DAYS)
def test_bad_days_cost_nothing_and_tell_nothing(table, tmp_path, capfd, day, kind):
    change, said = BAD_DAYS[day]
    said = IN_JSONL.get(day, said) if kind == "jsonl" else said
    table["data"]["schema"]["columns"]["day"] = {"type": "date", "min": "2000-01-01", "max": "2030-12-31"}
    good = rows().append_column("day", pa.array([dt.date(2020, 2, 29)] * 600))
    table["data"] |= {"source": kind, "path": str(write(change(good), tmp_path / f"private-file.{kind}"))}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(table))
    assert main(["run", str(tmp_path / "recipe.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    out = "".join(capfd.readouterr())
    assert said in out and "Traceback" not in out and "internal error" not in out
    assert not any(
        word in out for word in ("Zzsecret", "oslo", "200", "1152921504606846976", "client 1", ":3", "1841", "9999")
    )
    assert not (tmp_path / "run/ledger.jsonl").exists()
    if day == "unseen category":
        rejects = "".join(path.read_text() for path in (tmp_path / "run/private/rejects").iterdir())
        assert "Zzsecret" in rejects


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_days_that_are_not_bad(table, tmp_path, secret_file, kind):
    """A column that is missing throughout, a constant one, NaN as missing, the ends of time, a file's own `state`."""
    new = {
        "gone": ({"type": "float", "min": 0, "max": 1, "missing": True}, pa.nulls(600, pa.float64())),
        "nan": ({"type": "float", "min": 0, "max": 1, "missing": True}, pa.array([math.nan] * 600)),
        "same": ({"type": "categorical", "values": ["s", "t"]}, pa.array(["s"] * 600)),
        "day": (
            {"type": "date", "min": "2000-01-01", "max": "2030-12-31", "outside": "clip"},
            pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31)] * 300),
        ),
        "condition": ({"type": "integer", "min": 0, "max": 3}, pa.array([2] * 600)),
    }
    found = rows().append_column("candidate_id", pa.array([10**6] * 600))
    for name, (declared, values) in new.items():
        table["data"]["schema"]["columns"][name] = declared
        found = found.append_column("state" if name == "condition" else name, values)
    table["data"]["columns"]["condition"] = "state"
    table["data"] |= {"source": kind, "path": str(write(found, tmp_path / f"private-file.{kind}"))}
    table["privacy"] |= {"epsilon": 100}
    said = io.StringIO()
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file, progress=said)
    columns = "columns left out, for data.schema does not declare them: candidate_id\n"
    keys = "records have keys that data.schema does not declare; they are left out\n"
    assert [line in said.getvalue() for line in (columns, keys)] == [kind != "jsonl", kind == "jsonl"]
    samples = pq.read_table(tmp_path / "run/release/samples.parquet")
    usual = {name: Counter(samples[name].to_pylist()).most_common(1)[0][0] for name in new}
    assert usual["gone"] is usual["nan"] is None and usual["same"] == "s" and usual["condition"] == 2
    assert samples["candidate_id"].to_pylist() == sorted(set(samples["candidate_id"].to_pylist())) != [10**6] * 30
    assert set(samples["state"].to_pylist()) == {None}  # ours, not the file's
    (rejects,) = (tmp_path / "run/private/rejects").iterdir()
    assert len(rejects.read_text().splitlines()) == 5  # those with an impossible age, as ever


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_that_have_a_role_are_not_said_to_be_left_out(table, tmp_path, kind):
    """Clients are not asked for where the record is the unit."""
    table["data"] |= {"source": kind, "path": str(write(rows(20), tmp_path / f"t.{kind}"))}
    source = private_source(parse_recipe(table))
    (batch,) = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert not any(fact.startswith(UNREAD) for fact in batch.seen)


@pytest.mark.parametrize("name", RESERVED)
def test_columns_of_our_own_names_are_refused_and_told_how_to_be_had(table, name):
    table["data"]["schema"]["columns"][name] = {"type": "boolean"}
    with pytest.raises(RecipeError, match=r"data\.schema.*data\.columns"):
        parse_recipe(table)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_row_is_as_good_as_any(table, tmp_path, secret_file, kind):
    path = write(rows().slice(100, 1), tmp_path / f"one.{kind}")
    table["data"] |= {"source": kind, "path": str(path)}
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    assert pq.read_table(tmp_path / "run/release/samples.parquet").num_rows == 30


def test_a_million_columns(table, tmp_path):
    """Declared, they are refused at once; in a file, those that are declared are found."""
    names = [f"c{i}" for i in range(10**6)]
    many = copy.deepcopy(table)
    many["data"]["schema"] = {"columns": {name: {"type": "boolean"} for name in names[: 10**5]}}
    began = time.process_time()
    with pytest.raises(RecipeError, match="2000"):
        parse_recipe(many)
    assert time.process_time() - began < 10
    few = {"c7": {"type": "boolean"}, "c999999": {"type": "boolean"}}
    line = ",".join("1" for _ in names)
    (tmp_path / "wide.csv").write_text(f"{','.join(names)}\n{line}\n{line}\n")
    (tmp_path / "wide.jsonl").write_text((json.dumps(dict.fromkeys(names, 1)) + "\n") * 2)
    for kind in ("csv", "jsonl"):
        recipe = copy.deepcopy(TABLE)
        recipe["data"] = {"source": kind, "path": str(tmp_path / f"wide.{kind}"), "schema": {"columns": few}}
        source = private_source(parse_recipe(recipe))
        (batch,) = [batch for piece in source.pieces() for batch in source.read(piece)]
        assert batch.payload.to_pylist() == [{"c7": True, "c999999": True}] * 2 and not batch.faults


def test_one_row_a_thousand_columns_and_a_constant(tmp_path, secret_file):
    """One record is as good as any: nothing tells that it is one."""
    names = [f"c{i}" for i in range(1000)]
    wide = {name: {"type": "integer", "min": 1, "max": 1} for name in names}
    (tmp_path / "one.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    recipe = copy.deepcopy(TABLE)
    recipe["data"] = {"source": "csv", "path": str(tmp_path / "one.csv"), "schema": {"columns": wide}}
    recipe["evolution"]["samples"] = 3
    evolve(parse_recipe(recipe), tmp_path / "run", secret_file=secret_file)
    assert pq.read_table(tmp_path / "run/release/samples.parquet")["c7"].to_pylist() == [1, 1, 1]


def test_exports_are_clean_tables(table, tmp_path, secret_file):
    data, count = rows(), np.arange(rows().num_rows)
    days = pa.array((18262 + count % 366).astype(np.int32)).cast(pa.date32())
    moments = pa.array(18262 * 86400 + count * 3607).cast(pa.timestamp("s"))
    pyarrow.csv.write_csv(data.append_column("day", days).append_column("seen", moments), tmp_path / "private-file.csv")
    table["data"]["labels"] = {"group": ["x", "y"], "city": ["Oslo", "Lima"]}
    kept = {k: v for k, v in SCHEMA["columns"].items() if k != "city"}
    day = {"type": "date", "min": "2020-01-01", "max": "2020-12-31"}
    seen = {"type": "datetime", "min": "2020-01-01T00:00:00", "max": "2020-12-31T23:59:59"}
    table["data"]["schema"] = {"columns": kept | {"day": day, "seen": seen}}
    del table["data"]["columns"]["label"]
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    wanted = ["age", "income in dollars", "zero", "day", "seen", "group", "city"]
    for name, read in (
        ("t.parquet", pq.read_table),
        ("t.csv", pyarrow.csv.read_csv),
        ("t.jsonl", pyarrow.json.read_json),
    ):
        export(str(tmp_path / "run"), tmp_path / name)
        found = read(tmp_path / name)
        assert found.column_names == wanted and found.num_rows == 30
        assert set(found["group"].to_pylist()) == {"x", "y"}
        assert {moment.year for moment in found["seen"].cast(pa.timestamp("s")).to_pylist()} == {2020}
    texts = [line.split(",") for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    objects = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [text[3:5] for text in texts] == [[one["day"], one["seen"]] for one in objects]
    assert all(dt.datetime.fromisoformat(one["seen"]).strftime("%F %T") == one["seen"] for one in objects)
    # What was exported can be the private data of another run.
    table["data"] |= {"path": str(tmp_path / "t.csv")}
    source = private_source(parse_recipe(table))
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert not batches[0].faults and "x | Oslo" in batches[0].labels


def test_the_shipped_breast_cancer_recipe(tmp_path):
    """Runs whole, and its samples teach a classifier what the held-out records are."""
    run_dir = str(tmp_path / "run")
    assert main(["run", str(RECIPES / "breast-cancer.yaml"), "--run-dir", run_dir]) == 0
    samples = pq.read_table(tmp_path / "run/release/samples.parquet")
    assert samples.num_rows == 150 and set(samples["label"].to_pylist()) == {"malignant", "benign"}
    from pe_beam.contracts.metric import Comparison
    from pe_beam.modalities.tabular.metrics import METRICS
    from pe_beam.recipe.identity import to_plain

    run = open_run(run_dir)
    tables = {}
    for part in ("train", "test"):
        source = source_at(run.recipe, run.recipe.data.path, part=part)
        batches = [batch for piece in source.pieces() for batch in source.read(piece)]
        tables[part] = pa.concat_tables([b.payload.append_column("label", pa.array(b.labels)) for b in batches])
    comparison = Comparison(
        iteration=run.recipe.evolution.iterations,
        samples=samples,
        held_out=tables["test"],
        training=tables["train"],
        labels=run.recipe.data.labels,
        recipe=to_plain(run.recipe),
        seed=0,
    )
    figures = {}
    for metric in METRICS:
        found = metric(comparison)
        assert all(math.isfinite(value) for value in found.figures.values())
        figures |= found.figures
    assert figures["hist_gradient_boosting_accuracy"] > 0.75  # 0.63 is the share of the larger label
    assert figures["tvd_1way"] < 0.5 and 0 < figures["wasserstein_2way"] < 0.5
    assert 0.2 < figures["closer_to_training_share"] < 0.8
