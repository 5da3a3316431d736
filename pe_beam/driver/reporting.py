"""The command `pe-beam report`: writes the report of a run directory again from its release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pe_beam.driver.budget import ledger_lines, spendings
from pe_beam.driver.finalize import is_complete, privacy_record, report_bytes, samples_digest, statement_over
from pe_beam.driver.public import recipe_json
from pe_beam.engine.manifests import manifest_of, read_manifest
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError, StorageError
from pe_beam.recipe.ancestry import with_ancestors
from pe_beam.storage.json_file import read_json

UNFINISHED = "work/report-unfinished.html"


def report(run_dir: str | Path) -> str:
    """Writes the report of a run again with this version of the package. Returns its location.

    The report of a complete run is in its release. The report of an unfinished run shows its existing iterations and
    is marked as unfinished. It is in `work/`, which is never shared; the release gets its report at the end.

    Raises:
      InputError: this is no run directory, the run has no population, or a file of its release is missing or damaged.
      StorageError: the report cannot be written.
    """
    run = open_run(run_dir)
    try:
        made = _made(run)
    except (OSError, StorageError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run.layout.release}: a file of it is missing or damaged; restore it") from error
    for name, data in made.items():
        run.store.commit(name, data, replace=name != f"{run.layout.release}/recipe.json")
    return run.store.at(next(iter(made)))


def verify_release(run: Run) -> dict[str, Any]:
    """Checks that a complete run's release agrees with its manifests, its recipe and its ledger.

    Returns:
      The content of privacy.json.

    Raises:
      InputError: a file has changed, or a manifest is missing.
      StorageError: another file is missing.
    """
    for iteration in range(run.recipe.evolution.iterations + 1):
        verify_iteration(run, manifest_of(run, iteration))
    samples = f"{run.layout.release}/samples.parquet"
    _demand(run.store.digest(samples) == samples_digest(run), samples)
    name = f"{run.layout.release}/privacy.json"
    privacy = read_json(run.store, name, dict)
    own = privacy_record(run)
    _demand(all(privacy.get(key) == own.get(key) for key in _PROMISED), name)
    return privacy


def verify_iteration(run: Run, manifest: Mapping[str, Any]) -> None:
    """Checks the files that a manifest of the release lists. Raises as `verify_release`."""
    for name, about in manifest["files"].items():
        released = run.layout.public(manifest["iteration"], name)
        _demand(run.store.digest(released) == about["sha256"], released)


_PROMISED = (
    *("epsilon", "delta", "adjacency", "unit", "noise_multiplier", "label_shares_noise_multiplier"),
    *("measurements", "sampling_rate", "iterations", "spent_epsilon", "start"),
)


def _demand(same: bool, name: str) -> None:
    if not same:
        raise InputError(f"{name}: not what this run has made; restore it")


def _made(run: Run) -> dict[str, bytes]:
    """Returns name -> content of the files to write, the report first."""
    if is_complete(run):
        report = report_bytes(run, verify_release(run), complete=True)
        return {
            f"{run.layout.release}/report.html": report,
            f"{run.layout.release}/recipe.json": recipe_json(run.recipe),
        }
    if read_manifest(run, 0) is None:
        raise InputError(f"{run.root}: there is no population yet, so there is nothing to report; run it first")
    return {UNFINISHED: report_bytes(run, record_so_far(run), complete=False)}


def record_so_far(run: Run) -> dict[str, Any]:
    """Returns what privacy.json would say now of a run that is not complete: its promise, and what is spent."""
    spent = sum(line.iteration > 0 for line in ledger_lines(run))
    return privacy_record(run) | {"rounds_spent": spent, "statement": _so_far(run, spent)}


def _so_far(run: Run, histograms: int) -> str:
    if not histograms and not spendings(run):
        return "Nothing is spent so far: no record has voted yet."
    epsilon, delta = with_ancestors(run.recipe, spendings(run))
    said = statement_over([run], epsilon, delta, histograms)
    return f"{said} This is what is spent so far: the run is not complete."
