"""Quality of a complete run's samples against real records, as one Beam job. NOT a release: it writes to private/.

python -m pipelines.evaluate --run_dir=runs/mine [--against=PATH] [--iterations=all] [Beam flags]

With --template_location (a launcher of templates gives it) or --no_wait_until_finish the job is left to itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from pe_beam import console
from pe_beam.launch.parameters import RUN_DIR, Kind, Parameter, Program, interrupted

if __name__ == "__main__":
    console.begin(interrupted("evaluate"))

from pe_beam.evaluation.evaluate import evaluate, launch_evaluation
from pe_beam.evaluation.graph import Config, build
from pe_beam.evaluation.setting import RESULT
from pe_beam.runners.leaving import leaves

__all__ = ["PROGRAM", "Config", "build", "main"]

PROGRAM = Program(
    name="evaluate",
    title="Private Evolution: evaluate",
    text=(
        "Measures the samples of a complete run against real records. NOT a release: it reads real records without "
        "noise and writes to private/evaluation/."
    ),
    parameters=(
        RUN_DIR,
        Parameter(
            name="against",
            label="Real data",
            text="real data of the recipe's kind; default: the recipe's data.holdout",
            optional=True,
            pattern=r"[a-z][a-z0-9+.-]*://.+",
        ),
        Parameter(
            name="iterations",
            label="Populations",
            text="populations to measure",
            kind=Kind.CHOICE,
            optional=True,
            default="last",
            choices=("last", "all"),
        ),
        Parameter(
            name="language_model",
            label="Language model",
            text="texts: a pretrained causal model to tune on the samples",
            optional=True,
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates a run; returns the exit status."""
    return PROGRAM.run(_run, argv)


def _run(options: argparse.Namespace, beam_args: list[str]) -> None:
    told = {"language_model": options.language_model} if options.language_model else {}
    about: dict[str, Any] = {"against": options.against, "iterations": options.iterations, "options": told}
    if leaves(beam_args):
        launch_evaluation(options.run_dir, beam_args, **about)
    else:
        evaluate(options.run_dir, beam_args, **about, progress=sys.stderr)
    print(f"{options.run_dir}/{RESULT}")


if __name__ == "__main__":
    sys.exit(main())
