"""Visits to a hospital that are made up: how near are synthetic sequences to real ones, against shuffled ones?

    python benchmarks/sequences.py [--epsilon 4] [--seeds 3] [--set a.b=c]
    python benchmarks/sequences.py --write visits.csv      # the data alone

5,000 patients vote at epsilon 4; 5,000 others are compared with. The process is no Markov chain: after surgery a
patient goes on otherwise than without, and chronic patients come back for the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import _place  # noqa: F401
import numpy as np
import pyarrow as pa

import pe_beam
from pe_beam.modalities.sequence.events import Sequences, read_payload
from pe_beam.modalities.sequence.metrics import shares_of, shuffle, tvd
from pe_beam.modalities.sequence.schema import SequenceSchema, as_schema
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sources import source_at
from pe_beam.sources.clients import ClientSource
from pe_beam.sources.gathering import PAYLOAD, gathered

KINDS = (
    "general", "emergency", "admission", "surgery", "intensive",
    "imaging", "laboratory", "therapy", "discharge", "control",
)  # fmt: skip
WARDS = ("none", "internal", "surgical", "cardiac")
RECIPE = Path(__file__).parents[1] / "docs" / "examples" / "sequences" / "visits.yaml"


def patient(rng: np.random.Generator) -> list[tuple[int, str, str]]:
    """Returns a patient's visits: days since the first, kind and ward."""
    day, found = 0, []
    chronic = rng.random() < 0.3

    def visit(kind: str, ward: str, gap: float) -> None:
        nonlocal day
        day += int(rng.exponential(gap)) if found else 0
        found.append((day, kind, ward))

    for _ in range(1 + rng.poisson(0.8)):
        if chronic:
            visit("control", "cardiac", 45)
            for _ in range(rng.poisson(1.5)):
                visit("laboratory", "cardiac", 2)
                visit("control", "cardiac", 60)
            continue
        visit("emergency" if rng.random() < 0.35 else "general", "none", 120)
        if rng.random() < 0.6:
            visit(("laboratory", "imaging")[int(rng.random() < 0.4)], "none", 2)
        if rng.random() < (0.6 if found[-1][1] == "imaging" else 0.2):
            ward = WARDS[1 + int(rng.integers(3))]
            visit("admission", ward, 4)
            operated = rng.random() < (0.7 if ward == "surgical" else 0.25)
            if operated:
                visit("surgery", ward, 1)
                if rng.random() < 0.4:
                    visit("intensive", ward, 0.6)
            visit("discharge", ward, 5 if operated else 2)
            for _ in range(rng.poisson(2.5 if operated else 0.4)):
                visit("therapy", "none", 5)
            visit("control", ward, 20)
    return found


def write_visits(path: Path, patients: int, seed: int) -> None:
    """Writes the visits of so many patients as CSV, in no order."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        first = date(2020, 1, 1) + timedelta(days=int(rng.integers(700)))
        for day, kind, ward in patient(rng):
            rows.append((f"p{number:06d}", first + timedelta(days=min(day, 1800)), kind, ward))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "day", "visit", "ward"])
        writer.writerows(rows[i] for i in rng.permutation(len(rows)))


def figures(patients: int, epsilon: float, seed: int, extra: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Makes a run. Returns what is compared with other patients of the same process -> its distances, by what.

    All distances are total variation distances, 0 to 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        voted, others = Path(folder, "visits.csv"), Path(folder, "others.csv")
        write_visits(voted, patients, 2 * seed)
        write_visits(others, patients, 2 * seed + 1)
        overrides = [f"data.path={voted}", f"privacy.epsilon={epsilon}", f"seed={seed}", *extra]
        recipe = pe_beam.load_recipe(RECIPE, overrides)
        schema = as_schema(recipe.data.table_schema)
        real, other = (_sequences(recipe, path, schema) for path in (voted, others))
        run = pe_beam.evolve(recipe, Path(folder, "run"))
        found = {
            "drawn by what was measured": read_payload(run.population(0), schema),
            "samples": read_payload(run.samples(), schema),
            "real, shuffled": shuffle(real, np.random.default_rng(seed)),
            "real": real,
        }
    against = shares_of(other, schema)
    return {
        name: {what: round(tvd(own, against[what]), 4) for what, own in shares_of(each, schema).items()}
        for name, each in found.items()
    }


def _sequences(recipe: Recipe, path: Path, schema: SequenceSchema) -> Sequences:
    source = source_at(recipe, str(path), part=None)
    assert isinstance(source, ClientSource)
    rows = [source.rows(name, piece) for name, table in source.tables.items() for piece in table.pieces()]
    found = gathered(source.content, pa.concat_tables(rows))
    return read_payload(pa.table(found[PAYLOAD].combine_chunks().flatten(), schema=schema.payload), schema)


def main() -> None:
    """Runs the benchmark and prints medians over seeds, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=5000)
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="changes the recipe")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the visits of the first seed, and stop")
    parser.add_argument("--toy", action="store_true", help="few patients, to see that it runs")
    asked = parser.parse_args()
    if asked.write is not None:
        write_visits(asked.write, asked.patients, 0)
        return
    extra = list(asked.set)
    if asked.toy:
        asked.patients, asked.seeds = 60, 1
        extra += ["evolution.samples=40", "evolution.population=40", "evolution.iterations=1"]
    found = [figures(asked.patients, asked.epsilon, seed, extra) for seed in range(asked.seeds)]
    medians = {
        name: {what: statistics.median(each[name][what] for each in found) for what in found[0][name]}
        for name in found[0]
    }
    print(json.dumps({"patients": asked.patients, "epsilon": asked.epsilon, "seeds": asked.seeds} | medians, indent=1))


if __name__ == "__main__":
    main()
