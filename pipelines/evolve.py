"""The whole evolution: what `pe-beam run` does, with Beam's way of writing flags.

    python -m pipelines.evolve --recipe=R.yaml --run_dir=runs/mine [--unroll] [Beam flags]

One Beam job an iteration, or with --unroll one job of all iterations, which `build` makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console

if __name__ == "__main__":
    console.begin("evolve: interrupted; run it again, it goes on from here")

from pe_beam.driver.loop import evolve
from pe_beam.engine.graphs.evolution import Config, build
from pe_beam.errors import PeBeamError
from pe_beam.recipe.loading import load_recipe

__all__ = ["Config", "build", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs or resumes a recipe; returns the exit status."""
    parser = argparse.ArgumentParser(description="Runs a recipe to its end; run again, it resumes.")
    parser.add_argument("--recipe", required=True, help="a YAML recipe")
    parser.add_argument("--run_dir", required=True, help="made if it is not there")
    parser.add_argument("--unroll", action="store_true", help="one Beam job for all iterations")
    options, beam_args = parser.parse_known_args(argv)
    try:
        evolve(load_recipe(options.recipe), options.run_dir, beam_args, progress=sys.stderr, unroll=options.unroll)
    except KeyboardInterrupt:
        return console.leave("evolve: interrupted; run it again, it goes on from here")
    except PeBeamError as error:
        print(f"evolve: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
