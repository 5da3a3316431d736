"""Private records -> frozen embedding shards, as one Beam job; the first step of every run.

python -m pipelines.embed --recipe=R.yaml --run_dir=runs/mine [Beam flags]

With --template_location (a launcher of templates gives it) or --no_wait_until_finish the job is left to itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console
from pe_beam.launch.parameters import RECIPE, RUN_DIR, Program, interrupted

if __name__ == "__main__":
    console.begin(interrupted("embed"))

from pe_beam.driver.launching import launch_embed
from pe_beam.driver.loop import embed_only
from pe_beam.engine.graphs.ingest import Config, build
from pe_beam.recipe.loading import load_recipe
from pe_beam.runners.leaving import leaves

__all__ = ["PROGRAM", "Config", "build", "main"]

PROGRAM = Program(
    name="embed",
    title="Private Evolution: embed",
    text="Embeds the private records of a recipe, once, and freezes the embeddings. Spends no privacy budget.",
    parameters=(RECIPE, RUN_DIR),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds and freezes the private records; returns the exit status."""
    return PROGRAM.run(_run, argv)


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    embed = launch_embed if leaves(beam_args) else embed_only
    embed(load_recipe(options.recipe), options.run_dir, beam_args)


if __name__ == "__main__":
    sys.exit(main())
