"""The offline text recipe over several seeds: classifier and Fréchet distance, first and last population, real texts.

python benchmarks/text_quality.py [--seeds 3] [--toy]
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)

from tests.modalities.text.offline import FULL, evolve_offline, prepare, quality

WORDS = ("first", "last", "real")


def main() -> None:
    """Prints a line a seed, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="nothing is run: the test of this recipe does the same")
    options = parser.parse_args()
    if options.toy:
        print("tests/modalities/text/test_offline.py runs it")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, FULL)
        rows = []
        for seed in range(options.seeds):
            evolve_offline(folder, f"run-{seed}", FULL, seed=seed)
            found = quality(folder, f"run-{seed}", FULL)
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
    main()
