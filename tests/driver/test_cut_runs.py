"""Whole runs on one side of a cut, and what stops before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import DataError
from pe_beam.evaluation.gather import gather, list_portions
from pe_beam.evaluation.setting import HELD_OUT, Setting
from pe_beam.recipe.identity import embedding_id, run_id
from pe_beam.recipe.loading import parse_recipe

COLUMNS = {"age": {"type": "integer", "min": 0, "max": 99}, "city": {"type": "categorical", "values": ["Oslo", "Rome"]}}


def recipe(path: Path, source: str, **data: Any) -> dict[str, Any]:
    return {
        "name": "cut",
        "data": {"source": source, "path": str(path), "schema": {"columns": COLUMNS}, "max_rejects": 0.2, **data},
        "modality": "tabular",
        "generator": {"name": "tabular"},
        "embedder": {"name": "tabular"},
        "privacy": {"epsilon": 4, "delta": 1e-5},
        "evolution": {"iterations": 1, "samples": 20, "threshold": 0},
    }


def write(path: Path, rows: int = 400) -> Path:
    lines = [f"{i % 97},{'OsloRome'[i % 2 * 4 :][:4]},c{i % 40}" for i in range(rows)]
    path.write_text("age,city,who\n" + "\n".join([*lines, "200,Oslo,c1", '7,"Oslo,c2', *lines[:20]]) + "\n")
    return path


def rows_of(run: Run) -> int:
    return sum(pq.ParquetFile(run.store.at(shard["shard"])).metadata.num_rows for shard in read_index(run)["shards"])


@pytest.mark.parametrize("by_client", [False, True])
def test_a_run_votes_with_one_side_and_is_measured_with_the_other(by_client: bool, tmp_path: Path) -> None:
    columns = {"client": "who"} if by_client else {}
    plain = recipe(write(tmp_path / "x.csv"), "csv", holdout={"share": 0.25}, columns=columns)
    parsed = parse_recipe(plain)
    evolve(parsed, tmp_path / "run")
    run = open_run(tmp_path / "run")
    rejects = [json.loads(line) for file in Path(run.store.at("private/rejects")).glob("*") for line in file.open()]
    assert {reject["kind"] for reject in rejects} == {
        "column age: value out of its declared bounds",
        "quote that is not closed",
    }
    setting = Setting(against=None, populations=(0, 1))
    setting.save(run)
    portions = [
        portion
        for portion in list_portions(run, setting, [(HELD_OUT, setting.held_out(run).pieces())])
        if portion.group == HELD_OUT
    ]
    found = [gather(run, portion) for portion in portions]
    held_out = sum(each.moments.count for each in found)
    assert held_out + rows_of(run) == 420 and not any(each.rejected for each in found)
    # 40 clients, or 97 x 2 different records: far from all and from nothing on either side.
    assert 20 < held_out < 250
    evolve(parsed, tmp_path / "run")  # complete: the source is not read again, and nothing is said


def test_another_cut_is_another_run(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv")
    recipes = [
        parse_recipe(recipe(path, "csv", holdout=holdout))
        for holdout in (None, {"share": 0.25}, {"share": 0.25, "random_state": 1}, {"share": 0.3})
    ]
    assert len({run_id(each) for each in recipes}) == len({embedding_id(each) for each in recipes}) == 4


def test_a_key_that_no_record_has_stops_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"Age": 4, "city": "Oslo"}\n' * 50)
    columns = {"age": {**COLUMNS["age"], "missing": True}, "city": COLUMNS["city"]}
    with pytest.raises(DataError, match=r"data\.columns\.age: 'age': no record of data\.path has a key of that name"):
        evolve(parse_recipe(recipe(tmp_path / "x.jsonl", "jsonl", schema={"columns": columns})), tmp_path / "run")
    assert not (tmp_path / "run" / "ledger.jsonl").exists() or not (tmp_path / "run" / "ledger.jsonl").read_bytes()


def test_ids_that_have_lost_their_zeros_stop_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("age,city,who\n" + "3,Oslo,0012\n" * 30)
    (tmp_path / "d" / "b.csv").write_text("age,city,who\n" + "3,Oslo,12\n" * 30)
    plain = recipe(tmp_path / "d", "csv", columns={"client": "who"})
    plain["privacy"]["unit"] = "client"
    with pytest.raises(DataError, match=r"data\.columns\.client: some ids have leading zeros"):
        evolve(parse_recipe(plain), tmp_path / "run")
    assert not (tmp_path / "run" / "ledger.jsonl").exists() or not (tmp_path / "run" / "ledger.jsonl").read_bytes()
