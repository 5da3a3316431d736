"""`evaluate`: one Beam job over a complete run. It writes only under `private/evaluation/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pe_beam.driver.finalize import is_complete
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError, PeBeamError
from pe_beam.evaluation.own_metrics import options_of
from pe_beam.evaluation.progress import EvaluationProgress
from pe_beam.evaluation.setting import MEASURED, OUTCOME, WORK, Setting
from pe_beam.evaluation.sources import transforms_of
from pe_beam.evaluation.training import shard_rows
from pe_beam.services.pool import closed_after


def evaluate(
    run_dir: str | Path,
    beam_options: Sequence[str] = (),
    *,
    against: str | None = None,
    iterations: str = "last",
    options: Mapping[str, str] | None = None,
    metric_rows: int | None = None,
    progress: TextIO | None = None,
) -> dict[str, Any]:
    """Measures the samples of a complete run, and its first population, against real records.

    Args:
      run_dir: a complete run.
      beam_options: Beam flags, as `["--runner=FlinkRunner", ...]`.
      against: real data of the same kind as the recipe's; default: its data.holdout.
      iterations: "last", or "all" for every population.
      options: options of the modality's own metrics, by name (`Modality.metric_options`).
      metric_rows: largest number of rows of a kind that those metrics get; default: `Modality.metric_rows`.
      progress: stream for the steps, such as sys.stderr; None for no progress.

    Returns:
      The content of `private/evaluation/evaluation.json`; docs/evaluation.md describes it.

    Raises:
      InputError: the run is not complete, an option is not known, there is nothing to compare with, or there are
        fewer than two samples.
      DataError: the real data cannot be read, or fewer than two of its records can be used.
      PeBeamError: a locked run directory, a disk error, or a failed stage.
    """
    from pe_beam.driver.jobs import new_job
    from pe_beam.evaluation.graph import Config, build

    run, setting = _checked(run_dir, against, iterations, options, metric_rows)
    with run.store.lock(), closed_after(run.store):
        job = new_job(run, list(beam_options), places=setting.on_disk(run))
        _forget(run, keep=MEASURED)
        setting.save(run)
        config = Config(run_dir=run.store.uri, records=transforms_of(run))
        try:
            with EvaluationProgress(run, progress).watched():
                job("Evaluate", lambda root: build(root, config), joins=False)
            found: dict[str, Any] = json.loads(run.store.read(OUTCOME))
        except PeBeamError:
            _forget(run)
            raise
        _forget(run)
    return found


def launch_evaluation(
    run_dir: str | Path,
    beam_options: Sequence[str] = (),
    *,
    against: str | None = None,
    iterations: str = "last",
    options: Mapping[str, str] | None = None,
    metric_rows: int | None = None,
) -> None:
    """Launches the job of an evaluation and leaves it to itself. Arguments and errors are those of `evaluate`.

    The job writes the result and deletes the work files. Nobody holds the run lock meanwhile: launch one at a time.
    """
    from pe_beam.driver.jobs import new_job
    from pe_beam.evaluation.graph import Config, build

    run, setting = _checked(run_dir, against, iterations, options, metric_rows)
    with run.store.lock():
        job = new_job(run, list(beam_options), leaves=True, places=setting.on_disk(run))
        _forget(run, keep=MEASURED)
        setting.save(run)
        config = Config(run_dir=run.store.uri, tidies=True, records=transforms_of(run))
        job("Evaluate", lambda root: build(root, config))


def _checked(
    run_dir: str | Path,
    against: str | None,
    iterations: str,
    options: Mapping[str, str] | None,
    metric_rows: int | None,
) -> tuple[Run, Setting]:
    """Returns the run and the setting of its evaluation, after all checks that need no job."""
    if iterations not in ("last", "all"):
        raise InputError(f"--iterations {iterations}: last or all is wanted")
    run = open_run(run_dir)
    if not is_complete(run):
        raise InputError(f"{run_dir}: this run is not complete yet; run it to its end first")
    total = run.recipe.evolution.iterations
    wanted = tuple(range(total + 1)) if iterations == "all" else (0, total)
    if metric_rows is not None and metric_rows < 2:
        raise InputError(f"--metric-rows {metric_rows}: 2 at least is wanted")
    setting = Setting(
        against=against,
        populations=wanted,
        no_training=_no_training(run),
        options=_known(run, options or {}),
        metric_rows=metric_rows or run.modality.metric_rows,
    )
    setting.held_out(run)  # refuses a recipe without a holdout before a job is started
    return run, setting


def _forget(run: Run, *, keep: str | None = None) -> None:
    """Deletes the work files of an evaluation, also those of a killed one, except the folder `keep`."""
    if keep is None:
        run.store.delete_all(WORK)
        return
    for name in sorted({name.removeprefix(f"{WORK}/").split("/")[0] for name in run.store.list_files(WORK)} - {keep}):
        run.store.remove(f"{WORK}/{name}")


def _known(run: Run, options: Mapping[str, str]) -> dict[str, str]:
    known = options_of(run.modality)
    for name in options:
        if name not in known:
            allowed = "; ".join(f"{key}: {what}" for key, what in known.items()) or "none for this kind of record"
            raise InputError(f"--set {name}: not an option of evaluate; allowed: {allowed}")
    read = run.modality.read_metric_options
    own = {name: value for name, value in options.items() if name in run.modality.metric_options}
    others = {name: value for name, value in options.items() if name not in own}
    return {**(read(own) if read and own else own), **others}


def _no_training(run: Run) -> str:
    index = read_index(run)
    if index is None:
        return "the private embeddings of this run are gone (purged), so there is no training record to compare with"
    if index.get("embedding_id") != run.embedding_id:
        raise InputError("private/embeddings: embeddings of another recipe lie there; restore this run's own")
    if not any(shard_rows(run, shard["shard"]) for shard in index["shards"]):
        return "no record voted in this run, so there is no training record to compare with"
    return ""
