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

from tests.modalities.text.offline import FULL, Size, evolve_offline, prepare, quality

WORDS = ("first", "last", "real")
TOY = Size(
    private=30,
    held_out=30,
    samples=10,
    training_steps=2,
    changed={"evolution.samples": 20, "evolution.population": 40, "evolution.iterations": 1, "embedder.batch_size": 8},
)


def main() -> None:
    """Prints a line a seed, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = TOY if options.toy else FULL
        prepare(folder, size)
        rows = []
        for seed in range(1 if options.toy else options.seeds):
            evolve_offline(folder, f"run-{seed}", size, seed=seed)
            found = quality(folder, f"run-{seed}", size)
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
