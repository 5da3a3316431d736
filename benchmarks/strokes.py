"""Handwriting out of a diffusion model of printed digits: SVC accuracy over seeds, beside text-render untuned.

python benchmarks/strokes.py [--seeds 5] [--toy]

An SVC learns from the first population (the model's own samples: the floor), from the last one, and from the private
digits (the ceiling), and is tested on held-out handwriting. text-render has the same evolution and its default ranges.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import _place  # noqa: F401  (tests/ is on the path from here)
import torch

from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import load_recipe
from tests.modalities.image.strokes import FULL, Size, accuracies, evolve_strokes, train
from tests.whole_runs import ROOT

TOY = Size(
    training_steps=2,
    examples=20,
    changed={
        "evolution.samples": 20,
        "evolution.population": 20,
        "evolution.iterations": 1,
        "generator.random.steps": 2,
        "generator.vary.steps": 2,
        "generator.local.batch_size": 10,
    },
)
RENDERED = {
    "generator": {"name": "text-render", "side": 32},
    "evolution.degree": {"from": 0.5, "to": 0.1, "decay": "linear"},
}
EVOLUTION = {"evolution.iterations": 8, "evolution.samples": 1000, "evolution.population": 500}
"""Of strokes.yaml."""


def main() -> None:
    """Prints a line a seed, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    size = TOY if options.toy else FULL
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder / "model", size)
        for seed in range(1 if options.toy else options.seeds):
            evolve_strokes(folder / "model", folder / f"run-{seed}", size, seed=seed)
            found = accuracies(folder / f"run-{seed}")
            kept = {key: value for key, value in size.changed.items() if key.startswith("evolution")}
            changed = {"seed": seed, **EVOLUTION, **RENDERED, **kept}
            recipe = load_recipe(ROOT / "templates/recipes/digits.yaml", changed)
            evolve(recipe, folder / f"rendered-{seed}")
            rows.append([found["first"], found["last"], found["real"], accuracies(folder / f"rendered-{seed}")["last"]])
            print(f"seed {seed}: {_said(rows[-1])}", flush=True)
    print(f"median: {_said([statistics.median(column) for column in zip(*rows, strict=True)])}")


def _said(row: list[float]) -> str:
    first, last, real, rendered = row
    share = (last - first) / (real - first)
    return (
        f"first population {first:.3f}, last {last:.3f}, private digits {real:.3f}: {share:.2f} of the way; "
        f"text-render untuned {rendered:.3f}"
    )


if __name__ == "__main__":
    main()
