"""Measured pairs of columns: what is counted and paid, the forest that they give, and rows that follow it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.generator import Marginals, Step
from pe_beam.driver.loop import evolve
from pe_beam.engine import counting
from pe_beam.engine.measurements import Cells, read_marginals
from pe_beam.engine.run import open_run
from pe_beam.engine.spending import grid_bits
from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.forest import fit_forest
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.measured import Measured
from pe_beam.recipe.plan import make_plan
from tests.whole_runs import release_digests

SCHEMA = {
    "columns": {
        "a": {"type": "categorical", "values": list("pqrs")},
        "b": {"type": "categorical", "values": list("pqrs"), "missing": True},
        "x": {"type": "integer", "min": 0, "max": 19},
        "y": {"type": "float", "min": 0, "max": 1},
    }
}


def rows(count: int, seed: int = 0) -> pa.Table:
    """b mostly equals a, and is missing now and then; x and y rise together; the pairs know nothing of each other."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 4, count)
    b = np.where(rng.random(count) < 0.9, a, rng.integers(0, 4, count))
    x = rng.integers(0, 20, count)
    names = np.array(list("pqrs"))
    return pa.table(
        {
            "a": names[a],
            "b": pa.array(names[b].tolist(), mask=rng.random(count) < 0.1),
            "x": x,
            "y": np.clip(x / 20 + rng.normal(0, 0.05, count), 0, 1),
            "group": np.where(a < 2, "low", "high"),
        }
    )


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    pq.write_table(rows(400), tmp_path / "rows.parquet")
    return {
        "name": "pairs",
        "data": {
            "source": "parquet",
            "path": str(tmp_path / "rows.parquet"),
            "columns": {"label": "group"},
            "labels": ["low", "high"],
            "schema": copy.deepcopy(SCHEMA),
        },
        "modality": "tabular",
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 40},
        "privacy": {"epsilon": 3, "delta": 1e-5, "marginals": {"budget": 0.5, "pairs": 4}},
    }


def test_a_record_counts_once_in_each_pair_and_w_times_in_each_column(table, tmp_path, secret_file):
    recipe = parse_recipe(table)
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    run = open_run(tmp_path / "run")
    told = Measured(4, 4)
    assert (told.pairs, told.weight, told.norm_squared) == (6, 1, 10)
    line = json.loads((tmp_path / "run/ledger.jsonl").read_text().splitlines()[0])
    assert line["sensitivity"] == pytest.approx(np.sqrt(10))
    exact = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    released = pq.read_table(tmp_path / "run/release/iteration=0000/labels")
    assert released.column_names == ["label", "column", "bin", "other", "other_bin", "noisy_count"]
    data = rows(400)
    codes = encode_payload(data, TableSchema.model_validate(SCHEMA))
    a, x = codes[:, 0].astype(int), codes[:, 2].astype(int)
    of_pair = [row["column"] == "a" and row["other"] == "x" for row in released.to_pylist()]
    direct = np.bincount(a * 4 + x * 4 // 20, minlength=16)
    assert np.array_equal(exact[np.flatnonzero(of_pair)], direct)
    with_missing = [row["column"] == "a" and row["other"] == "b" for row in released.to_pylist()]
    assert exact[np.flatnonzero(with_missing)].reshape(4, 5)[:, 4].sum() == data["b"].null_count
    marginals = read_marginals(run)
    assert set(marginals.pairs) == {("a", "b"), ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("x", "y")}
    assert np.abs(marginals.pairs["a", "x"].ravel() - direct).max() < 6 * line["sigma"]
    evolve(recipe, tmp_path / "again", secret_file=secret_file, unroll=True)
    assert release_digests(tmp_path / "again") == release_digests(tmp_path / "run")


def test_noise_is_for_all_cells_of_a_record_together():
    """Of many columns a record's vector of cells has exactly the squared norm that the noise is for."""
    wide = {"columns": {f"c{i}": {"type": "categorical", "values": ["p", "q"]} for i in range(20)}}
    recipe = parse_recipe(
        {
            "name": "wide",
            "data": {"source": "parquet", "path": "x", "schema": wide},
            "modality": "tabular",
            "generator": {"name": "tabular"},
            "embedder": {"name": "tabular"},
            "evolution": {"iterations": 1, "samples": 10},
            "privacy": {"epsilon": 1, "delta": 1e-5, "marginals": {"budget": 0.5, "pairs": 2}},
        }
    )
    told = Measured(20, 2)
    assert told.weight == 3

    class Run:
        """What `Cells` needs of a run."""

        embedder = TabularEmbedder(TabularEmbedderOptions(), schema=TableSchema.model_validate(wide))

    Run.recipe = recipe
    payload = pa.table({f"c{i}": ["p", "q"] for i in range(20)})
    rows, cells = Cells(Run).ballots(Run.embedder.embed(payload).vectors, np.zeros(2, np.int32))
    for row in range(2):
        _, counts = np.unique(cells[rows == row], return_counts=True)
        assert (counts**2).sum() == told.norm_squared == 3**2 * 20 + 190
    assert make_plan(recipe).schedule.label_sigma == pytest.approx(
        make_plan(recipe).schedule.label_noise_multiplier * np.sqrt(told.norm_squared), rel=1e-9
    )


def test_a_client_is_bounded_over_columns_and_pairs(table, tmp_path, secret_file):
    data = rows(400).append_column("who", pa.array([f"c{i % 8}" for i in range(400)]))
    pq.write_table(data, tmp_path / "rows.parquet")
    table["data"]["columns"]["client"] = "who"
    table["privacy"]["unit"] = "client"
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    counts = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    assert np.sqrt((counts.astype(float) ** 2).sum()) / 2 ** grid_bits(open_run(tmp_path / "run"), 0) <= 8


def seeded(count: int, sigma: float, seed: int = 1) -> Tabular:
    """The generator after exact counts of so many rows, with ordinary noise."""
    schema = TableSchema.model_validate(SCHEMA)
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=schema)
    data, rng = rows(count), np.random.default_rng(seed)
    bins = embedder.marginal_bins(embedder.embed(data.drop_columns(["group"])).vectors)
    labels = np.array(data["group"].to_pylist()) == "high"
    sizes, groups = embedder.marginal_sizes(), embedder.marginal_groups(8)
    names = list(sizes)
    counts = {
        name: np.stack([np.bincount(bins[labels == of, i], minlength=sizes[name]) for of in (0, 1)])
        + rng.normal(0, sigma, (2, sizes[name]))
        for i, name in enumerate(names)
    }
    pairs = {}
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            wide = int(groups[names[j]].max()) + 1
            tall = int(groups[a].max()) + 1
            flat = groups[a][bins[:, i]] * wide + groups[names[j]][bins[:, j]]
            exact = np.bincount(flat, minlength=tall * wide).reshape(tall, wide)
            pairs[a, names[j]] = exact + rng.normal(0, sigma, exact.shape)
    plain = Tabular(TabularOptions(steps="redraw"), labels=["low", "high"], schema=schema)
    return plain.seeded(Marginals(["low", "high"], counts, sigma, groups, pairs, sigma))


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.Philox(key=seed * 100_000 + i)) for i in range(count)]


def agree(table: pa.Table) -> float:
    """The share of rows with a value of b in which it equals a."""
    pairs = [(a, b) for a, b in zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True) if b is not None]
    return float(np.mean([a == b for a, b in pairs]))


def test_random_rows_and_variations_keep_what_goes_together():
    made = seeded(5000, 5.0)
    assert sorted(tuple(sorted(edge)) for edge in made._forest.edges) == [(0, 1), (2, 3)]
    labels = ["low", "high"] * 1000
    fresh = made.random(labels, rngs(2000))
    assert agree(fresh) == pytest.approx(agree(rows(5000)), abs=0.03)
    assert np.corrcoef(fresh["x"].to_numpy(), fresh["y"].to_numpy())[0, 1] > 0.9
    assert fresh["b"].null_count / 2000 == pytest.approx(0.1, abs=0.03)
    for label, names in (("low", {"p", "q"}), ("high", {"r", "s"})):
        found = [a for a, own in zip(fresh["a"].to_pylist(), labels, strict=True) if own == label]
        assert np.mean([a in names for a in found]) > 0.98
    parents = fresh.append_column("label", pa.array(labels))
    varied = made.vary(parents, Step(iteration=1, iterations=1, degree=0.5), rngs(2000, 1))
    assert agree(varied) == pytest.approx(agree(fresh), abs=0.04)
    assert np.corrcoef(varied["x"].to_numpy(), varied["y"].to_numpy())[0, 1] > 0.85
    changed = np.mean([x != y for x, y in zip(varied["x"].to_pylist(), fresh["x"].to_pylist(), strict=True)])
    assert 0.3 < changed < 0.5


def test_where_noise_is_all_there_is_no_pair_is_taken():
    """On few records or with much noise the forest is empty, but for a chance of about 0.1% a pair."""
    assert sum(len(seeded(40, 60.0, seed)._forest.edges) for seed in range(20)) <= 1


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    made = seeded(2000, 5.0)
    whole = made.random(["low"] * 10, rngs(10))
    assert made.random(["low"] * 5, rngs(10)[5:]).equals(whole.slice(5))


def test_an_empty_table_of_noise_is_no_error():
    groups = [np.arange(3), np.arange(2)]
    shares = [np.full((1, 3), 1 / 3), np.full((1, 2), 1 / 2)]
    forest = fit_forest(shares, np.ones(1), groups, {(0, 1): np.zeros((3, 2))}, 1.0)
    assert forest.edges == []
    assert list(forest.order) == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"c0": {"type": "boolean"}}, "privacy.marginals.pairs: 1 columns; 2 to 40 are allowed"),
        ({f"c{i}": {"type": "boolean"} for i in range(41)}, "privacy.marginals.pairs: 41 columns; 2 to 40"),
    ],
)
def test_too_few_or_too_many_columns_are_refused(table, change, said):
    table["data"]["schema"] = {"columns": change}
    with pytest.raises(RecipeError, match=said):
        make_plan(parse_recipe(table))
