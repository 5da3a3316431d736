"""Columns of the last population are settled: few values move, where they are likely, and counts are as measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.generator import Joint, Marginals
from pe_beam.driver.loop import evolve
from pe_beam.engine import steps, tables
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.settling import _FREE, settles
from pe_beam.measuring.shares import shares_of
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.modalities.tabular.settling import settle
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.tabular.test_measure import recipe_of, rows
from tests.whole_runs import release_digests, stop_at

SAMPLES = 120


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    found = recipe_of(folder / "rows.parquet")
    found["evolution"] |= {
        "samples": SAMPLES, "population": 160, "threshold": 0, "smoothing": 0.5, "final": "selected",
        "repeats": "modelled", **changes,
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose columns are settled. No test changes it."""
    folder = tmp_path_factory.mktemp("settled")
    pq.write_table(rows(3000), folder / "rows.parquet")
    evolve(parse_recipe(recipe(folder)), folder / "run")
    return folder / "run"


def test_counts_come_to_where_they_are_wanted_by_the_fewest_moves() -> None:
    rng = np.random.default_rng(0)
    labels, bins = rng.integers(0, 2, 500), rng.integers(0, 6, 500)
    wanted = np.array([[60, 20, 20, 50.5, 60, 30], [90, 30, 40.4, 30, 30, 40]])
    wanted *= np.bincount(labels)[:, None] / wanted.sum(axis=1, keepdims=True)
    beyond = np.stack([np.bincount(bins[labels == label], minlength=6) for label in (0, 1)]) - wanted
    least = np.maximum(beyond, 0).sum()
    found, moves = bins.copy(), []

    def move(row: int, target: int) -> bool:
        moves.append(row)
        found[row] = target
        return True

    settle(bins, labels, beyond, weights=lambda some: np.ones((len(some), 6)), move=move, rng=rng)
    now = np.stack([np.bincount(found[labels == label], minlength=6) for label in (0, 1)])
    np.testing.assert_allclose(beyond, now - wanted)
    assert np.abs(beyond).max() < 1.5 and np.abs(beyond.sum(axis=0)).sum() < 3
    assert len(moves) == len(set(moves)) <= least + 2


def test_only_likely_rows_move_and_those_that_may_not_stay() -> None:
    bins, labels = np.array([0] * 20), np.zeros(20, dtype=np.int64)
    beyond, asked = np.array([[10.0, -10.0, 0.0]]), []

    def weights(some: np.ndarray) -> np.ndarray:
        return np.stack([np.ones(len(some)), np.where(some < 12, 1.0, 0.0), np.zeros(len(some))], axis=1)

    def move(row: int, target: int) -> bool:
        asked.append((row, target))
        return row % 2 == 0

    settle(bins, labels, beyond, weights=weights, move=move, rng=np.random.default_rng(1))
    assert {row for row, _ in asked} == set(range(12)) and {target for _, target in asked} == {1}
    assert beyond.tolist() == [[4.0, -4.0, 0.0]]


def test_values_move_with_the_columns_that_they_follow_and_constraints_hold() -> None:
    """b equals a: where b has to move, it does so in rows whose a says so."""
    schema = TableSchema.model_validate(
        {
            "columns": {
                "a": {"type": "categorical", "values": list("pqr")},
                "b": {"type": "categorical", "values": list("pqr")},
                "x": {"type": "integer", "min": 0, "max": 9},
                "y": {"type": "integer", "min": 0, "max": 9},
            },
            "constraints": [{"less_or_equal": ["x", "y"]}],
        }
    )
    groups, even = np.arange(3), np.full((1, 3), 100.0)
    joint = np.eye(3)[None] * 100
    counts = {"a": even, "b": even, "x": np.full((1, 10), 30.0), "y": np.full((1, 10), 30.0)}
    marginals = Marginals([None], counts, 1.0, joints=[Joint(("a", "b"), (groups, groups), joint, 1.0)])
    made = Tabular(TabularOptions(), labels=[None], schema=schema).seeded(marginals)
    a = np.repeat(list("pqr"), 30)
    b = a.copy()
    b[:8] = "r"  # where a is p
    table = pa.table(
        {
            "label": pa.nulls(90, pa.string()), "state": pa.nulls(90, pa.string()), "a": a, "b": b,
            "x": np.full(90, 4), "y": np.full(90, 4),
        }
    )  # fmt: skip
    beyond = {name: np.zeros(own.shape) for name, own in counts.items()}
    beyond["b"][0] = [-8, 0, 8]
    beyond["x"][0, [4, 9]] = 5, -5  # 9 would be above y
    after = made.settled(table, beyond, np.random.default_rng(0))
    assert after["b"].to_pylist() == a.tolist()
    assert after["a"].to_pylist() == a.tolist()
    assert after["x"].to_pylist() == [4] * 90 and beyond["x"][0, 4] == 5
    assert (beyond["b"] == 0).all()


def test_samples_count_as_was_measured_and_kept_rows_are_what_was_voted_on(done: Path) -> None:
    run = open_run(done)
    manifest = json.loads((done / "release/iteration=0001/manifest.json").read_text())
    told = manifest["settled"]
    before, after = told["beyond"]
    assert after < 0.7 * before and 0 < told["rows"] < SAMPLES
    samples = pq.read_table(done / "release/samples.parquet")
    marginals, codes = read_marginals(run), run.recipe.codes(samples["label"].to_pylist())
    bins = run.embedder.marginal_bins(run.embedder.embed(samples).vectors)
    off = []
    for place, counts in enumerate(marginals.counts.values()):
        wanted, found = np.zeros(counts.shape[1]), np.bincount(bins[:, place], minlength=counts.shape[1])
        for label, (own, records) in enumerate(zip(counts, marginals.totals(), strict=True)):
            wanted += shares_of(own, records) * (codes == label).sum()
        off.append(np.abs(found - wanted).sum() / 2 / SAMPLES)
    assert np.mean(off) == pytest.approx(after, abs=0.02), "repeats may have moved a few values again"
    old = pq.read_table(done / "release/iteration=0000/population/part-00000.parquet", partitioning=None)
    by_id = {row["candidate_id"]: row for row in old.to_pylist()}
    kept = [row for row in samples.to_pylist() if row["origin"] == "kept"]
    assert 0 < len(kept) <= SAMPLES * (1 - _FREE)
    assert all({**by_id[row["candidate_id"]], "origin": "kept"} == row for row in kept)


def test_a_run_that_is_killed_or_unrolled_settles_the_same_rows(tmp_path, monkeypatch, done) -> None:
    """Killed after rows have moved, and with a population in several parts."""
    pq.write_table(rows(3000), tmp_path / "rows.parquet")
    told, secret = parse_recipe(recipe(tmp_path)), done / "private/secret.key"
    monkeypatch.setattr(steps, "FILE_ROWS", 50)
    whole = evolve(told, tmp_path / "whole", secret_file=secret, unroll=True)
    stop_at(steps, "commit_redrawn", told, tmp_path / "again", secret)
    again = evolve(told, tmp_path / "again")
    assert release_digests(Path(again.root)) == release_digests(Path(whole.root))


def test_recipes_with_marginals_and_other_draws_keep_their_bytes(tmp_path: Path) -> None:
    pq.write_table(rows(600), tmp_path / "rows.parquet")
    raw = recipe(tmp_path, draws="weighted")
    evolve(parse_recipe(raw), tmp_path / "run")
    measured, counted = recipe(tmp_path), recipe(tmp_path)
    del counted["privacy"]["measure"]
    counted["privacy"]["marginals"] = {"budget": 0.5}
    own = [settles(Run(str(tmp_path), parse_recipe(each)), 1) for each in (measured, counted, raw)]
    assert own == [True, False, False]
    assert "settled" not in json.loads((tmp_path / "run/release/iteration=0001/manifest.json").read_text())


def test_replaced_rows_take_the_places_of_their_ids() -> None:
    made = [pa.table({"candidate_id": [1, 2, 3], "x": ["a", "b", "c"]}), pa.table({"candidate_id": [7], "x": ["d"]})]
    new = pa.table({"x": ["B", "D"], "candidate_id": [2, 7]})
    assert pa.concat_tables(tables.replaced(new, made))["x"].to_pylist() == ["a", "B", "c", "D"]
    assert [len(each) for each in tables.replaced(new.slice(0, 0), made)] == [3, 1]
