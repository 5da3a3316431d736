"""`pe-beam report`: the report of a run directory, drawn again from its release."""

from __future__ import annotations

import json
from pathlib import Path

from pe_beam.errors import InputError
from pe_beam.runs.closing import is_complete, privacy_record, report_bytes
from pe_beam.runs.public import recipe_json
from pe_beam.runs.run import open_run

UNFINISHED = "work/report-unfinished.html"


def report(run_dir: str | Path) -> Path:
    """Writes the report of a run again, as this version of the package draws it; returns where it is.

    A complete run has it in its release. One that is not complete gets one of the iterations there are, marked as
    unfinished, in `work/`, which is never shared: the release gets its report at the end.

    Raises:
      InputError: no run directory, or a run without a population.
    """
    run = open_run(run_dir)
    if is_complete(run):
        name = f"{run.release}/report.html"
        privacy = json.loads(run.store.read(f"{run.release}/privacy.json"))
        run.store.commit(f"{run.release}/recipe.json", recipe_json(run.recipe), replace=True)
        run.store.commit(name, report_bytes(run, privacy, complete=True), replace=True)
        return run.store.path(name)
    if run.manifest(0) is None:
        raise InputError(f"{run_dir}: there is no population yet, so there is nothing to report; run it first")
    data = report_bytes(run, privacy_record(run), complete=False)
    run.store.commit(UNFINISHED, data, replace=True)
    return run.store.path(UNFINISHED)
