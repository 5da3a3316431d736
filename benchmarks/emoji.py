"""The recipe emoji over several seeds: how near its first and last populations are to the private pictures.

python docs/examples/emoji/fetch.py data/emoji, then python benchmarks/emoji.py [--seeds 5] [--toy]

Accuracy of the nearest neighbour on the private pictures' category, and Fréchet distance to them, both in the space of
efficientnet-lite0. It says so and leaves where the pictures are not there.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)

from tests.modalities.image.emoji import PICTURES, evolve_emoji, nearness


def main() -> None:
    """Prints a line a seed, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="nothing is run: the test of this recipe does the same")
    options = parser.parse_args()
    if not (PICTURES / "public").is_dir():
        print(f"no pictures in {PICTURES}: python docs/examples/emoji/fetch.py data/emoji")
        return
    if options.toy:
        print("tests/modalities/image/test_emoji.py runs it")
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seeds):
            evolve_emoji(Path(name) / f"run-{seed}", generator__index=f"{name}/index", seed=seed)
            found = nearness(Path(name) / f"run-{seed}")
            rows.append([*found["first"], *found["last"]])
            print(f"seed {seed}: {_said(rows[-1])}", flush=True)
    print(f"median: {_said([statistics.median(column) for column in zip(*rows, strict=True)])}")


def _said(row: list[float]) -> str:
    return f"accuracy {row[0]:.3f} -> {row[2]:.3f}, Fréchet distance {row[1]:.0f} -> {row[3]:.0f}"


if __name__ == "__main__":
    main()
