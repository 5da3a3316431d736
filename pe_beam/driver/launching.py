"""Launches one job of a run and leaves it to itself.

A service launches a program as a template: the program hands over the graph of one job and ends before the job begins.
So nothing can follow the job on a driver. What a driver does before a job is done here, under the run lock: checks,
the secret, and the ledger line, which is written before anything may read private data (rule 6). What a driver does
after a job is in the job: the last iteration finishes the run (`ending`). While the job runs nobody holds the run
lock. Only that no work is done twice depends on it: commits are conditional writes (rule 3).

A launch that was killed, or whose job failed, is launched again: lines that are written count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pe_beam.driver.budget import check_ledger, pay
from pe_beam.driver.finalize import is_complete
from pe_beam.driver.jobs import Graph, check_graph, embed_graph, iteration_graph, new_job, unrolled_graph
from pe_beam.driver.loop import missing_iterations
from pe_beam.driver.parts import check_parts
from pe_beam.driver.resume import pin_recipe, pin_secret, refuse_other_embeddings, refuse_stream
from pe_beam.engine.frozen import read_index
from pe_beam.engine.manifests import manifest_of, read_manifest
from pe_beam.engine.queries import job_label
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.start import bring_start
from pe_beam.errors import InputError
from pe_beam.privacy import ledger
from pe_beam.recipe.models import Recipe
from pe_beam.storage import open_store

if TYPE_CHECKING:
    from pe_beam.runners.job import Job


def launch_embed(recipe: Recipe, run_dir: str | Path, beam_options: Sequence[str] = ()) -> None:
    """Launches the job that freezes the private embeddings, or checks that the source still has the frozen records.

    Raises:
      InputError: a bad recipe or a changed one, or a store that would keep the secret.
      PeBeamError: a locked run directory, or a job that cannot be handed over.
    """
    check_parts(recipe)
    store = open_store(run_dir)
    with store.lock():
        pin_recipe(recipe, store)
        run = open_run(store.uri)
        job = new_job(run, list(beam_options), leaves=True)
        if read_index(run) is not None:
            refuse_other_embeddings(run)
            job("CheckSource", check_graph(run))
        elif is_complete(run):
            _confirm(run, job)
        else:
            run.embedder.ready()
            bring_start(run)
            pin_secret(run, None, on_this_machine=job.on_this_machine)
            job("Ingest", embed_graph(run))


def launch_iteration(run_dir: str | Path, iteration: int, beam_options: Sequence[str] = ()) -> None:
    """Launches the job of one iteration. That of the last one finishes the run as well.

    An iteration that exists is not made again: its job makes nothing, or finishes the run.

    Raises:
      InputError: the recipe has no such iteration, the embeddings are not frozen, or the previous iteration is missing.
      PeBeamError: as `launch_embed`.
    """
    run = open_run(run_dir)
    refuse_stream(run.recipe)
    last = run.recipe.evolution.iterations
    if not 0 <= iteration <= last:
        raise InputError(f"--iteration={iteration}: 0 to {last} is wanted")
    with run.store.lock():
        job = new_job(run, list(beam_options), leaves=True)
        if read_manifest(run, iteration) is not None:
            (_finish if iteration == last else _confirm)(run, job)
            return
        _demand_own_embeddings(run)
        if iteration:
            manifest_of(run, iteration - 1)
        if iteration == 0 and missing_iterations(run, 0) != [0]:  # with initial measurements before it, in one job
            missing = missing_iterations(run, 0)
            _pay(run, missing, job)
            job(job_label(run, 0), unrolled_graph(run, missing[0], 0))
            return
        _pay(run, [iteration], job)
        graph = iteration_graph(run, iteration)
        job(job_label(run, iteration), graph if iteration < last else _finishing(run, graph))


def launch_evolution(recipe: Recipe, run_dir: str | Path, beam_options: Sequence[str] = ()) -> None:
    """Launches one job of all iterations that are missing, which finishes the run. All their lines are written first.

    Raises:
      InputError: a bad recipe or a changed one, or the embeddings are not frozen.
      PeBeamError: as `launch_embed`.
    """
    check_parts(recipe)
    store = open_store(run_dir)
    with store.lock():
        pin_recipe(recipe, store)
        run = open_run(store.uri)
        job = new_job(run, list(beam_options), leaves=True)
        missing = missing_iterations(run)
        if not missing:
            _finish(run, job)
            return
        _demand_own_embeddings(run)
        run.generator.ready()
        run.embedder.ready()
        _pay(run, range(missing[0], missing[-1] + 1), job)
        job("Evolution", _finishing(run, unrolled_graph(run, missing[0], missing[-1])))


def _finishing(run: Run, graph: Graph) -> Graph:
    """Returns a graph with the end of the run behind it."""
    from pe_beam.driver.ending import Finish

    uri = run.store.uri
    return lambda root: graph(root) | "Finish" >> Finish(uri)


def _finish(run: Run, job: Job) -> None:
    """Hands over a job that finishes a run of which all iterations are there."""
    job("Finish", _finishing(run, _confirmation(run)))


def _confirm(run: Run, job: Job) -> None:
    """Hands over a job that makes nothing."""
    job("Confirm", _confirmation(run))


def _confirmation(run: Run) -> Graph:
    from pe_beam.driver.ending import build_confirmation

    uri = run.store.uri
    return lambda root: build_confirmation(root, uri)


def _pay(run: Run, iterations: Sequence[int], job: Job) -> None:
    """Writes the ledger lines of those iterations that spend budget, after the checks of a resume."""
    bring_start(run)
    ledger.repair_ledger(run.store)
    pin_secret(run, None, on_this_machine=job.on_this_machine)
    check_ledger(run)
    pay(run, iterations)


def _demand_own_embeddings(run: Run) -> None:
    if read_index(run) is None:
        raise InputError("private/embeddings: not frozen yet; launch `embed` first, and wait for its job")
    refuse_other_embeddings(run)
