"""Populations in parts: the same candidates, votes and samples; and what is read grows no faster than candidates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.record import population_files
from pe_beam.driver.loop import evolve
from pe_beam.driver.reporting import report
from pe_beam.engine import populations, steps, tables
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.run import open_run
from pe_beam.evaluation import gather
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.recipe.loading import parse_recipe
from pe_beam.report.history import History
from pe_beam.storage import open_folder
from pe_beam.storage.memory import MemoryStore


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 16 rows in groups of 8, so that 40 candidates are three parts."""
    monkeypatch.setattr(tables, "ROW_GROUP", 8)
    monkeypatch.setattr(gather, "ROW_GROUP", 8)
    monkeypatch.setattr(steps, "FILE_ROWS", 16)
    monkeypatch.setattr(steps, "_KEPT_AT_A_TIME", 5)


@pytest.mark.reported
def test_parts_change_no_candidate_and_no_vote(small: Any, tmp_path: Any, secret_file: Any, monkeypatch: Any) -> None:
    small["evolution"] |= {"keep_parents": True, "iterations": 2}
    recipe = parse_recipe(small)
    evolve(recipe, tmp_path / "one", secret_file=secret_file)
    for owner, name, value in (
        (tables, "ROW_GROUP", 8),
        (gather, "ROW_GROUP", 8),
        (steps, "FILE_ROWS", 16),
        (steps, "_KEPT_AT_A_TIME", 5),
    ):
        monkeypatch.setattr(owner, name, value)
    evolve(recipe, tmp_path / "many", secret_file=secret_file)
    one, many = open_run(tmp_path / "one"), open_run(tmp_path / "many")
    for iteration in range(3):
        parts = population_files(manifest_of(many, iteration))
        assert [rows for _, rows in parts] == [16, 16, 8]
        assert len(population_files(manifest_of(one, iteration))) == 1
        wanted = populations.read_population(one, iteration)
        assert populations.read_population(many, iteration).equals(wanted)
        rows = np.array([39, 0, 17, 16, 15, 0])
        assert populations.population_rows(many, iteration, rows).equals(wanted.take(rows))
    for iteration in (1, 2):
        tables_of = [
            pq.read_table(tmp_path / f"{run}/release/iteration={iteration:04d}/histogram") for run in ("one", "many")
        ]
        assert tables_of[0].equals(tables_of[1])
    samples = [pq.read_table(tmp_path / f"{run}/release/samples.parquet") for run in ("one", "many")]
    assert samples[0].equals(samples[1])
    history = History(open_folder(tmp_path / "many/release"), {}, {})
    assert history.population(2).num_rows == 40
    assert sorted(history.records(2, samples[0]["candidate_id"].to_pylist())) == samples[0]["candidate_id"].to_pylist()
    report(tmp_path / "many")
    evaluate(tmp_path / "many", [])
    evolve(recipe, tmp_path / "many")  # complete: what is there is taken as it is


def test_samples_of_many_parts_are_missed_and_made_again(small: Any, tmp_path: Any, small_parts: None) -> None:
    evolve(parse_recipe(small), tmp_path / "run")
    samples = tmp_path / "run/release/samples.parquet"
    before = samples.read_bytes()
    samples.unlink()
    evolve(parse_recipe(small), tmp_path / "run")
    assert samples.read_bytes() == before


def test_a_matrix_written_part_by_part_has_the_bytes_of_a_whole_one(tmp_path: Any) -> None:
    matrix = np.random.default_rng(0).standard_normal((300, 7)).astype(np.float32)
    with (tmp_path / "x.npy").open("wb") as file:
        tables.write_array_head(file, matrix.shape)
        for start in range(0, 300, 128):
            file.write(matrix[start : start + 128].tobytes())
    assert (tmp_path / "x.npy").read_bytes() == tables.save_array(matrix)
    found = tables.load_array(tables.save_array(matrix))
    assert (found == matrix).all() and found.shape == matrix.shape and not found.flags.writeable


def test_bytes_read_in_an_iteration_grow_linearly(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read = {"bytes": 0}
    whole, some = MemoryStore.read, MemoryStore.read_range

    def counted(real: Any) -> Any:
        def call(self: MemoryStore, name: str, *more: int) -> bytes:
            found: bytes = real(self, name, *more)
            if not name.startswith(("private/", "recipe", "ledger")):  # records, not candidates
                read["bytes"] += len(found)
            return found

        return call

    monkeypatch.setattr(MemoryStore, "read", counted(whole))
    monkeypatch.setattr(MemoryStore, "read_range", counted(some))
    # As with many more candidates: chunks are small beside a part, and a part beside a population.
    monkeypatch.setattr("pe_beam.modalities.image.text_render.TextRender.chunk_size", 32)
    monkeypatch.setattr(tables, "ROW_GROUP", 32)
    monkeypatch.setattr(steps, "FILE_ROWS", 128)
    small["evolution"]["iterations"] = 1
    found = {}
    for samples in (200, 400, 800):
        small["evolution"]["samples"] = samples
        read["bytes"] = 0
        evolve(parse_recipe(json.loads(json.dumps(small))), f"memory://linear-{samples}")
        found[samples] = read["bytes"] / samples
    assert found[800] < 1.15 * found[400] < 1.4 * found[200], found
