"""The whole evolution: what `pe-beam run` does, with Beam's way of writing flags.

    python -m pipelines.evolve --recipe=R.yaml --run_dir=runs/mine [--unroll] [Beam flags]

One Beam job an iteration, or with --unroll one job of all iterations, which `build` makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pe_beam import console

if __name__ == "__main__":
    console.begin("evolve: interrupted; run it again, it goes on from here")

import apache_beam as beam

from pe_beam.driver.loop import evolve
from pe_beam.engine.graphs.evolution import Evolution
from pe_beam.errors import PeBeamError
from pe_beam.recipe.loading import load_recipe


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the unrolled graph needs to know; all else is in the run directory."""

    run_dir: str
    first: int
    last: int
    unit: str
    label_shares: bool


def build(root: beam.Pipeline, config: Config) -> beam.PCollection:
    """The graph of all iterations from `first` to `last`, for any runner: gives the last manifest's name."""
    evolution = Evolution(
        config.run_dir,
        first=config.first,
        last=config.last,
        unit=config.unit,
        label_shares=config.label_shares,
    )
    return root | "Start" >> beam.Create([0]) | "Evolution" >> evolution


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
