"""The whole evolution, one Beam job an iteration: what `pe-beam run` does, with Beam's way of writing flags.

python -m pipelines.evolve --recipe=R.yaml --run_dir=runs/mine [Beam flags]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam.errors import PeBeamError
from pe_beam.runs.driver import evolve
from pe_beam.runs.recipe import load_recipe
from pipelines.iteration import build

__all__ = ["build", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs or resumes a recipe; returns the exit status."""
    parser = argparse.ArgumentParser(description="Runs a recipe to its end; run again, it resumes.")
    parser.add_argument("--recipe", required=True, help="a YAML recipe")
    parser.add_argument("--run_dir", required=True, help="made if it is not there")
    options, beam_args = parser.parse_known_args(argv)
    try:
        evolve(load_recipe(options.recipe), options.run_dir, beam_args, progress=sys.stderr)
    except PeBeamError as error:
        print(f"evolve: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
