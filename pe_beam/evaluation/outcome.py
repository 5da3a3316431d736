"""Combines the measured figures: writes `private/evaluation/evaluation.json` and the page beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pe_beam.engine.run import Run
from pe_beam.evaluation import measure
from pe_beam.evaluation.page import evaluation_page
from pe_beam.evaluation.setting import CEILING, HELD_OUT, OUTCOME, PAGE, RESULT, Setting, population
from pe_beam.metrics.classifiers import TEST_ROWS, TRAIN_ROWS
from pe_beam.metrics.distances import SUBSET_ROWS, SUBSETS
from pe_beam.metrics.memorisation import Nearest, memorisation
from pe_beam.subsamples import REAL_ROWS

NOTICE = "NOT A RELEASE: computed from real records without noise; keep it private"
VERSION = 1


def commit_outcome(run: Run) -> str:
    """Writes the result and its page. Returns the result's name."""
    outcome = _outcome(run)
    body = json.dumps(outcome, indent=1, allow_nan=False).encode()
    run.store.commit(PAGE, evaluation_page(run, outcome), replace=True)
    for name in (RESULT, OUTCOME):
        run.store.commit(name, body, replace=True)
    return RESULT


def _outcome(run: Run) -> dict[str, Any]:
    setting = Setting.load(run)
    measured = {t: measure.load_measured(run, population(t)) for t in setting.populations}
    ceiling, floor = measure.load_measured(run, CEILING), _floor(run)
    near = {} if setting.no_training else measure.load_nearest(run)
    iterations = [
        {
            "iteration": t,
            "metrics": found["figures"],
            "memorisation": _memorisation(near, t, setting, floor),
        }
        for t, found in measured.items()
    ]
    last = measured[setting.last]
    return {
        "version": VERSION,
        "notice": NOTICE,
        "against": setting.against or "data.holdout",
        "iteration": setting.last,
        "metrics": last["figures"],
        "floor": {"from": floor, "metrics": measured[0]["figures"]},
        "ceiling": {"from": _ceiling(setting), "metrics": ceiling["figures"]},
        "memorisation": iterations[-1]["memorisation"],
        "iterations": iterations,
        "records": _records(run, setting),
        "limits": {
            "rows_of_a_kind_in_memory": REAL_ROWS,
            "kernel_subsets": [SUBSETS, SUBSET_ROWS],
            "classifier_train_rows": TRAIN_ROWS,
            "classifier_test_rows": TEST_ROWS,
        },
        "notes": _notes(run, setting, last["notes"], near),
        "series": last["series"],
    }


def _memorisation(near: Mapping[str, Nearest], iteration: int, setting: Setting, floor: str) -> dict[str, Any]:
    if not near:
        return {"left_out": setting.no_training}
    if iteration == 0:
        return {"left_out": floor}
    return memorisation(near[population(iteration)][0], near[HELD_OUT][0])


def _floor(run: Run) -> str:
    if run.recipe.evolution.start is not None:
        return "population 0, begun from an earlier release"
    if run.recipe.privacy.counts_columns:
        return "population 0, drawn by measured marginals"
    return "population 0, made before any record is read"


def _ceiling(setting: Setting) -> str:
    if setting.no_training:
        return "held-out records: each half trains the classifiers that the other half tests"
    return "training records, as many as there are samples; for classifiers all, up to the limit"


def _records(run: Run, setting: Setting) -> dict[str, Any]:
    held_out, made = measure.load_about(run, HELD_OUT), measure.load_about(run, population(setting.last))
    training = None if setting.no_training else measure.load_about(run, CEILING)["count"]
    return {
        "samples": made["count"],
        "held_out": held_out["count"],
        "held_out_unusable": held_out["rejected"],
        "held_out_faults": held_out["kinds"],
        "training": training,
    }


def _copies(near: Mapping[str, Nearest]) -> list[str]:
    """Returns a note if most held-out records are training records too: someone has named the data that voted."""
    if not near:
        return []
    apart = near[HELD_OUT][0]
    same = int(np.count_nonzero(apart == 0))
    if same <= len(apart) / 2:
        return []
    return [
        f"{same:,} of {len(apart):,} held-out records have the same vector as a training record. Unless records repeat "
        "by nature, these are records that voted, and figures flatter: --against or data.holdout has to name others."
    ]


def _notes(run: Run, setting: Setting, own: list[str], near: Mapping[str, Nearest]) -> list[str]:
    records = _records(run, setting)
    notes = list(own)
    if setting.no_training:
        notes.append(f"No memorisation check: {setting.no_training}.")
    if records["held_out_unusable"]:
        faults = "; ".join(records["held_out_faults"])
        notes.append(f"{records['held_out_unusable']} held-out records could not be used ({faults}).")
    notes += _copies(near)
    counts = [records["samples"], records["held_out"], records["training"] or 0]
    if max(counts) > REAL_ROWS:
        notes.append(
            f"All figures but Fréchet distance and the nearest training records are of {REAL_ROWS:,} rows of a kind, "
            "drawn by position; those two are of all training and held-out records."
        )
    if run.recipe.label_count < 2:
        notes.append("No classifiers: the recipe declares fewer than two labels.")
    return notes
