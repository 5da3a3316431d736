"""Measures one population, or training records in its place, against the held-out records."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.engine.run import Run
from pe_beam.errors import DataError, InputError, MissingExtraError, StageError
from pe_beam.evaluation.gather import CHANGED, Gathered
from pe_beam.evaluation.own_metrics import metrics_of
from pe_beam.evaluation.progress import note_step
from pe_beam.evaluation.rows import Rows, gathered_files, load_payload, load_rows
from pe_beam.evaluation.setting import (
    CEILING,
    HELD_OUT,
    MEASURED,
    VOTED,
    WORK,
    Setting,
    load_arrays,
    population,
    save_arrays,
)
from pe_beam.evaluation.training import read_shard
from pe_beam.metrics.classifiers import classifier_figures, cross_figures
from pe_beam.metrics.distances import frechet_distance, kernel_distance
from pe_beam.metrics.manifold import DENSITY_K, PRECISION_K, compare_manifolds, neighbour_radii
from pe_beam.metrics.memorisation import Nearest, nearer, nearest_in, nothing_near
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.identity import to_plain
from pe_beam.subsamples import chosen_rows


def commit_groups(run: Run, groups: Iterable[tuple[str, Gathered]]) -> list[str]:
    """Commits the gathered results and the radii of held-out records. Returns the names to measure.

    Raises:
      DataError: fewer than 2 held-out records can be used.
      InputError: a population has fewer than 2 candidates.
    """
    found = dict(groups)
    held_out = found[HELD_OUT]
    if held_out.moments.count < 2:
        kinds = f" ({'; '.join(sorted(held_out.kinds))})" if held_out.kinds else ""
        raise DataError(f"evaluate: the real data hold fewer than 2 records that can be used{kinds}")
    setting = Setting.load(run)
    for name, group in found.items():
        moments = group.moments
        save_arrays(run, f"{name}/moments", {"mean": moments.mean, "scatter": moments.scatter})
        about = {"count": moments.count, "rejected": group.rejected, "kinds": sorted(group.kinds)}
        run.store.commit(f"{WORK}/{name}/about.json", json.dumps(about).encode(), replace=True)
        if name.startswith("population") and moments.count < 2:
            raise InputError("evaluate: two samples and two real records are wanted at least")
    if VOTED in found and CHANGED in found[VOTED].kinds:
        for payload in gathered_files(run, VOTED, ".payload.parquet"):
            run.store.delete(payload)
    radii = neighbour_radii(load_rows(run, HELD_OUT).vectors, [PRECISION_K, DENSITY_K])
    save_arrays(run, "radii", {"radii": radii})
    names = [population(iteration) for iteration in setting.populations]
    return [*names, CEILING]


def load_moments(run: Run, group: str) -> Moments:
    """Returns the moments of all records of a group, not of a subsample."""
    arrays = load_arrays(run, f"{group}/moments")
    return Moments(load_about(run, group)["count"], arrays["mean"], arrays["scatter"])


def load_about(run: Run, group: str) -> dict[str, Any]:
    """Returns how many records of a group can be used, how many cannot, and the kinds of faults."""
    about: dict[str, Any] = json.loads(run.store.read(f"{WORK}/{group}/about.json"))
    return about


def measure(run: Run, name: str) -> None:
    """Measures one population with all metrics and commits the figures."""
    setting, held_out = Setting.load(run), load_rows(run, HELD_OUT)
    target, of = f"{WORK}/{MEASURED}/{name}.json", _digest(run, setting, name)
    if run.store.exists(target) and json.loads(run.store.read(target))["of"] == of:
        return  # an interrupted evaluation has measured it
    note_step(run, f"{_what(setting, name)}: distances and classifiers")
    figures: dict[str, float] = {}
    training = name == CEILING
    if training and setting.no_training:
        rows = held_out
        if _labelled(run):
            figures |= cross_figures(held_out.vectors, held_out.codes)
        extra = Measured(figures={})
    else:
        rows = load_rows(run, name)
        likened = _as_many(rows, load_about(run, population(setting.last))["count"]) if training else rows
        with ThreadPoolExecutor(1) as pool:  # distances use the cores that classifiers leave idle
            learnt = pool.submit(_classifiers, run, rows, held_out)
            if len(likened.rows) > 1:
                moments = Moments.of(likened.vectors) if training else load_moments(run, name)
                figures |= _distances(run, likened, moments, held_out)
            figures |= learnt.result()
        extra = _of_modality(run, setting, name, figures)
    found = {"of": of, "figures": figures | dict(extra.figures), "rows": len(rows.rows), "notes": list(extra.notes)}
    found["series"] = [asdict(series) for series in extra.series]
    body = json.dumps(found, allow_nan=False).encode()
    run.store.commit(target, body, replace=True)


def _what(setting: Setting, name: str) -> str:
    """Returns a phrase for the progress line: what is measured now."""
    names = [*(population(iteration) for iteration in setting.populations), CEILING]
    words = "real records" if name == CEILING else f"population {int(name.rpartition('-')[2])}"
    return f"measuring {words} ({names.index(name) + 1} of {len(names)})"


def _digest(run: Run, setting: Setting, name: str) -> str:
    """Returns a digest of everything that decides the figures of one population: gathered files and settings."""
    names = [name, HELD_OUT, VOTED, population(setting.last)]
    held = sorted(file for own in names for file in gathered_files(run, own))
    sums = [(file, run.store.digest(file)) for file in held]
    asked = [run.run_id, name, dict(setting.options), setting.no_training, sums]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _classifiers(run: Run, rows: Rows, held_out: Rows) -> dict[str, float]:
    if not _labelled(run):
        return {}
    return classifier_figures(rows.vectors, rows.codes, held_out.vectors, held_out.codes)


def _labelled(run: Run) -> bool:
    return run.recipe.label_count > 1


def _as_many(rows: Rows, count: int) -> Rows:
    """Returns as many training records as samples, because Fréchet distance and radii depend on the number."""
    keep = chosen_rows(len(rows.rows), count, "ceiling")
    return Rows(rows.vectors[keep], rows.codes[keep], rows.rows[keep])


def _distances(run: Run, rows: Rows, moments: Moments, held_out: Rows) -> dict[str, float]:
    kid, spread = kernel_distance(rows.vectors, held_out.vectors)
    radii = load_arrays(run, "radii")["radii"]
    return {
        "frechet_distance": frechet_distance(moments, load_moments(run, HELD_OUT)),
        "kernel_distance": kid,
        "kernel_distance_spread": spread,
        **asdict(compare_manifolds(rows.vectors, held_out.vectors, real_radii=radii)),
    }


_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _of_modality(run: Run, setting: Setting, name: str, taken: dict[str, float]) -> Measured:
    """Computes the modality's own metrics.

    Raises:
      StageError: the name of a figure is already used or not allowed, or the figure is not finite.
    """
    figures: dict[str, float] = {}
    notes: list[str] = []
    series: list[Series] = []
    voted = load_payload(run, VOTED)
    samples = voted if name == CEILING else load_payload(run, name)
    held_out = load_payload(run, HELD_OUT)
    metrics = [m for m in metrics_of(run.modality) if getattr(m, "only_with", None) in (None, *setting.options)]
    if not metrics or samples is None or held_out is None:
        return Measured(figures={})
    comparison = Comparison(
        iteration=None if name == CEILING else int(name.rpartition("-")[2]),
        samples=samples[0],
        sample_vectors=samples[1],
        held_out=held_out[0],
        held_out_vectors=held_out[1],
        training=None if name == CEILING or voted is None else voted[0],
        labels=run.recipe.data.labels,
        recipe=to_plain(run.recipe),
        seed=run.recipe.seed,
        sample_count=min(load_about(run, population(setting.last))["count"], setting.metric_rows),
        options=setting.options,
    )
    for place, metric in enumerate(metrics, start=1):
        kind = getattr(metric, "__name__", "metric").strip("_").replace("_", " ")
        note_step(run, f"{_what(setting, name)}: {kind} ({place} of {len(metrics)} of its kind of record)")
        try:
            found = metric(comparison)
        except MissingExtraError as error:
            notes.append(f"left out: {error}")
            continue
        for key, value in found.figures.items():
            if not _NAME.fullmatch(key) or key in taken or key in figures or not math.isfinite(value):
                raise StageError(f"modality {run.modality.name}: metric {key!r}: a new name and a number are wanted")
            figures[key] = float(value)
        series += found.series
        notes += found.notes
    if voted is None and not setting.no_training:
        notes.append("left out: what needs training records, which cannot be read as they voted (data.path)")
    return Measured(figures=figures, series=series, notes=notes)


def load_measured(run: Run, name: str) -> dict[str, Any]:
    """Returns the result that `measure` committed."""
    found: dict[str, Any] = json.loads(run.store.read(f"{WORK}/{MEASURED}/{name}.json"))
    return found


# --- memorisation ------------------------------------------------------------------------------------------


def queries(run: Run) -> tuple[list[str], np.ndarray]:
    """Returns the group of each row, and all vectors: of populations that votes shaped, and of held-out records."""
    setting = Setting.load(run)
    groups = [*(population(iteration) for iteration in setting.populations if iteration), HELD_OUT]
    found = [load_rows(run, group).vectors for group in groups]
    names = [group for group, vectors in zip(groups, found, strict=True) for _ in range(len(vectors))]
    return names, np.concatenate(found)


def nearest_of_shards(run: Run, names: Iterable[str], first: int, vectors: np.ndarray) -> Nearest:
    """Returns for every query the nearest of the training records in some shards."""
    best, at = nothing_near(len(vectors)), first
    for name in names:
        for records, _ in read_shard(run, name):
            best = nearer(best, nearest_in(vectors, records, at))
            at += len(records)
    return best


def commit_nearest(run: Run, nearest: Nearest) -> None:
    """Commits squared distance and row of the nearest training record of every query."""
    save_arrays(run, "nearest", {"squared": nearest[0], "row": nearest[1]})


def load_nearest(run: Run) -> dict[str, Nearest]:
    """Returns group -> the nearest training records of its queries."""
    names, _ = queries(run)
    arrays, of = load_arrays(run, "nearest"), np.array(names)
    return {name: (arrays["squared"][of == name], arrays["row"][of == name]) for name in dict.fromkeys(names)}
