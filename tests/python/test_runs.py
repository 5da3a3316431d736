"""A run as an object, and functions that are called as it goes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pe_beam
from pe_beam.cli.main import main
from pe_beam.driver.export import export
from pe_beam.engine.run import Run
from pe_beam.errors import InputError, PeBeamError, PeBeamWarning
from pe_beam.recipe.loading import parse_recipe
from tests.whole_runs import release_digests


def test_callbacks_see_what_is_released_and_change_nothing(runs, small, tmp_path):
    seen = []

    def look(release):
        t = release.iteration
        release.verify()
        assert release.iterations == list(range(t + 1)) and not release.complete
        assert release.folder.prefix == "release" and release.recipe["name"] == "small"
        assert "path" not in release.recipe["data"]
        assert (tmp_path / f"run/release/iteration={t:04d}/manifest.json").exists()
        assert not (tmp_path / "run/release/privacy.json").exists()
        seen.append((t, release.privacy["spent_epsilon"], release.privacy["epsilon"], release))

    run = pe_beam.evolve(
        parse_recipe(small), tmp_path / "run", secret_file=runs.secret_file, on_iteration=[look, lambda release: 1]
    )
    assert [t for t, *_ in seen] == [0, 1, 2]
    spent = [epsilon for _, epsilon, *_ in seen]
    assert spent[0] == 0 and spent == sorted(spent) and spent[2] == run.privacy["spent_epsilon"]
    assert {promised for _, _, promised, _ in seen} == {1.0}
    assert seen[0][3].iterations == [0]  # a release that was handed over stays what it was
    assert release_digests(tmp_path / "run") == release_digests(runs.finished(small))


def test_a_run_is_an_object(runs, small, tmp_path):
    run = pe_beam.evolve(parse_recipe(small), runs.finished(small))  # complete: nothing to do
    assert isinstance(run, Run) and run.recipe.name == "small"
    assert run.iterations == [0, 1, 2] and run.samples().num_rows == 40 and len(run.images()) == 40
    assert run.population(0).num_rows == 40 and run.histogram(1).num_rows == 40 and run.manifest(1)["iteration"] == 1
    assert run.privacy["epsilon"] == 1 and run.status()["state"] == "complete"
    assert run.records().column_names == ["label", "image"] and "small" in run._repr_html_()
    assert repr(run) == f"EvolvedRun({run.root!r})"
    run.export(tmp_path / "samples.jsonl")
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 40
    assert run.report().endswith("release/report.html")
    for given, named in (((run.samples(),), {}), ((), {"against": run.samples()})):
        with pytest.raises(InputError, match="records in memory are not taken; against='PATH'"):
            run.evaluate(*given, **named)


@pytest.mark.parametrize(
    ("progress", "terminal", "shown"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_progress_is_shown_in_a_terminal_or_as_it_is_said(runs, small, monkeypatch, progress, terminal, shown):
    shell = io.StringIO()
    monkeypatch.setattr(shell, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", shell)
    pe_beam.evolve(parse_recipe(small), runs.finished(small), progress=progress)
    assert ("this run is complete; nothing to do\n" in shell.getvalue()) is shown
    pe_beam.evolve(parse_recipe(small), runs.finished(small), progress=(own := io.StringIO()))
    assert own.getvalue() == "this run is complete; nothing to do\n"


def test_a_run_that_begins_says_what_its_plan_warns_of(small, tmp_path):
    small["privacy"] |= {"epsilon": "inf"}
    small["evolution"] |= {"iterations": 1}
    said = "warning: privacy.epsilon: inf adds no noise"

    def stop(_):
        raise ValueError

    with pytest.raises(PeBeamError):
        pe_beam.evolve(parse_recipe(small), tmp_path / "run", progress=(first := io.StringIO()), on_iteration=stop)
    pe_beam.evolve(parse_recipe(small), tmp_path / "run", progress=(second := io.StringIO()))
    assert first.getvalue().startswith(said)
    pe_beam.evolve(parse_recipe(small), tmp_path / "run", progress=(third := io.StringIO()))
    assert said in second.getvalue() and said not in third.getvalue(), "until something is spent"


def test_where_no_line_is_shown_a_plan_warns_as_python_does(small, tmp_path):
    """A notebook shows no lines: delta 0.1 was taken without a word. It warns at the line that has asked."""
    small["privacy"] |= {"delta": 0.1}
    small["data"] |= {"expected_records": None}
    small["evolution"] |= {"iterations": 1}
    with pytest.warns(PeBeamWarning, match=r"privacy\.delta: 0\.1 is large for any number of records") as seen:
        pe_beam.evolve(parse_recipe(small), tmp_path / "run", on_iteration=lambda release: None)
    assert [warning.filename for warning in seen] == [__file__]
    pe_beam.evolve(parse_recipe(small), tmp_path / "run")  # a warning is an error here: a complete run has none


def test_held_out_records_may_be_named_by_a_path(runs, small, monkeypatch):
    seen = []
    monkeypatch.setattr("pe_beam.evaluation.evaluate.evaluate", lambda *given, against, **named: seen.append(against))
    pe_beam.evolve(parse_recipe(small), runs.finished(small)).evaluate(against=Path("held-out.parquet"))
    assert seen == ["held-out.parquet"]


@pytest.mark.parametrize("unroll", [False, True])
def test_a_function_that_raises_leaves_a_run_that_goes_on(runs, small, tmp_path, unroll):
    secret = "of the caller"

    def fail(release):
        if release.iteration == 1:
            raise ValueError(secret)

    call = {"secret_file": runs.secret_file, "unroll": unroll}
    with pytest.raises(PeBeamError, match="on_iteration: raised ValueError; iteration 1 is committed") as error:
        pe_beam.evolve(parse_recipe(small), tmp_path / "run", **call, on_iteration=fail)
    assert secret not in str(error.value) and isinstance(error.value.__cause__, ValueError)
    assert pe_beam.open_release(tmp_path / "run").iterations == ([0, 1, 2] if unroll else [0, 1])
    later = []
    pe_beam.evolve(parse_recipe(small), tmp_path / "run", on_iteration=lambda release: later.append(release.iteration))
    assert later == ([] if unroll else [2])
    # `supplied_secret` is the same: the secret stays the supplied one
    assert release_digests(tmp_path / "run") == release_digests(runs.finished(small))
    assert len((tmp_path / "run/ledger.jsonl").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "run/release/privacy.json").read_text())["iterations"] == 2


def test_any_iteration_is_exported(runs, small, tmp_path, capsys):
    run = runs.finished(small)
    for t in (0, 1, 2):
        assert main(["export", str(run), "--to", str(tmp_path / f"{t}.parquet"), "--iteration", str(t)]) == 0
        assert pq.read_table(tmp_path / f"{t}.parquet").equals(pe_beam.open_release(run).population(t))
    for wrong in (["--iteration", "3"], ["--iteration=-1"], ["--iteration", "1", "--all"]):
        assert main(["export", str(run), "--to", str(tmp_path / "no.parquet"), *wrong]) == 2
        assert "--iteration" in capsys.readouterr().err and not (tmp_path / "no.parquet").exists()


@pytest.mark.parametrize("iteration", [None, 2])
def test_what_a_disk_has_damaged_is_not_exported(runs, small, tmp_path, iteration):
    """A torn file was an internal error, and one with other bytes left as what the statement is about."""
    shutil.copytree(runs.finished(small), tmp_path / "run")
    name = "samples.parquet" if iteration is None else f"iteration={iteration:04d}/population/part-00000.parquet"
    path = tmp_path / "run/release" / name
    for data in (b"torn", (tmp_path / "run/release/iteration=0000/population/part-00000.parquet").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"{name}: (damaged|not what this run has made)"):
            export(str(tmp_path / "run"), tmp_path / "samples.csv", iteration=iteration)
    assert not (tmp_path / "samples.csv").exists()
