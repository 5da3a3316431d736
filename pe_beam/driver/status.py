"""The data holder's view of a run directory: its state, and the budget that it has spent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pe_beam.contracts.store import Folder
from pe_beam.driver.budget import check_ledger, ledger_lines, spendings
from pe_beam.driver.finalize import is_complete, promised_epsilon, started_from, statement_over
from pe_beam.driver.progress import JOB, TIMES, stage_of
from pe_beam.engine.frozen import read_index
from pe_beam.engine.ingest import left_out, share_done
from pe_beam.engine.layout import PUBLIC_SERVICES, SEARCH_ENGINES
from pe_beam.engine.manifests import manifest_of, read_manifest
from pe_beam.engine.measuring import steps_of
from pe_beam.engine.repeats import keeps_count
from pe_beam.engine.run import Run, open_run, stored_recipe
from pe_beam.errors import InputError
from pe_beam.numbers import json_number
from pe_beam.privacy import accounting
from pe_beam.privacy.secret_record import recent_record
from pe_beam.privacy.statement import compose_runs
from pe_beam.recipe.ancestry import added_to, as_run, with_ancestors
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.start import Ancestor
from pe_beam.recipe.start import release_digest
from pe_beam.releases.reading import Release
from pe_beam.services.record import UNIT, read_totals
from pe_beam.storage import open_store
from pe_beam.storage.json_file import read_json


def status(run_dir: str, done: Sequence[int] | None = None) -> dict[str, Any]:
    """Returns the state of a run, for the data holder only.

    Args:
      run_dir: path or URL of a run directory.
      done: the iterations that exist, for a caller that knows them; None: they are looked for.

    Raises:
      InputError: it is no run directory.
    """
    run = open_run(run_dir)
    evolution = run.recipe.evolution
    total = evolution.iterations
    if done is None:
        done = [t for t in range(total + 1) if read_manifest(run, t) is not None]
    times = []
    if run.store.exists(TIMES):
        times = [entry for line in run.store.read(TIMES).split(b"\n") if (entry := _timed(line)) is not None]
    sizes = run.recipe.evolution.populations()
    return {
        "name": run.recipe.name,
        **_standing(run, done),
        "iterations_done": max(done, default=0),
        "iterations": total,
        "epsilon_spent": json_number(with_ancestors(run.recipe, spendings(run))[0]),
        "epsilon": json_number(promised_epsilon(run)),
        "delta": with_ancestors(run.recipe, [])[1],
        "candidates_made": sum(sizes[t] for t in done),
        "generator_calls": evolution.generator_calls(done),
        "generator_calls_planned": evolution.generator_calls(range(total + 1)),
        "left_out": left_out(run),
        **_kept(run),
        **_search(run, done),
        **_repeats(run, done),
        "services": _services(run),
        **_engines(run),
        "seconds": round(sum(entry["seconds"] for entry in times), 1),
        "times": times,
    }


def _timed(line: bytes) -> dict[str, Any] | None:
    """Returns the duration of a part; None for a line that is still being written, or that a power failure has torn."""
    try:
        found = json.loads(line)
        return {"what": str(found["what"]), "seconds": float(found["seconds"])}
    except (ValueError, KeyError, TypeError):
        return None


def _kept(run: Run) -> dict[str, str]:
    """Returns why what is deleted from private/ lives on in the run's bucket, which external custody allows."""
    kept = recent_record(run.store).private_kept
    return {} if kept is None else {"private_kept": f"{kept}: what is deleted from private/ lives on"}


def _engines(run: Run) -> dict[str, str]:
    """Returns the search engines that `auto` has taken, one for each kind of machine. Only machines tell them apart."""
    taken = Folder(run.store, SEARCH_ENGINES).list_files()
    return {"search_engines": ", ".join(taken)} if taken else {}


def _search(run: Run, done: Sequence[int]) -> dict[str, str]:
    """Returns how many of the nearest candidates approximate votes found, on public candidates; nothing if exact."""
    if run.recipe.evolution.approximate is None:
        return {}
    rounds = [t for t in done if t]
    if not rounds:
        return {"search": "approximate"}
    last = manifest_of(run, rounds[-1])["search"]
    told = f"found of the nearest, on candidates alone: {last['near']:.1%} near them, {last['far']:.1%} far from them"
    return {"search": f"approximate; {told} (iteration {rounds[-1]})"}


def _repeats(run: Run, done: Sequence[int]) -> dict[str, str]:
    """Returns how many samples are distinct rows; nothing before there are samples, or where nobody asked."""
    last = run.recipe.evolution.iterations
    if last not in done or not keeps_count(run, last):
        return {}
    told = manifest_of(run, last)["repeats"]
    return {
        "distinct_samples": f"{told['distinct']} of {told['rows']} ({told['modelled_distinct']} by the marginals alone)"
    }


def _services(run: Run) -> dict[str, dict[str, Any]]:
    """Returns the calls, tokens and money that the generator's service has used so far.

    The use of an embeddings service reveals the number of private records, so only private/services has its account.
    """
    used, price = read_totals(Folder(run.store, f"{PUBLIC_SERVICES}/llm")), run.recipe.execution.llm.price
    if used is None:
        return {}
    found = {"calls": used.calls, "input_tokens": used.input, "output_tokens": used.output}
    return {"llm": found | ({} if price is None else {"money": f"{used.money / UNIT:.6g} {price.currency}"})}


def _standing(run: Run, done: Sequence[int]) -> dict[str, Any]:
    """Returns the state of a run and, if it runs now, its Beam job and its stage."""
    if is_complete(run):
        return {"state": "complete"}
    if not run.store.locked():
        if recent_record(run.store).deleted:
            return {
                "state": "not complete, and its secret is deleted: it cannot go on; a new run directory spends anew"
            }
        return {"state": "not complete, and no process is at work; the same command goes on"}
    job = read_json(run.store, JOB, dict) if run.store.exists(JOB) else {"job": None, "runner": None}
    if read_index(run) is None:
        return {"state": "running", **job, "stage": f"embedding the private records, {share_done(run):.0%}"}
    return {"state": "running", **job, "stage": stage_of(run, max(done, default=-1) + 1)[0]}


def privacy(run_dirs: Sequence[str]) -> dict[str, Any]:
    """Returns the statement over one run, or over several on the same data, composed exactly at the largest delta.

    The releases that runs start from are added, as each run's own statement does it. One that is named itself, or from
    which several start, is counted once. A window of a stream follows from those before it, so beside other runs it
    counts as often as a unit may be in them, with the release that the first of them starts from.

    Raises:
      InputError: a directory is no run directory or is named twice, two are windows of one stream, a window is named
        beside other runs and does not lie in its stream's directory, a ledger does not agree with its recipe, or the
        runs differ in privacy unit or adjacency.
    """
    runs = [open_run(path) for path in run_dirs]
    if len({run.store.place() for run in runs}) != len(runs):
        raise InputError("privacy: a run directory is named twice")
    streams = [run.store.place().rpartition("/")[0] for run in runs if run.recipe.stream is not None]
    if len(set(streams)) != len(streams):
        raise InputError("privacy: windows of one stream are not added up; name the stream's directory, which promises")
    for run in runs:
        check_ledger(run)
    promises = [run.recipe.privacy for run in runs]
    spent = [spendings(run) * (run.recipe.unit_windows if len(runs) > 1 else 1) for run in runs]
    named = [(p.unit, p.adjacency, p.delta, each) for p, each in zip(promises, spent, strict=True)]
    added = [each for recipe in _starting(runs) for each in added_to(recipe)]
    epsilon, delta = compose_runs([*named, *map(as_run, _once(added, runs))])
    if not all(run.recipe.private for run in runs):
        epsilon = math.inf
    return {
        "epsilon": json_number(epsilon),
        "delta": delta,
        "unit": promises[0].unit,
        "adjacency": promises[0].adjacency,
        "statement": _statement(runs, epsilon, delta),
        "runs": [_entry(run) for run in runs],
    }


def _starting(runs: Sequence[Run]) -> list[Recipe]:
    """Returns the recipes whose `evolution.start` counts: those of the runs; beside others, a window's stream as well.

    A window says of the windows before it, and of what they started from, that their data are others.
    """
    recipes = [run.recipe for run in runs]
    if len(runs) == 1:
        return recipes
    return [*recipes, *(_recipe_of_stream(run) for run in runs if run.recipe.stream is not None)]


def _recipe_of_stream(run: Run) -> Recipe:
    """Returns the recipe of the stream that a window's run lies in. Raises InputError if it lies nowhere in one."""
    root = run.store.uri.rpartition("/windows/")[0]
    store = open_store(root) if root else None
    found = stored_recipe(store) if store is not None and store.exists("recipe.yaml") else None
    if found is None or found.stream is None:
        raise InputError(
            f"privacy: {run.store.uri}: beside other runs a window counts as its stream does; name it where it lies "
            "in the stream's directory, which has the stream's recipe.yaml"
        )
    return found


def _once(added: Sequence[Ancestor], runs: Sequence[Run]) -> list[Ancestor]:
    """Returns the releases before these runs, each once, without those of the runs themselves."""
    found: dict[str, Ancestor] = {}
    for each in added:
        before = found.get(each.digest)
        if before is None or len(as_run(before).spent) < len(as_run(each).spent):
            found[each.digest] = each
    if found and len(runs) > 1:
        for run in filter(is_complete, runs):
            named = found.get(digest := release_digest(Release(Folder(run.store, run.layout.release))))
            # An entry may stand for several releases (`Ancestor.sets`): those are counted on.
            if named is not None and len(as_run(named).spent) == len(ledger_lines(run)):
                del found[digest]
    return list(found.values())


def _statement(runs: list[Run], epsilon: float, delta: float) -> str:
    histograms = sum(line.iteration > 0 for run in runs for line in ledger_lines(run))
    if not any(ledger_lines(run) for run in runs):
        return "Nothing is spent and nothing private is released so far: there is no ledger line yet."
    said = statement_over(runs, epsilon, delta, histograms)
    unfinished = not all(is_complete(run) for run in runs)
    return f"{said} This is what is spent so far: not every run is complete." if unfinished else said


def _entry(run: Run) -> dict[str, Any]:
    delta = run.recipe.privacy.delta
    return {
        "dir": run.store.uri,
        "spent_epsilon": json_number(accounting.spent_epsilon(spendings(run), delta)),
        "delta": delta,
        "complete": is_complete(run),
        **started_from(run),
        **_kept(run),
        "ledger": _lines(run),
    }


def _lines(run: Run) -> list[dict[str, Any]]:
    """Returns the lines of the ledger; those of `privacy.measure` with the name of the step under `measured`."""
    steps = steps_of(run)
    named = {iteration: {"measured": step.name} for iteration, step in steps.items()}
    return [asdict(line) | named.get(line.iteration, {}) for line in ledger_lines(run)]
