"""One iteration of a run as one Beam job.

    python -m pipelines.iteration --run_dir=runs/digits --iteration=3 [Beam flags]

The run directory holds recipe, secret, frozen embeddings and the population before. Run twice, it does nothing
the second time; the ledger line is written before the job starts.

With --template_location (a launcher of templates gives it) or --no_wait_until_finish the job is left to itself. The job
of the last iteration then finishes the run as well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console
from pe_beam.launch.parameters import RUN_DIR, Kind, Parameter, Program, interrupted

if __name__ == "__main__":
    console.begin(interrupted("iteration"))

from pe_beam.driver.launching import launch_iteration
from pe_beam.driver.loop import run_one
from pe_beam.engine.graphs.iteration import Config, build
from pe_beam.runners.leaving import leaves

__all__ = ["PROGRAM", "Config", "build", "main"]

PROGRAM = Program(
    name="iteration",
    title="Private Evolution: one iteration",
    text=(
        "Makes one iteration of a run whose embeddings are frozen: vote, noisy histogram, selection, variation. "
        "Launched again, it makes nothing a second time. Launched as a template, the last iteration finishes the run."
    ),
    parameters=(
        RUN_DIR,
        Parameter(
            name="iteration",
            label="Iteration",
            text="0 to evolution.iterations; all earlier ones have to be there",
            kind=Kind.COUNT,
            pattern=r"[0-9]{1,4}",
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one iteration; returns the exit status."""
    return PROGRAM.run(_run, argv)


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    iterate = launch_iteration if leaves(beam_args) else run_one
    iterate(options.run_dir, options.iteration, beam_args)


if __name__ == "__main__":
    sys.exit(main())
