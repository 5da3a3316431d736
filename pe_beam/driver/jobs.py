"""The jobs of a run: what runs them, and their graphs. Beam is imported when one is asked for: plans need none."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pe_beam.driver.progress import JOB
from pe_beam.engine.run import Run
from pe_beam.errors import DataError, EmptyInputError, InputError, MissingDataError

if TYPE_CHECKING:
    from pe_beam.runners.job import Job

Graph = Callable[[Any], Any]
"""Builds a graph on its root."""


def new_job(run: Run, args: list[str], *, leaves: bool = False, places: Mapping[str, str | None] | None = None) -> Job:
    """Returns the job that runs graphs with the user's Beam flags.

    Args:
      run: whose graphs.
      args: the user's Beam flags.
      leaves: whether its graphs are handed over and left (`launching`).
      places: key -> path on a disk, or None, of the records that its graphs cannot do without; default: data.path.

    Raises:
      InputError: Beam does not accept a flag, the flags leave a job that the driver has to wait for, or no worker would
        see the records.
    """
    from pe_beam.recipe.sources import path_on_disk
    from pe_beam.runners import leaving
    from pe_beam.runners.job import Job

    execution = run.recipe.execution
    if not leaves and leaving.leaves([*execution.beam_args, *args]):
        raise InputError(
            f"{' and '.join(leaving.FLAGS)}: a driver waits for its jobs; `python -m pipelines.embed`, "
            "`pipelines.iteration`, `pipelines.evolve` and `pipelines.evaluate` can leave theirs"
        )

    def note(label: str, runner: str, shown_as: str | None) -> None:
        """Records the job for `status`."""
        said = {"job": label, "runner": runner} | ({} if shown_as is None else {"shown_as": shown_as})
        run.store.commit(JOB, json.dumps(said).encode(), replace=True)

    disks = {"data.path": path_on_disk(run.recipe)} if places is None else places
    return Job(
        run.store,
        [*execution.beam_args, *args],
        runner=execution.runner,
        parallelism=execution.parallelism,
        hints=execution.stages.hints(),
        started=note,
        run_id=run.run_id,
        client_ids=run.recipe.privacy.unit == "client",
        leaves=leaves,
        disks={key: path for key, path in disks.items() if path is not None},
    )


def seen_here(run: Run, job: Job, error: DataError) -> str:
    """Returns what is added where workers do not find the private records: "" unless this machine does."""
    from pe_beam.recipe.sources import path_on_disk

    path = path_on_disk(run.recipe)
    if path is None or job.on_this_machine:
        return ""
    at = str(Path(path).absolute())
    named = isinstance(error, MissingDataError) and Path(at.partition("#")[0]).exists()
    pattern = any(sign in at for sign in "*?[")
    matched = isinstance(error, EmptyInputError) and pattern and glob.glob(at, recursive=True)  # noqa: PTH207  a whole path
    if not named and not matched:
        return ""
    return f"; this machine has {at}, and workers do not see it: a disk that all share is wanted, by a whole path"


def embed_graph(run: Run) -> Graph:
    """Returns the graph that freezes the private embeddings."""
    from pe_beam.engine.graphs import ingest

    config = ingest.Config(
        run_dir=run.store.uri, hints=run.recipe.execution.stages.hints(), records=ingest.private_records(run)
    )
    return lambda root: ingest.build(root, config)


def check_graph(run: Run) -> Graph:
    """Returns the graph that compares the source with the frozen embeddings."""
    from pe_beam.engine.graphs import ingest

    config = ingest.Config(run_dir=run.store.uri, records=ingest.private_records(run))
    return lambda root: ingest.build_check(root, config)


def iteration_graph(run: Run, iteration: int) -> Graph:
    """Returns the graph of one iteration."""
    from pe_beam.engine.graphs.iteration import Config, build

    config = Config(iteration=iteration, **_told(run))
    return lambda root: build(root, config)


def unrolled_graph(run: Run, first: int, last: int) -> Graph:
    """Returns the graph of several iterations. Below 0 they are initial measurements before that of iteration 0."""
    from pe_beam.engine.graphs.evolution import Config, build

    config = Config(first=first, last=last, **_told(run))
    return lambda root: build(root, config)


def _told(run: Run) -> dict[str, Any]:
    """Returns the settings that all graphs of iterations share."""
    recipe = run.recipe
    return {
        "run_dir": run.store.uri,
        "unit": recipe.vote_unit,
        "label_shares": bool(recipe.privacy.label_budget()),
        "hints": recipe.execution.stages.hints(),
    }
