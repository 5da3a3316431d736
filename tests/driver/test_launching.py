"""Launchers of templates: a program hands over one job and ends. All else is done before it, or in the job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pe_beam.cli.main import main as pe_beam
from pe_beam.driver import ending, finalize, launching
from pe_beam.driver.loop import evolve as evolve_run
from pe_beam.driver.status import status
from pe_beam.errors import InputError, PeBeamError, RecipeError, StageError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.runners import leaving
from pe_beam.storage import open_store
from pipelines import embed, evaluate, evolve, iteration
from tests.whole_runs import SECRET, SMALL, Runs, copied, parquet_recipe, picture_table, release_digests

LEAVE = "--no_wait_until_finish"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory with the secret that `runs` supplies, so that releases can be compared."""
    store = open_store(tmp_path / "run")
    store.protect("private")
    store.commit("private/secret.key", SECRET)
    store.commit("private/secret.supplied", b"")
    return tmp_path / "run"


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], None]]]:
    """Jobs that are handed over, as a service holds them: none has run yet, and each may run, or not, later."""
    held: list[Callable[[], None]] = []
    real = leaving.LeavingRunner.run
    monkeypatch.setattr(leaving.LeavingRunner, "run", lambda *given: held.append(lambda: real(*given)))
    return held


def lines(run_dir: Path) -> list[int]:
    path = run_dir / "ledger.jsonl"
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()] if path.exists() else []


def same_as_a_driven_run(run_dir: Path, runs: Runs) -> None:
    done = runs.finished(SMALL)
    assert release_digests(run_dir) == release_digests(done)
    assert (run_dir / "ledger.jsonl").read_bytes() == (done / "ledger.jsonl").read_bytes()
    assert not (run_dir / "private/secret.key").exists()
    assert status(run_dir)["state"] == "complete"


def test_jobs_launched_one_by_one_and_again_give_the_release_of_a_driven_run(
    jobs: list[Callable[[], None]], recipe_file: Path, run_dir: Path, runs: Runs
) -> None:
    """Jobs that never ran, that ran twice, and that come after the run is complete."""
    of, again = [f"--run_dir={run_dir}", LEAVE], f"--recipe={recipe_file}"
    assert embed.main([again, *of]) == embed.main([again, *of]) == 0
    jobs.pop()()  # the other never begins
    jobs.clear()
    assert embed.main([again, *of]) == 0  # frozen: it looks whether the source is the same
    jobs.pop()()
    for t in range(3):
        assert iteration.main([f"--iteration={t}", *of]) == iteration.main([f"--iteration={t}", *of]) == 0
        assert lines(run_dir) == list(range(1, t + 1)), "before the job that spends it, and once"
        assert not open_store(run_dir).locked(), "the program has ended"
        first, second = jobs.pop(), jobs.pop()
        first()
        if t == 1:
            second()  # no retry, but a second job: it finds all committed
    same_as_a_driven_run(run_dir, runs)
    before = release_digests(run_dir)
    assert iteration.main(["--iteration=1", *of]) == iteration.main(["--iteration=2", *of]) == 0
    assert evolve.main([again, *of]) == embed.main([again, *of]) == 0
    for job in jobs:
        job()
    assert len(jobs) == 4, "a launcher has a job in any case"
    assert release_digests(run_dir) == before


def test_a_purged_run_still_gives_a_launcher_its_job(
    jobs: list[Callable[[], None]], recipe_file: Path, tmp_path: Path, runs: Runs
) -> None:
    run_dir = copied(runs.finished(SMALL), tmp_path / "done")
    assert pe_beam(["purge", str(run_dir)]) == 0
    assert embed.main([f"--recipe={recipe_file}", f"--run_dir={run_dir}", LEAVE]) == 0
    jobs.pop()()
    assert not list((run_dir / "private").glob("*")) if (run_dir / "private").exists() else True


def test_all_iterations_as_one_job_whose_finish_is_killed_give_the_same(
    jobs: list[Callable[[], None]], recipe_file: Path, run_dir: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [f"--recipe={recipe_file}", f"--run_dir={run_dir}", LEAVE]
    assert evolve.main(both) == 2  # the embeddings are not there, and one job cannot freeze them and bind lines to them
    assert not jobs and not lines(run_dir)
    assert embed.main(both) == 0
    jobs.pop()()
    assert evolve.main(both) == 0
    assert lines(run_dir) == [1, 2]

    def stop(run: Any) -> None:
        finalize.commit_samples(run)  # something of the end is there already
        raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(ending, "finalize", stop)
        with pytest.raises(Exception, match="stage Finish failed"):
            jobs.pop()()
    assert (run_dir / "release/iteration=0002/manifest.json").exists()
    assert (run_dir / "private/secret.key").exists(), "the secret goes last"
    assert evolve.main(both) == 0
    jobs.pop()()
    same_as_a_driven_run(run_dir, runs)


def test_a_driver_goes_on_with_what_was_launched_and_launchers_with_what_was_driven(
    jobs: list[Callable[[], None]], recipe_file: Path, run_dir: Path, tmp_path: Path, runs: Runs
) -> None:
    of = [f"--run_dir={run_dir}", LEAVE]
    assert embed.main([f"--recipe={recipe_file}", *of]) == 0
    jobs.pop()()
    assert iteration.main(["--iteration=0", *of]) == 0
    jobs.pop()()
    assert iteration.main(["--iteration=1", *of]) == 0  # its line is written, and its job lost
    assert pe_beam(["run", str(recipe_file), "--run-dir", str(run_dir)]) == 0
    same_as_a_driven_run(run_dir, runs)
    jobs.clear()
    half = copied(runs.half(SMALL), tmp_path / "half")
    assert iteration.main(["--iteration=2", f"--run_dir={half}", LEAVE]) == 0
    jobs.pop()()
    same_as_a_driven_run(half, runs)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--iteration=0"], "private/embeddings: not frozen yet; launch `embed` first"),
        (["--iteration=3"], "--iteration=3: 0 to 2 is wanted"),
    ],
)
def test_what_cannot_be_made_yet_spends_nothing(
    flags: list[str],
    said: str,
    jobs: list[object],
    run_dir: Path,
    recipe_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(recipe_file, run_dir / "recipe.yaml")
    assert iteration.main([*flags, f"--run_dir={run_dir}", LEAVE]) == 2
    assert capsys.readouterr().err.startswith(f"iteration: {said}")
    assert not jobs and not lines(run_dir)


def test_an_iteration_without_the_one_before_spends_nothing(
    jobs: list[object], tmp_path: Path, runs: Runs, small: dict[str, Any]
) -> None:
    run_dir = copied(runs.begun(SMALL), tmp_path / "begun")
    assert iteration.main(["--iteration=2", f"--run_dir={run_dir}", LEAVE]) == 2
    other = parse_recipe(small | {"seed": 7})
    for launch in (launching.launch_embed, launching.launch_evolution):
        with pytest.raises(RecipeError, match="differs in seed"):
            launch(other, run_dir, [LEAVE])
    assert not jobs and not lines(run_dir)


def test_changed_data_is_seen_by_the_next_embed(small: dict[str, Any], run_dir: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(parquet_recipe(small, picture_table(30), tmp_path / "data"))
    launching.launch_embed(recipe, run_dir, [LEAVE])
    launching.launch_embed(recipe, run_dir, [LEAVE])
    parquet_recipe(small, picture_table(30, seed=6), tmp_path / "data")
    with pytest.raises(InputError, match="the private data differ"):
        launching.launch_embed(recipe, run_dir, [LEAVE])


def test_a_driver_refuses_a_job_that_it_could_not_wait_for(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in (LEAVE, "--template_location=gs://b/t"):
        assert pe_beam(["run", str(recipe_file), "--run-dir", str(tmp_path / "run"), "--", flag]) == 2
        assert "a driver waits for its jobs; `python -m pipelines.embed`" in capsys.readouterr().err
    assert not (tmp_path / "run/private").exists()


def test_flags_that_beam_refuses_spend_nothing(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = copied(runs.begun(SMALL), tmp_path / "begun")
    assert iteration.main(["--iteration=1", f"--run_dir={run_dir}", LEAVE, "--direct_num_workers=many"]) == 2
    assert "Beam flags (after --): argument --direct_num_workers: invalid int value" in capsys.readouterr().err
    assert not lines(run_dir)


def test_a_held_lock_refuses_a_launch(recipe_file: Path, run_dir: Path) -> None:
    with open_store(run_dir).lock():
        assert embed.main([f"--recipe={recipe_file}", f"--run_dir={run_dir}", LEAVE]) == 1


def test_an_evaluation_that_is_left_to_itself_tidies_up(
    jobs: list[Callable[[], None]], small: dict[str, Any], tmp_path: Path
) -> None:
    """Few records and one label: no classifiers, which would take most of the time."""
    parquet_recipe(small, picture_table(12).set_column(1, "label", [["0"] * 12]), tmp_path / "data")
    small["data"]["labels"] = ["0"]
    small["evolution"] = {"iterations": 1, "samples": 6}
    evolve_run(parse_recipe(small), tmp_path / "run")
    against = f"--against={small['data']['path']}"
    assert evaluate.main([f"--run_dir={tmp_path / 'run'}", against, LEAVE]) == 0
    assert (tmp_path / "run/private/evaluation/work/setting.json").exists()
    jobs.pop()()
    left = {name.split("/")[2] for name in open_store(tmp_path / "run").list_files("private/evaluation")}
    assert left == {"evaluation.json", "evaluation.html", "embeddings"}


def test_a_failing_hand_over_is_said_in_one_line(recipe_file: Path, run_dir: Path) -> None:
    """The runner is not there: nothing has been spent, and nothing holds the run."""
    missing = ["--runner=PrismRunner", f"--prism_location={run_dir}/nowhere"]
    missing.append("--experiments=disable_prism_server_singleton")  # or Beam keeps it for the tests that follow
    with pytest.raises(PeBeamError) as said:
        launching.launch_embed(parse_recipe(SMALL), run_dir, [*missing, LEAVE])
    assert isinstance(said.value, (StageError, InputError))
    assert not lines(run_dir)
    assert not open_store(run_dir).locked()
