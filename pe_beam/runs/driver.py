"""The loop: fixes the noise, freezes the data, runs one Beam job an iteration, and closes the run.

What is spent is written before it is spent (rule 6), and whatever has been committed is used again.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml

from pe_beam import errors
from pe_beam.errors import InputError, PeBeamError, RecipeError, SecretError, StageError
from pe_beam.privacy import accounting, ledger, secret
from pe_beam.privacy.statement import statement
from pe_beam.runs import tables
from pe_beam.runs.progress import Progress
from pe_beam.runs.recipe import Recipe, differing_keys, parse_recipe, to_yaml
from pe_beam.runs.run import Run, open_run
from pe_beam.runs.steps import SECRET
from pe_beam.runs.store import Store

SUPPLIED = "private/secret.supplied"


def evolve(
    recipe: Recipe,
    run_dir: str | Path,
    beam_options: Sequence[str] = (),
    *,
    secret_file: str | Path | None = None,
    progress: TextIO | None = None,
) -> Run:
    """Runs a recipe to its end in a run directory, or goes on where an earlier run of it stopped.

    Args:
      recipe: from `load_recipe`.
      run_dir: a local or mounted directory; made if it is not there.
      beam_options: Beam flags, as `["--runner=FlinkRunner", ...]`.
      secret_file: 32 raw bytes to use as the secret (for tests); copied.
      progress: where progress is written; None: nowhere.

    Raises:
      InputError: recipe, changed recipe or data, secret, too many rejects (exit status 2).
      PeBeamError: lock, disk, a failed stage (exit status 1).
    """
    check_parts(recipe)
    store = Store(run_dir)
    store.make(".")
    with store.lock():
        return _evolve_locked(recipe, store, list(beam_options), secret_file, progress)


def check_parts(recipe: Recipe) -> None:
    """Builds plan, generator and embedder once, so that what they refuse costs nothing."""
    trial = Run("", recipe)
    _ = trial.plan
    generator, embedder = trial.new_generator(), trial.new_embedder()
    if not recipe.private and (generator.remote or embedder.remote):
        raise RecipeError("privacy.epsilon: inf with a remote service would send private data out")


def _evolve_locked(
    recipe: Recipe, store: Store, args: list[str], secret_file: str | Path | None, stream: TextIO | None
) -> Run:
    _settle_recipe(recipe, store)
    run = open_run(store.root)
    progress = Progress(run, stream)
    if is_complete(run):
        _forget_secret(run)
        progress.say("this run is complete; nothing to do")
        return run
    ledger.settle_ledger(run.store.path("ledger.jsonl"))
    _settle_secret(run, secret_file)
    job = _Job(run, args)
    with _timed(run, "ingest"):
        _freeze_data(run, job, progress)
    _check_ledger(run)
    evolution = run.recipe.evolution
    for iteration in range(evolution.iterations + 1):
        if run.manifest(iteration) is None:
            with _timed(run, f"iteration {iteration}"), progress.iteration(iteration):
                run_iteration(run, iteration, job)
    _close(run)
    return run


def embed_only(recipe: Recipe, run_dir: str | Path, beam_options: Sequence[str] = ()) -> Run:
    """Settles recipe and secret and freezes the private embeddings: what `evolve` does first. Spends nothing."""
    check_parts(recipe)
    store = Store(run_dir)
    store.make(".")
    with store.lock():
        _settle_recipe(recipe, store)
        run = open_run(store.root)
        if not is_complete(run):
            _settle_secret(run, None)
            _freeze_data(run, _Job(run, list(beam_options)), Progress(run, None))
    return run


def run_one(run_dir: str | Path, iteration: int, beam_options: Sequence[str] = ()) -> None:
    """Runs one iteration of a run whose embeddings are frozen; nothing happens if it exists.

    Raises:
      InputError: no such iteration, no frozen embeddings, or the iteration before is missing.
    """
    run = open_run(run_dir)
    if not 0 <= iteration <= run.recipe.evolution.iterations:
        raise InputError(f"--iteration {iteration}: 0 to {run.recipe.evolution.iterations} is wanted")
    with run.store.lock():
        if run.manifest(iteration) is not None:
            return
        if iteration:
            run.manifest_of(iteration - 1)
        ledger.settle_ledger(run.store.path("ledger.jsonl"))
        _settle_secret(run, None)
        _check_ledger(run)
        run_iteration(run, iteration, _Job(run, list(beam_options)))


def run_iteration(run: Run, iteration: int, job: _Job) -> None:
    """Writes the ledger line and runs the job of one iteration."""
    from pe_beam.transforms import iteration as transforms

    unit = run.recipe.privacy.unit
    if iteration == 0:
        if run.recipe.privacy.label_budget():
            write_ledger_line(run, 0)
            job("LabelShares", lambda: transforms.LabelShares(str(run.store.root), unit=unit))
        job("Iteration 00", lambda: transforms.RandomPopulation(str(run.store.root)))
    else:
        write_ledger_line(run, iteration)
        job(
            f"Iteration {iteration:02d}",
            lambda: transforms.Iteration(str(run.store.root), iteration, unit=unit),
        )
    if run.manifest(iteration) is None:
        raise StageError(f"iteration {iteration}: the job ended without its manifest; run again to go on")


class _Job:
    """Runs one graph of one transform with the user's Beam flags, and says in one line what failed."""

    def __init__(self, run: Run, args: list[str]) -> None:
        self._store = run.store
        self._args = [*run.recipe.execution.beam_args, *args]
        if not any(arg == "--runner" or arg.startswith("--runner=") for arg in self._args):
            self._args.append(f"--runner={run.recipe.execution.runner}")

    def __call__(self, label: str, make: Callable[[], Any]) -> None:
        from pe_beam.runs import jobs

        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        logging.getLogger().setLevel(logging.CRITICAL)
        try:
            jobs.run_graph(self._store, self._args, label, make)
        except PeBeamError:
            raise
        except Exception as error:
            raise _explained(error, label) from None


_OURS = re.compile(r"pe_beam\.errors\.(\w+): (.*?)(?: \[while running .*|\\n.*)?$", re.MULTILINE)


def _explained(error: Exception, label: str) -> PeBeamError:
    """Our own error out of the text in which a runner wraps it."""
    found = _OURS.findall(str(error))
    if found:
        name, message = found[-1]
        kind = getattr(errors, name, PeBeamError)
        return kind(message) if issubclass(kind, PeBeamError) else PeBeamError(message)
    return StageError(f"{label}: the Beam job failed ({type(error).__name__})")


# --- recipe, secret, data, ledger --------------------------------------------------------------------------


def _settle_recipe(recipe: Recipe, store: Store) -> None:
    if store.exists("recipe.yaml"):
        old = parse_recipe(yaml.safe_load(store.read("recipe.yaml")))
        keys = differing_keys(old, recipe)
        if keys:
            raise RecipeError(
                f"{store.root}: holds a run of another recipe; it differs in {', '.join(keys)}. "
                "Use another run directory, or the recipe.yaml that lies there"
            )
        if old == recipe:
            return
    elif any(store.exists(name) for name in ("ledger.jsonl", "release", "release-NOT-PRIVATE")):
        raise InputError(f"{store.root}: holds a run whose recipe.yaml is missing; put it back")
    store.commit("recipe.yaml", to_yaml(recipe).encode(), replace=True)


def _settle_secret(run: Run, supplied: str | Path | None) -> None:
    path = run.store.path(SECRET)
    spent = bool(ledger_lines(run))
    run.store.make("private").chmod(0o700)
    run.store.make("work/attempts")
    if not path.exists() and spent and supplied is None:
        raise SecretError(
            f"{run.root}: budget is spent but private/secret.key is missing; without it the run cannot "
            "go on (a new run directory spends anew)"
        )
    if supplied is not None:
        _adopt(run, Path(supplied), path, spent=spent)
    elif not path.exists():
        secret.create_secret(path, temporary=run.store.path("work/attempts"))
    _check_data_hmac(run)


def _adopt(run: Run, supplied: Path, path: Path, *, spent: bool) -> None:
    given = secret.read_secret(supplied)
    if path.exists():
        if hmac.compare_digest(given, secret.read_secret(path)):
            return
        if spent:
            raise SecretError("--secret-file: not the secret of this run, which has spent budget already")
        secret.delete_secret(path)
    run.store.commit(SUPPLIED, b"")
    secret.adopt_secret(supplied, path, temporary=run.store.path("work/attempts"))


def _check_data_hmac(run: Run) -> None:
    index, lines = run.index(), ledger_lines(run)
    if not lines or index is None:
        return
    mac = ledger.data_hmac(secret.read_secret(run.store.path(SECRET)), index["fingerprint"])
    if any(not hmac.compare_digest(mac, line.data_hmac) for line in lines):
        raise SecretError("ledger.jsonl: written with another secret or for other data than are here")


def _freeze_data(run: Run, job: _Job, progress: Progress) -> None:
    from pe_beam.transforms import ingest

    if run.index() is None:
        if ledger_lines(run):
            raise InputError("private/embeddings: missing, though this run has spent budget; it cannot go on")
        progress.say("embedding the private records")
        job("Ingest", lambda: ingest.Ingest(str(run.store.root)))
    else:
        job("CheckSource", lambda: ingest.CheckSource(str(run.store.root)))
    if run.index() is None:
        raise errors.DataError("data.path: there is no record that can be used")


def ledger_lines(run: Run) -> list[ledger.LedgerLine]:
    """What this run has spent, in the order it was spent."""
    if not run.store.exists("ledger.jsonl"):
        return []
    return ledger.parse_ledger(run.store.read("ledger.jsonl"))[0]


def _check_ledger(run: Run) -> None:
    """Every released iteration has its line, and every line says what the recipe would spend."""
    lines = {line.iteration: line for line in ledger_lines(run)}
    for iteration in range(1, run.recipe.evolution.iterations + 1):
        if run.manifest(iteration) is not None and iteration not in lines:
            raise InputError(f"ledger.jsonl: iteration {iteration} is released but has no line")
    for iteration, line in lines.items():
        if (line.sigma, line.sensitivity, line.noise_multiplier) != _spending(run, iteration):
            raise InputError(f"ledger.jsonl: iteration {iteration} was spent otherwise than the recipe says")


def _spending(run: Run, iteration: int) -> tuple[float, float, float]:
    schedule = run.plan.schedule
    if iteration == 0:
        sigma, multiplier = schedule.label_sigma, schedule.label_noise_multiplier
    elif iteration <= len(schedule.sigmas):
        sigma, multiplier = schedule.sigmas[iteration - 1], schedule.noise_multipliers[iteration - 1]
    else:
        sigma = multiplier = None
    if sigma is None or multiplier is None:
        raise InputError(f"ledger.jsonl: a line for iteration {iteration}, which the recipe does not have")
    return sigma, schedule.sensitivity if iteration else label_sensitivity(run), multiplier


def label_sensitivity(run: Run) -> float:
    """A record has one label, whatever its votes: the sensitivity of label counts."""
    privacy = run.recipe.privacy
    return accounting.sensitivity(unit=privacy.unit, adjacency=privacy.adjacency, votes_per_record=1)


def write_ledger_line(run: Run, iteration: int) -> None:
    """Writes that an iteration is spent, durably, before its job starts; nothing if it is written already."""
    if any(line.iteration == iteration for line in ledger_lines(run)):
        return
    index = run.index()
    if index is None:
        raise InputError("private/embeddings: not frozen yet; the embed pipeline comes first")
    sigma, sensitivity, multiplier = _spending(run, iteration)
    line = ledger.LedgerLine(
        iteration=iteration,
        sigma=sigma,
        sensitivity=sensitivity,
        noise_multiplier=multiplier,
        data_hmac=ledger.data_hmac(secret.read_secret(run.store.path(SECRET)), index["fingerprint"]),
    )
    ledger.append_line(run.store.path("ledger.jsonl"), line)


# --- the end -----------------------------------------------------------------------------------------------


def is_complete(run: Run) -> bool:
    """True once samples and privacy.json, the last of the release, are there."""
    return run.store.exists(f"{run.release}/privacy.json")


def _close(run: Run) -> None:
    last = run.recipe.evolution.iterations
    run.store.copy(run.public(last, "population/part-00000.parquet"), f"{run.release}/samples.parquet")
    if run.modality.preview is not None:
        samples = tables.read_bytes(run.store.read(f"{run.release}/samples.parquet"))
        note = None if run.recipe.private else "NOT PRIVATE"
        run.store.commit(f"{run.release}/samples.png", run.modality.preview(samples, note))
    body = json.dumps(privacy_record(run), indent=1, allow_nan=False) + "\n"
    run.store.commit(f"{run.release}/privacy.json", body.encode())
    _forget_secret(run)


def _forget_secret(run: Run) -> None:
    if not run.recipe.privacy.keep_secret:
        secret.delete_secret(run.store.path(SECRET), temporary=run.store.path("work/attempts"))


def was_supplied(run: Run) -> bool:
    """True if the user gave the secret; the finished release remembers it when private/ is purged."""
    if is_complete(run):
        return bool(json.loads(run.store.read(f"{run.release}/privacy.json"))["supplied_secret"])
    return run.store.exists(SUPPLIED)


def spent_multipliers(run: Run) -> list[float]:
    """Noise multipliers by the ledger."""
    return [line.noise_multiplier for line in ledger_lines(run)]


def privacy_record(run: Run) -> dict[str, object]:
    """The content of privacy.json: what was promised and spent, by the ledger."""
    privacy, schedule = run.recipe.privacy, run.plan.schedule
    spent = accounting.spent_epsilon(spent_multipliers(run), privacy.delta)
    return {
        "version": tables.FORMAT_VERSION,
        "epsilon": _json_number(privacy.epsilon),
        "delta": privacy.delta,
        "adjacency": privacy.adjacency,
        "unit": privacy.unit,
        "mechanism": "Gaussian, exactly rounded to the grid of votes" if run.recipe.private else "none",
        "noise_multiplier": list(schedule.noise_multipliers),
        "label_shares_noise_multiplier": schedule.label_noise_multiplier,
        "sampling_rate": privacy.sampling_rate,
        "iterations": run.recipe.evolution.iterations,
        "accountant": "dp-accounting: exact composition of Gaussian mechanisms",
        "spent_epsilon": _json_number(spent),
        "supplied_secret": was_supplied(run),
        "statement": statement(
            epsilon=spent,
            delta=privacy.delta,
            adjacency=privacy.adjacency,
            unit=privacy.unit,
            iterations=run.recipe.evolution.iterations,
            supplied_secret=was_supplied(run),
        ),
    }


def _json_number(value: float) -> float | str:
    return "inf" if value == math.inf else value


@contextlib.contextmanager
def _timed(run: Run, what: str) -> Iterator[None]:
    """Notes how long a part took, for the holder's `status`; never in the release."""
    began = time.monotonic()
    yield
    with contextlib.suppress(OSError), run.store.path("work/times.jsonl").open("a") as file:
        file.write(json.dumps({"what": what, "seconds": round(time.monotonic() - began, 3)}) + "\n")


def default_stream() -> TextIO:
    """Where the command line shows progress."""
    return sys.stderr
