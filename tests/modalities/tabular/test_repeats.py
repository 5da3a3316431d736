"""Rows of the last population that repeat (`evolution.repeats`): as often as measured marginals have it, no more."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.driver.status import status
from pe_beam.engine.repeats import _Rows
from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.modalities.tabular.view import _repeats
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.parts import new_generator
from pe_beam.recipe.plan import make_plan
from pe_beam.report.history import History
from pe_beam.storage import open_folder
from tests.modalities.tabular.tables import TABLE, rows
from tests.whole_runs import release_digests, stop_at


def _recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Fewer candidates than samples, so that most samples are variations, and of a small degree: most repeat."""
    raw = copy.deepcopy(TABLE)
    data = folder / "rows.parquet"
    if not data.exists():
        pq.write_table(rows(), data)
    raw["data"] |= {"source": "parquet", "path": str(data)}
    raw["evolution"] = {
        "iterations": 1, "samples": 150, "population": 30, "degree": 0.05, "final": "selected", "threshold": 0,
        "repeats": "modelled", **changes,
    }  # fmt: skip
    return raw


def _samples(run: Path) -> list[tuple[Any, ...]]:
    table = pq.read_table(run / "release/samples.parquet")
    return list(zip(*(table[name].to_pylist() for name in ("label", "age", "income", "city", "zero")), strict=True))


def test_samples_repeat_no_more_than_the_marginals_have_it(tmp_path: Path, secret_file: Path) -> None:
    for name in ("any", "modelled"):
        recipe = parse_recipe(_recipe(tmp_path, repeats=name))
        evolve(recipe, tmp_path / name, secret_file=secret_file)
    before, after = (Counter(_samples(tmp_path / name)) for name in ("any", "modelled"))
    assert len(before) < 75
    manifest = json.loads((tmp_path / "modelled/release/iteration=0001/manifest.json").read_text())
    told = manifest["repeats"]
    assert told == {
        "rows": 150,
        "distinct": len(after),
        "most_equal": max(after.values()),
        "modelled_distinct": 150 - sum(manifest["selection"]["modelled_repeats"]),
        "redrawn": told["redrawn"],
    }
    assert len(after) >= told["modelled_distinct"] > 140
    assert told["redrawn"] > 40
    said = f"{len(after)} of 150 ({told['modelled_distinct']} by the marginals alone)"
    assert status(str(tmp_path / "modelled"))["distinct_samples"] == said
    history = History(open_folder(tmp_path / "modelled/release"), {}, {})
    assert f" {len(after)} of 150 are distinct" in _repeats(history)
    assert "repeats" not in json.loads((tmp_path / "any/release/iteration=0001/manifest.json").read_text())


def test_a_run_that_is_killed_or_unrolled_redraws_the_same_rows(
    tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the redrawn rows and the population; and with a population in several parts."""
    from pe_beam.engine import steps

    monkeypatch.setattr(steps, "FILE_ROWS", 64)
    recipe = parse_recipe(_recipe(tmp_path, iterations=2))
    whole = evolve(recipe, tmp_path / "whole", secret_file=secret_file)
    stop_at(steps, "with_redrawn", recipe, tmp_path / "again", secret_file)
    again = evolve(recipe, tmp_path / "again")
    assert len(list((tmp_path / "whole/release/iteration=0002/population").iterdir())) == 3
    assert json.loads((tmp_path / "whole/release/iteration=0002/manifest.json").read_text())["repeats"]["redrawn"] > 0
    assert release_digests(Path(again.root)) == release_digests(Path(whole.root))


def test_where_the_marginals_repeat_rows_do(tmp_path: Path, secret_file: Path) -> None:
    """A table of two booleans has eight rows at most, label included, whatever is asked for."""
    raw = _recipe(tmp_path)
    data = tmp_path / "few.parquet"
    pq.write_table(pa.table({"a": [True, False] * 300, "b": [True] * 600, "group": ["x"] * 600}), data)
    raw["data"] |= {
        "path": str(data), "columns": {"label": "group"}, "labels": ["x", "y"],
        "schema": {"columns": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}},
    }  # fmt: skip
    raw["evolution"]["samples"] = 40
    evolve(parse_recipe(raw), tmp_path / "run", secret_file=secret_file)
    told = json.loads((tmp_path / "run/release/iteration=0001/manifest.json").read_text())["repeats"]
    assert told["distinct"] <= 8
    table = pq.read_table(tmp_path / "run/release/samples.parquet")
    shares = [table[name].to_numpy(zero_copy_only=False).mean() for name in ("a", "b")]
    assert 0.25 < shares[0] < 0.75 < shares[1]


def test_equal_rows_are_copies_if_they_come_from_one_candidate() -> None:
    rows = _Rows(allowed=[2, 1])  # two rows may be the second of their kind, one the third
    assert [rows.take(b"a", root) for root in (0, 1, 2, 3)] == [True] * 4  # they have met; and that uses up the repeats
    assert not rows.take(b"a", 0)
    assert not rows.take_new(b"a", 9)  # of a redrawn row
    assert rows.take_new(b"b", 0)
    rows = _Rows(allowed=[2, 1])
    assert [rows.take(b"a", 0) for _ in range(4)] == [True, True, True, False]
    assert (rows.counts[b"a"], rows.repeats, rows.profile()) == (3, 2, [1, 1])


def test_numbers_move_within_their_bins_and_constraints_hold() -> None:
    schema = TableSchema.model_validate(
        {
            "columns": {
                "age": {"type": "integer", "min": 0, "max": 99, "bins": 10},
                "share": {"type": "float", "min": 0, "max": 1, "missing": True},
                "city": {"type": "categorical", "values": ["Oslo", "Rome", "Lima"]},
            },
            "constraints": [{"if": {"city": ["Oslo"]}, "then": {"age": {"max": 12}}}],
        }
    )
    made = Tabular(TabularOptions(steps="redraw"), labels=[None], schema=schema)
    row = {"age": 11, "share": None, "city": "Oslo", "label": None, "state": None}
    parents = pa.Table.from_pylist(
        [row] * 400, pa.schema([*schema.payload, ("label", pa.string()), ("state", "string")])
    )
    rngs = [np.random.Generator(np.random.Philox(key=i)) for i in range(400)]
    after = made.redraw(parents, rngs).to_pylist()
    ages = [each["age"] for each in after if each["city"] == "Oslo"]
    assert set(ages) <= set(range(13))
    assert np.mean([10 <= age <= 12 and age != 11 for age in ages]) > 0.5
    assert {each["city"] for each in after} == {"Oslo", "Rome", "Lima"}
    one_by_one = [made.redraw(parents.slice(0, 1), [np.random.Generator(np.random.Philox(key=i))]) for i in (0, 7)]
    assert [each.to_pylist()[0] for each in one_by_one] == [after[0], after[7]]


def test_it_has_to_be_asked_for_where_something_says_how_often_rows_repeat(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    raw = _recipe(tmp_path)
    default, without = copy.deepcopy(raw), copy.deepcopy(raw)
    default["evolution"]["repeats"] = "any"
    del without["evolution"]["repeats"]
    assert run_id(parse_recipe(default)) == run_id(parse_recipe(without)) != run_id(parse_recipe(raw))
    filtered = copy.deepcopy(raw)
    filtered["evolution"]["filters"] = [{"name": "regex", "pattern": ".", "column": "city"}]
    with pytest.raises(RecipeError, match=r"would not pass evolution\.filters"):
        new_generator(parse_recipe(filtered))
    del raw["privacy"]["marginals"]
    with pytest.raises(RecipeError, match=r"evolution\.repeats: modelled needs counts of columns"):
        new_generator(parse_recipe(raw))
    small["evolution"]["repeats"] = "modelled"
    with pytest.raises(RecipeError, match=r"evolution\.repeats: generator 'text-render' cannot change rows"):
        new_generator(parse_recipe(small))


def test_a_plan_says_that_samples_are_more_than_candidates(tmp_path: Path) -> None:
    """A note where a model bounds how rows repeat, else a warning."""

    def said(**changes: Any) -> list[list[str]]:
        plan = make_plan(parse_recipe(_recipe(tmp_path, **changes)))
        return [[each for each in told if "evolution.samples" in each] for told in (plan.notes, plan.warnings)]

    [note], none = said()
    assert "150 of 30 candidates" in note and "120 of them" in note and not none
    assert said(repeats="any") == [[], [note]]
    assert said(samples=30) == [[], []]
