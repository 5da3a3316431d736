"""A ledger line pays for one recipe, one set of shards and one candidate matrix (privacy rules 3 and 15)."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.driver.budget import _refuse_beyond_plan
from pe_beam.driver.loop import evolve
from pe_beam.engine import counting, matrices, steps
from pe_beam.engine.frozen import INDEX, fingerprint_of
from pe_beam.engine.run import open_run
from pe_beam.errors import InputError, SecretError
from pe_beam.recipe.bounds import votes_bound
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.plan import make_plan
from tests.commands import run_command
from tests.whole_runs import copied, release_digests

pytestmark = pytest.mark.reported


@pytest.fixture
def half(small, runs, tmp_path):
    return copied(runs.half(small), tmp_path / "run")


def test_a_recipe_edited_after_spending_is_refused(half):
    """Its counts would get fresh noise under the same secret, and the ledger would not say so."""
    edited = yaml.safe_load((half / "recipe.yaml").read_text())
    edited["seed"] = 1
    (half / "recipe.yaml").write_text(yaml.safe_dump(edited))
    before = (half / "ledger.jsonl").read_bytes()
    with pytest.raises(SecretError, match="pays for another recipe"):
        evolve(load_recipe(half / "recipe.yaml"), half)
    for name in (counting.counts_name(1), "private/noised/iteration=0001", "work/iteration=0001/histogram.parquet"):
        (half / name).unlink()
    run = open_run(half)
    counting.commit_counts(run, 1, np.zeros(40, dtype=np.int64), matrices.load_matrix(run, 1).digest)
    with pytest.raises(SecretError, match="pays for another recipe"):  # a worker looks for itself before it draws noise
        counting.commit_histogram(run, 1)
    assert (half / "ledger.jsonl").read_bytes() == before


def test_lines_never_add_up_to_more_than_the_plan():
    _refuse_beyond_plan([2.0, 2.0], [2.0, 2.0])
    _refuse_beyond_plan([0.0, 0.0], [0.0, 0.0])  # epsilon = inf, spelled out and marked
    _refuse_beyond_plan([3.0] * 10_000, [3.0] * 10_000)
    for spent in ([2.0, 2.0, 50.0], [1.999, 2.0], [0.0]):
        with pytest.raises(InputError, match="more than the plan"):
            _refuse_beyond_plan(spent, [2.0, 2.0])


def _drop_a_record(run: Path, *, fingerprint: bool) -> None:
    """The first shard loses its last record, and the index says that this is what was frozen."""
    name = run / INDEX
    index = json.loads(name.read_text())
    shard = run / index["shards"][0]["shard"]
    table = pq.read_table(shard)
    pq.write_table(table.slice(0, table.num_rows - 1), shard)
    index["shards"][0]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    if fingerprint:
        index["fingerprint"] = fingerprint_of(index["shards"])
    name.write_text(json.dumps(index))


@pytest.mark.parametrize("fingerprint", [False, True])
def test_a_shard_that_lost_a_record_is_refused_whatever_the_index_says(half, small, fingerprint):
    _drop_a_record(half, fingerprint=fingerprint)
    before = (half / "ledger.jsonl").read_bytes()
    with pytest.raises(InputError, match="pays for another" if fingerprint else "other files than were frozen"):
        evolve(parse_recipe(small), half)
    assert (half / "ledger.jsonl").read_bytes() == before


@pytest.mark.parametrize("index", [b"{}", b"[]", b'{"fingerprint": "x", "shards": [{"sha256": "zz"}]}'])
def test_a_damaged_index_is_said_in_one_line(half, small, index):
    (half / INDEX).write_bytes(index)
    with pytest.raises(InputError, match="damaged"):
        evolve(parse_recipe(small), half)


def test_a_loser_that_voted_on_another_matrix_stops(half):
    run = open_run(half)
    counts = np.zeros(40, dtype=np.int64)
    digest = hashlib.sha256((half / "work/iteration=0001/matrix.npy").read_bytes()).hexdigest()
    counting.commit_counts(run, 1, counts, digest)  # another attempt over the same matrix: the first one's counts stay
    with pytest.raises(InputError, match="counted over another candidate matrix"):
        counting.commit_counts(run, 1, counts, "0" * 64)


_KILLED = """
import os
real = os.link
def link(source, target, **more):
    if "private/counts" in str(target):
        os._exit(9)
    return real(source, target, **more)
os.link = link
"""


def test_a_kill_leaves_exact_counts_in_private_alone_and_a_finished_run_has_none_of_it(small, tmp_path, secret_file):
    path, run = tmp_path / "r.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(small))
    arguments = ["run", str(path), "--run-dir", str(run), "--secret-file", str(secret_file)]
    killed = run_command(*arguments, before=_KILLED)
    assert killed.returncode == 9
    left = [p for p in (run / "private/attempts").iterdir() if "count" in pq.read_schema(p).names]
    assert len(left) == 1
    assert list((run / "work/attempts").iterdir()) == []
    assert main(arguments) == 0
    assert not (run / "private/attempts").exists()
    assert not (run / "work/attempts").exists()
    assert not (run / "work/times.jsonl").exists()
    assert (run / "private/times.jsonl").exists()


def test_what_a_record_can_vote_is_charged_and_no_more(small):
    """k = 50 with 15 candidates in all, or of the largest label: a record casts 15 votes at most."""
    small["data"] |= {"labels": None, "holdout": None}
    small["evolution"] |= {"votes_per_record": 50, "samples": 15, "population": 15}
    assert make_plan(parse_recipe(small)).schedule.sensitivity == pytest.approx(math.sqrt(15))
    small["evolution"] |= {"votes_per_record": 10}
    assert make_plan(parse_recipe(small)).schedule.sensitivity == pytest.approx(math.sqrt(10))
    small["evolution"] |= {
        "votes_per_record": 50,
        "population": [15, 20],
        "samples": 15,
    }  # populations that are voted on
    assert votes_bound(parse_recipe(small)) == 20
    small["evolution"] |= {"population": 15, "samples": 1000}  # the last one is never voted on
    assert votes_bound(parse_recipe(small)) == 15


def test_the_bound_is_that_of_the_largest_label(small):
    labels = [str(x) for x in range(10)]
    small["evolution"] |= {"votes_per_record": 50, "samples": 45}
    assert votes_bound(parse_recipe(small)) == 5
    small["privacy"]["label_counts"] = {label: 10.0 if label == "3" else 1.0 for label in labels}
    assert votes_bound(parse_recipe(small)) == 24
    small["privacy"]["label_counts"] = {"budget": 0.1}  # bought: one label may get all that is left
    assert votes_bound(parse_recipe(small)) == 36
    small["evolution"] |= {"variations": 2, "keep_parents": True}
    assert votes_bound(parse_recipe(small)) == 36


def test_a_population_larger_than_the_bound_is_refused_when_it_is_committed(small, tmp_path, monkeypatch):
    small["evolution"] |= {"votes_per_record": 50, "samples": 40}
    real = steps.plan_random

    def plan(run):
        made = real(run)
        return made.set_column(3, made.field(3), pa.array(["0"] * made.num_rows, pa.string()))

    monkeypatch.setattr(steps, "plan_random", plan)
    with pytest.raises(InputError, match="population of iteration 0: a label has more than 4 candidates"):
        evolve(parse_recipe(small), tmp_path / "run")
    assert not (tmp_path / "run/ledger.jsonl").exists()


def test_charging_the_bound_changes_noise_and_nothing_else(small, tmp_path, secret_file):
    """k beyond a label's candidates gives the release of k equal to them, but for the noise's stream and the recipe."""
    for k in (4, 50):
        small["evolution"] |= {"votes_per_record": k, "samples": 40, "iterations": 1}
        evolve(parse_recipe(small), tmp_path / str(k), secret_file=secret_file)
    counts = [pq.read_table(tmp_path / k / counting.counts_name(1))["count"].to_pylist() for k in ("4", "50")]
    assert counts[0] == counts[1]
    lines = [json.loads((tmp_path / k / "ledger.jsonl").read_text()) for k in ("4", "50")]
    assert lines[0]["sigma"] == lines[1]["sigma"]
    assert lines[0]["sensitivity"] == lines[1]["sensitivity"] == 2.0
    assert release_digests(tmp_path / "4") != release_digests(tmp_path / "50")
