"""Releases of any size and modality, written in the released formats without a run: what a report is built from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.driver.public import public_recipe
from pe_beam.engine import tables
from pe_beam.numbers import json_number
from pe_beam.privacy import accounting
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.report.history import History
from pe_beam.storage import open_folder


def write_release(
    folder: Path,
    recipe: dict[str, Any],
    modality: Modality,
    payload: Callable[[int, np.random.Generator], dict[str, list[Any]]],
    *,
    iterations: Sequence[int] | None = None,
) -> History:
    """Populations, noisy histograms and manifests by the recipe; the payload is made by `payload(rows, rng)`."""
    parsed = parse_recipe(recipe)
    schedule = make_plan(parsed).schedule
    rng = np.random.default_rng(7)
    labels, sizes = parsed.label_list, parsed.evolution.populations()
    before: pa.Table | None = None
    first = 0
    for t in range(parsed.evolution.iterations + 1) if iterations is None else iterations:
        counts = [len(part) for part in np.array_split(np.arange(sizes[t]), len(labels))]
        codes = np.repeat(np.arange(len(labels)), counts)
        manifest: dict[str, Any] = {
            "version": 1,
            "iteration": t,
            "private": parsed.private,
            "candidates": {label or "": count for label, count in zip(labels, counts, strict=True)},
            "files": {},
        }
        parents: list[int | None] = [None] * sizes[t]
        if before is not None:
            sigma = schedule.sigmas[t - 1]
            noisy = rng.gamma(0.3, 40, before.num_rows) + rng.normal(0, sigma, before.num_rows)
            histogram = pa.table([before["candidate_id"], before["label"], pa.array(noisy)], schema=tables.HISTOGRAM)
            _write(folder / f"iteration={t:04d}/histogram", histogram, tables.HISTOGRAM)
            manifest["selection"] = {"threshold": {label or "": sigma for label in labels}, "fallback": {}}
            own = [np.flatnonzero(np.array(before["label"].to_pylist(), dtype=object) == label) for label in labels]
            chances = [np.maximum(noisy[rows] - sigma, 1e-9) for rows in own]
            drawn = [
                rng.choice(rows, count, p=chance / chance.sum())
                for rows, count, chance in zip(own, counts, chances, strict=True)
            ]
            ids = before["candidate_id"].to_numpy()
            parents = [int(ids[row]) for rows in drawn for row in np.sort(rows)]
        table = pa.table(
            {
                "candidate_id": pa.array(first + np.arange(sizes[t]), pa.int64()),
                "parent_id": pa.array(parents, pa.int64()),
                "label": pa.array([labels[code] for code in codes], pa.string()),
                "origin": pa.array(["varied" if t else "random"] * sizes[t]),
                "state": pa.nulls(sizes[t], pa.string()),
                **payload(sizes[t], rng),
            }
        )
        first += sizes[t]
        _write(folder / f"iteration={t:04d}/population", table, tables.population_schema(modality.payload))
        (folder / f"iteration={t:04d}/manifest.json").write_text(json.dumps(manifest))
        before = table
    privacy = {
        "epsilon": json_number(parsed.privacy.epsilon),
        "delta": parsed.privacy.delta,
        "adjacency": parsed.privacy.adjacency,
        "unit": parsed.privacy.unit,
        "mechanism": "Gaussian",
        "noise_multiplier": list(schedule.noise_multipliers),
        "label_shares_noise_multiplier": schedule.label_noise_multiplier,
        "iterations": parsed.evolution.iterations,
        "accountant": "dp-accounting",
        "spent_epsilon": json_number(accounting.spent_epsilon(schedule.all_multipliers, parsed.privacy.delta)),
        "supplied_secret": False,
        "statement": "The statement.",
    }
    return History(open_folder(folder), json.loads(json.dumps(public_recipe(parsed))), privacy)


def _write(folder: Path, table: pa.Table, schema: pa.Schema) -> None:
    folder.mkdir(parents=True)
    (folder / "part-00000.parquet").write_bytes(tables.table_bytes(table, schema))
