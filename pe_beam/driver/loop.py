"""The loop: fixes the noise, freezes the data, runs one Beam job per iteration, and finalizes the run.

The ledger line is written before the budget is spent (rule 6). A resumed run uses everything that was committed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pe_beam import errors
from pe_beam.driver import booking
from pe_beam.driver.budget import check_ledger, ledger_lines, pay
from pe_beam.driver.finalize import finalize, is_complete, restore
from pe_beam.driver.jobs import check_graph, embed_graph, iteration_graph, new_job, seen_here, unrolled_graph
from pe_beam.driver.parts import check_parts
from pe_beam.driver.progress import TIMES, Progress
from pe_beam.driver.reporting import verify_iteration
from pe_beam.driver.resume import pin_recipe, pin_secret, refuse_other_embeddings, refuse_stream
from pe_beam.engine.apart import ended_after
from pe_beam.engine.frozen import read_index
from pe_beam.engine.ingest import left_out
from pe_beam.engine.manifests import manifest_of, read_manifest
from pe_beam.engine.queries import first_query, is_made, job_label
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.start import bring_start
from pe_beam.errors import InputError, StageError
from pe_beam.privacy import ledger
from pe_beam.recipe.models import Recipe
from pe_beam.services.pool import closed_after
from pe_beam.services.waiting import heard_by
from pe_beam.storage import open_store
from pe_beam.wording import counted

if TYPE_CHECKING:
    from pe_beam.runners.job import Job


def evolve(
    recipe: Recipe,
    run_dir: str | Path,
    beam_options: Sequence[str] = (),
    *,
    secret_file: str | Path | None = None,
    progress: TextIO | None = None,
    unheard: Callable[[str], None] | None = None,
    unroll: bool = False,
    on_iteration: Callable[[Run, int], None] | None = None,
    on_frozen: Callable[[Run], None] | None = None,
) -> Run:
    """Runs a recipe to its end in a run directory, or resumes an earlier run of it.

    Args:
      recipe: from `load_recipe`.
      run_dir: a local or mounted directory, which is made if it does not exist, or the URL of a store (docs/stores.md).
      beam_options: Beam flags, as `["--runner=FlinkRunner", ...]`.
      secret_file: 32 raw bytes to use as the secret (for tests); copied.
      progress: stream for progress lines; None for no progress.
      unheard: takes what the plan of a run that begins warns of, where there is no stream that shows it.
      unroll: runs one Beam job for all iterations instead of one job per iteration. The release is the same. All
        ledger lines are written first, so a run that stops half-way has spent the whole budget. It can be resumed.
      on_iteration: is called with the run and each iteration that this call commits, 0 included, once it is committed;
        of an unrolled run, when the job is over. What it raises stops the run, which can be resumed.
      on_frozen: is called with the run once its records are frozen, before anything is spent; on a resume again. Only
        `pe-beam stream` passes one: a window of a stream is not run without it.

    Raises:
      InputError: a bad recipe or secret, changed recipe or data, or too many rejects (exit status 2).
      PeBeamError: a locked run directory, a disk error, or a failed stage (exit status 1).

    >>> from pe_beam.recipe.loading import load_recipe
    >>> recipe = load_recipe("digits", ["evolution.iterations=1", "evolution.samples=20", "evolution.population=20"])
    >>> run = evolve(recipe, "memory://twenty-digits")
    >>> sorted(run.store.list_files("release/iteration=0001"))[0]
    'release/iteration=0001/histogram/part-00000.parquet'
    """
    check_parts(recipe)
    store = open_store(run_dir)
    with store.lock(), closed_after(store), ended_after(store.uri):
        pin_recipe(recipe, store, window=on_frozen is not None)
        run = open_run(store.uri)
        shown = Progress(run, progress, unheard)
        if is_complete(run):
            check_ledger(run)
            restore(run)
            booking.note_finished(run, recipe.privacy.book)
            shown.say("this run is complete; nothing to do")
            return run
        job = _begin(run, list(beam_options), secret_file, shown)
        if on_frozen is not None:
            on_frozen(run)
        _iterate(run, job, shown, unroll=unroll, on_iteration=on_iteration)
        finalize(run)
        booking.note_finished(run)
    return run


def _begin(run: Run, args: list[str], secret_file: str | Path | None, progress: Progress) -> Job:
    """Does all that comes before a budget is spent, also on a resume. Returns the job that runs the graphs."""
    booking.demand_room(run)
    job = new_job(run, args)
    with heard_by(progress.say):
        run.generator.ready()
        run.embedder.ready()
        if job.on_this_machine:
            run.generator.ready_here()
            run.embedder.ready_here()
    _bring_start(run, progress)
    ledger.repair_ledger(run.store)
    if run.recipe.stream is None and not ledger_lines(run):  # each window of a stream would say it
        for warning in run.plan.warnings:
            progress.warn(warning)
    private_kept = pin_secret(run, secret_file, on_this_machine=job.on_this_machine)
    if private_kept is not None:
        progress.say(f"{private_kept} in {run.store.uri}: what is deleted from private/ lives on there")
    with _timed(run, "ingest"):
        _freeze_data(run, job, progress)
    progress.left_out()
    check_ledger(run)
    _check_released(run)
    for warning in booking.enter(run):
        progress.warn(warning)
    return job


def _check_released(run: Run) -> None:
    """Checks what an earlier call has released: a file that a disk has damaged stops the run before it spends more."""
    for iteration in range(run.recipe.evolution.iterations + 1):
        manifest = read_manifest(run, iteration)
        if manifest is not None:
            verify_iteration(run, manifest)


def _iterate(
    run: Run, job: Job, progress: Progress, *, unroll: bool, on_iteration: Callable[[Run, int], None] | None
) -> None:
    """Runs the iterations that are missing."""
    missing = missing_iterations(run)
    if unroll and missing:
        with _timed(run, f"iterations {missing[0]} to {missing[-1]}"), progress.unrolled(max(missing[0], 0)):
            run_unrolled(run, missing[0], job)
        for iteration in missing:
            _call(on_iteration, run, iteration)
        return
    for iteration in missing:
        what = f"iteration {iteration}" if iteration >= 0 else job_label(run, iteration).lower()
        with _timed(run, what), progress.iteration(iteration):
            run_iteration(run, iteration, job)
        _call(on_iteration, run, iteration)


def missing_iterations(run: Run, last: int | None = None) -> list[int]:
    """Returns the iterations up to the last one that are not there yet, with initial measurements below 0.

    Measurements whose working files are lost are made again, from the same counts with the same noise; once population
    0 is there, nobody needs them.
    """
    stop = run.recipe.evolution.iterations if last is None else last
    first = 0 if is_made(run, 0) else min(first_query(run), 0)
    return [t for t in range(first, stop + 1) if not is_made(run, t)]


def _bring_start(run: Run, progress: Progress) -> None:
    """Checks and keeps the release that a run starts from, before data are read and budget is spent."""
    count = bring_start(run)
    if count is not None:
        progress.say(f"{counted(count, 'candidate')} of the release of evolution.start can be used")


def _call(on_iteration: Callable[[Run, int], None] | None, run: Run, iteration: int) -> None:
    """Calls the user's function after an iteration. Raises PeBeamError, which names what it raised."""
    if on_iteration is None or iteration < 0:  # a measurement has no release of its own
        return
    try:
        on_iteration(run, iteration)
    except Exception as error:
        said = str(error) if isinstance(error, errors.PeBeamError) else f"raised {type(error).__name__}"
        raise errors.PeBeamError(
            f"on_iteration: {said}; iteration {iteration} is committed, and the same call goes on from there"
        ) from error


def embed_only(recipe: Recipe, run_dir: str | Path, beam_options: Sequence[str] = ()) -> Run:
    """Fixes recipe and secret and freezes the private embeddings, as `evolve` does first. Spends no budget."""
    check_parts(recipe)
    store = open_store(run_dir)
    with store.lock():
        pin_recipe(recipe, store)
        run = open_run(store.uri)
        if not is_complete(run):
            job = new_job(run, list(beam_options))
            bring_start(run)
            pin_secret(run, None, on_this_machine=job.on_this_machine)
            _freeze_data(run, job, Progress(run, None))
    return run


def run_one(run_dir: str | Path, iteration: int, beam_options: Sequence[str] = ()) -> None:
    """Runs one iteration of a run whose embeddings are frozen. Does nothing if the iteration exists.

    Raises:
      InputError: the recipe has no such iteration, the embeddings are not frozen, or the previous iteration is missing.
    """
    run = open_run(run_dir)
    refuse_stream(run.recipe)
    if not 0 <= iteration <= run.recipe.evolution.iterations:
        raise InputError(f"--iteration {iteration}: 0 to {run.recipe.evolution.iterations} is wanted")
    with run.store.lock():
        if read_manifest(run, iteration) is not None:
            return
        if iteration:
            manifest_of(run, iteration - 1)
        job = new_job(run, list(beam_options))
        bring_start(run)
        ledger.repair_ledger(run.store)
        pin_secret(run, None, on_this_machine=job.on_this_machine)
        check_ledger(run)
        for each in missing_iterations(run, 0) if iteration == 0 else [iteration]:
            run_iteration(run, each, job)


def run_iteration(run: Run, iteration: int, job: Job) -> None:
    """Writes the ledger line if the iteration spends budget, and runs its job."""
    pay(run, [iteration])
    job(job_label(run, iteration), iteration_graph(run, iteration), is_done=lambda: is_made(run, iteration))
    _demand_made(run, iteration)


def run_unrolled(run: Run, first: int, job: Job) -> None:
    """Writes all missing ledger lines from `first` on, then runs iterations `first` to T as one job."""
    last = run.recipe.evolution.iterations
    pay(run, range(first, last + 1))
    job("Evolution", unrolled_graph(run, first, last), is_done=lambda: is_made(run, last))
    _demand_made(run, last)


def _demand_made(run: Run, iteration: int) -> None:
    if not is_made(run, iteration):
        what = "manifest" if iteration >= 0 else "noisy counts"
        raise StageError(f"{job_label(run, iteration).lower()}: the job ended without its {what}; run again to go on")


def _freeze_data(run: Run, job: Job, progress: Progress) -> None:
    if read_index(run) is None:
        if ledger_lines(run):
            raise InputError("private/embeddings: missing, though this run has spent budget; it cannot go on")
        with progress.ingest():
            try:
                job("Ingest", embed_graph(run), is_done=lambda: read_index(run) is not None)
            except errors.DataError as error:
                kinds = left_out(run)
                more = f" ({'; '.join(kinds)})" if kinds else seen_here(run, job, error)
                raise errors.DataError(f"{error}{more}") from None
        progress.left_columns()
    else:
        refuse_other_embeddings(run)
        job("CheckSource", check_graph(run))
    if read_index(run) is None:
        raise errors.DataError("data.path: there is no record that can be used")


@contextlib.contextmanager
def _timed(run: Run, what: str) -> Iterator[None]:
    """Records the duration of a part, for `status`. Durations reveal the number of records, so they are private."""
    began = time.monotonic()
    yield
    line = json.dumps({"what": what, "seconds": round(time.monotonic() - began, 3)}) + "\n"
    with contextlib.suppress(errors.StorageError):
        run.store.append(TIMES, line.encode(), durable=False)
