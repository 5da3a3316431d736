"""The whole evolution: what `pe-beam run` does, with Beam's way of writing flags.

    python -m pipelines.evolve --recipe=R.yaml --run_dir=runs/mine [--unroll] [Beam flags]

One Beam job an iteration, or with --unroll one job of all iterations, which `build` makes.

With --template_location (a launcher of templates gives it) or --no_wait_until_finish one job of all iterations is left
to itself, and finishes the run. It needs frozen embeddings: `pipelines.embed` makes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console
from pe_beam.launch.parameters import RECIPE, RUN_DIR, Kind, Parameter, Program, interrupted

if __name__ == "__main__":
    console.begin(interrupted("evolve"))

from pe_beam.driver.launching import launch_evolution
from pe_beam.driver.loop import evolve
from pe_beam.engine.graphs.evolution import Config, build
from pe_beam.recipe.loading import load_recipe
from pe_beam.runners.leaving import leaves

__all__ = ["PROGRAM", "Config", "build", "main"]

PROGRAM = Program(
    name="evolve",
    title="Private Evolution: all iterations",
    text=(
        "Runs a recipe to its end; run again, it resumes. Launched as a template, it is one job of all iterations, "
        "which finishes the run: it needs the frozen embeddings that the template embed makes, and spends the whole "
        "budget when it is launched."
    ),
    parameters=(
        RECIPE,
        RUN_DIR,
        Parameter(
            name="unroll",
            label="Unroll",
            text="one Beam job for all iterations",
            kind=Kind.SWITCH,
            optional=True,
            launched=False,  # a launcher makes one job, so it has no choice
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs or resumes a recipe; returns the exit status."""
    return PROGRAM.run(_run, argv)


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    recipe = load_recipe(options.recipe)
    if leaves(beam_args):
        launch_evolution(recipe, options.run_dir, beam_args)
    else:
        evolve(recipe, options.run_dir, beam_args, progress=sys.stderr, unroll=options.unroll)


if __name__ == "__main__":
    sys.exit(main())
