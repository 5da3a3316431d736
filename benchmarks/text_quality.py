"""The offline text recipe over several seeds: classifier and Fréchet distance, first and last population, real texts.

.venv/bin/python -m benchmarks.text_quality 3
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

from tests.text.test_offline import evolve_offline, prepare, quality

WORDS = ("first", "last", "real")


def main(seeds: int) -> None:
    """Prints a line a seed, then the medians."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rows = []
        for seed in range(seeds):
            evolve_offline(folder, f"run-{seed}", seed=seed)
            found = quality(folder, f"run-{seed}")
            rows.append([figure for word in WORDS for figure in dataclasses.astuple(found[word])])
            print(f"seed {seed}: {_said(rows[-1])}", flush=True)
        print(f"median: {_said([statistics.median(column) for column in zip(*rows, strict=True)])}")


def _said(row: list[float]) -> str:
    """Accuracy, Fréchet distance by kind and together: first population, last, real texts."""
    names = ("accuracy", "Fréchet by kind", "Fréchet together")
    return "; ".join(
        f"{name} {' -> '.join(f'{figure:.3f}' for figure in row[place:6:3])} (real texts {row[6 + place]:.3f})"
        for place, name in enumerate(names)
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
