"""Runs with approximate votes: the same release everywhere, and counts that are bound to one index."""

from __future__ import annotations

import copy
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pe_beam.driver.loop import evolve
from pe_beam.driver.status import status
from pe_beam.engine import counting, indexes
from pe_beam.engine.run import open_run
from pe_beam.errors import InputError, PeBeamError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.voting.approximate import HEAD_AT
from tests.whole_runs import SMALL, copied, release_digests, stop_at

INDEX = "work/iteration=0001/matrix.hnsw"


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    search = {"name": "approximate", "neighbours": 4, "build_effort": 4, "effort": 4}
    made["evolution"] |= {"samples": 100, "iterations": 2, "search": search}
    return made


@pytest.fixture
def whole(recipe: dict[str, Any], runs: Any) -> Path:
    path: Path = runs.finished(recipe)
    return path


@pytest.fixture(scope="module")
def stopped(recipe: dict[str, Any], runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped when its first counts would have been committed: matrix and index are there."""
    path = tmp_path_factory.mktemp("stopped") / "run"

    def stop(*_: Any) -> None:
        raise RuntimeError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "commit_counts", stop)
        with pytest.raises(PeBeamError):
            evolve(parse_recipe(recipe), path, secret_file=runs.secret_file)
    assert (path / INDEX).exists()
    return path


def test_stores_batches_and_workers_change_no_byte(recipe: dict[str, Any], whole: Path, secret_file: Path) -> None:
    other = copy.deepcopy(recipe)
    other["execution"] = {
        "vote_batch": 7,
        "beam_args": ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    }
    run = evolve(parse_recipe(other), "memory://approximate-votes", secret_file=secret_file)
    wanted = release_digests(whole)
    files = {name.removeprefix("release/"): run.store.read(name) for name in run.store.list_files("release")}
    assert {name: sha256(data).hexdigest() for name, data in files.items()} == wanted


def test_the_release_and_status_say_what_was_found(whole: Path, runs: Any) -> None:
    for iteration in (1, 2):
        manifest = json.loads((whole / f"release/iteration={iteration:04d}/manifest.json").read_text())
        assert set(manifest["search"]) == {"name", "probes", "near", "far"}
        assert manifest["search"]["name"] == "approximate"
        assert 0.5 < manifest["search"]["far"] <= 1
    assert "search" not in json.loads((whole / "release/iteration=0000/manifest.json").read_text())
    assert "near them" in status(str(whole))["search"]
    assert "search" not in status(str(runs.finished(SMALL)))
    for path in (whole / "release").rglob("*"):  # a release names no machine
        assert not path.is_file() or b"AVX" not in path.read_bytes()


@pytest.mark.reported
def test_the_report_says_what_was_found(recipe: dict[str, Any], secret_file: Path) -> None:
    made = copy.deepcopy(recipe)
    made["evolution"] |= {"iterations": 1}
    run = evolve(parse_recipe(made), "memory://approximate-report", secret_file=secret_file)
    note = json.loads(run.store.read("release/iteration=0001/manifest.json"))["search"]
    page = run.store.read("release/report.html").decode()
    assert "Recall of approximate votes" in page
    assert f"{note['far']:.1%}" in page


def test_a_kill_between_matrix_and_index_costs_nothing(
    recipe: dict[str, Any], whole: Path, tmp_path: Path, secret_file: Path
) -> None:
    stop_at(indexes, "_built", parse_recipe(recipe), tmp_path / "run", secret_file)
    assert (tmp_path / "run/work/iteration=0001/matrix.npy").exists()
    assert not (tmp_path / "run" / INDEX).exists()
    evolve(parse_recipe(recipe), tmp_path / "run")
    assert release_digests(tmp_path / "run") == release_digests(whole)


def test_an_index_that_was_lost_is_built_again_the_same(
    recipe: dict[str, Any], stopped: Path, whole: Path, tmp_path: Path
) -> None:
    run = copied(stopped, tmp_path / "run")
    (run / INDEX).unlink()
    evolve(parse_recipe(recipe), run)
    assert release_digests(run) == release_digests(whole)
    assert (run / INDEX).read_bytes() == (stopped / INDEX).read_bytes()


def _with_head(path: Path, **changes: Any) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[HEAD_AT - 8 : HEAD_AT], "big")
    head = json.dumps(json.loads(data[HEAD_AT : HEAD_AT + length]) | changes, sort_keys=True).encode()
    path.unlink()
    path.write_bytes(data[: HEAD_AT - 8] + len(head).to_bytes(8, "big") + head + data[HEAD_AT + length :])


def test_a_worker_with_other_instructions_is_refused(recipe: dict[str, Any], stopped: Path, tmp_path: Path) -> None:
    run = copied(stopped, tmp_path / "run")
    _with_head(run / INDEX, build={"faiss": "1.15.1", "instructions": "AVX512", "machine": "x86_64"})
    with pytest.raises(PeBeamError, match="one build of faiss and one instruction set are wanted"):
        evolve(parse_recipe(recipe), run)
    assert not (run / "private/counts/iteration=0001.parquet").exists()


def test_a_damaged_index_is_refused(recipe: dict[str, Any], stopped: Path, tmp_path: Path) -> None:
    run = copied(stopped, tmp_path / "run")
    data = (run / INDEX).read_bytes()
    (run / INDEX).unlink()
    (run / INDEX).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PeBeamError, match="the search index is damaged"):
        evolve(parse_recipe(recipe), run)


def test_counts_over_another_index_are_refused(stopped: Path, tmp_path: Path) -> None:
    path = copied(stopped, tmp_path / "run")
    run = open_run(path)
    voter = indexes.load_voter(run, 1)
    assert voter is indexes.load_voter(run, 1)  # once a process
    counts = voter.count(*_no_records(run))
    counting.commit_counts(run, 1, counts, voter.digest)
    counting.commit_counts(run, 1, counts, voter.digest)
    _with_head(path / INDEX, recall={"probes": 256, "near": 1.0, "far": 1.0})
    other = indexes.load_voter(run, 1)
    assert other.digest != voter.digest
    with pytest.raises(InputError, match="counted over another candidate matrix"):
        counting.commit_counts(run, 1, counts, other.digest)


def _no_records(run: Any) -> tuple[Any, Any]:
    import numpy as np

    return np.zeros((0, run.embedder.dimension), np.float32), np.zeros(0, np.int32)


def test_clients_lookahead_and_cosine_run_with_several_votes(recipe: dict[str, Any], secret_file: Path) -> None:
    made = copy.deepcopy(recipe)
    made["evolution"] |= {"iterations": 1, "distance": "cosine", "votes_per_record": 3, "lookahead": 2}
    run = evolve(parse_recipe(made), "memory://approximate-cosine", secret_file=secret_file)
    manifest = json.loads(run.store.read("release/iteration=0001/manifest.json"))
    assert manifest["search"]["name"] == "approximate"
