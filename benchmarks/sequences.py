"""Visits to a hospital that are made up: how near are synthetic sequences to real ones, against shuffled ones?

    python benchmarks/sequences.py [--out benchmarks/results/sequences.json]

5,000 patients vote at epsilon 4; 5,000 others are compared with. The process is no Markov chain: after surgery a
patient goes on otherwise than without, and chronic patients come back for the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

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


def figures(patients: int, epsilon: float, seed: int, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Makes a run and returns its figures against other patients of the same process, by population."""
    import pe_beam
    from pe_beam.evaluation.evaluate import evaluate

    with tempfile.TemporaryDirectory() as folder:
        voted, others = Path(folder, "visits.csv"), Path(folder, "others.csv")
        write_visits(voted, patients, 2 * seed)
        write_visits(others, patients, 2 * seed + 1)
        overrides = [f"data.path={voted}", f"privacy.epsilon={epsilon}", f"seed={seed}", *extra]
        recipe = pe_beam.load_recipe(RECIPE, overrides)
        run = f"{folder}/run"
        pe_beam.evolve(recipe, run)
        found = evaluate(run, against=str(others))
        return {str(key): value for key, value in dict(found).items()}


def main() -> None:
    """Runs the benchmark and writes its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=5000)
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = [figures(asked.patients, asked.epsilon, seed, tuple(asked.set)) for seed in range(asked.seeds)]
    text = json.dumps(found, indent=1, default=str)
    print(text)
    if asked.out is not None:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
