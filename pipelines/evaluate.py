"""Quality of a complete run's samples against real records, as one Beam job. NOT a release: it writes to private/.

python -m pipelines.evaluate --run_dir=runs/mine [--against=PATH] [--iterations=all] [Beam flags]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console

if __name__ == "__main__":
    console.begin("evaluate: interrupted; run it again, it goes on from here")

from pe_beam.errors import PeBeamError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.evaluation.graph import Config, build
from pe_beam.evaluation.setting import RESULT

__all__ = ["Config", "build", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates a run; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measures samples against real records; NOT a release.")
    parser.add_argument("--run_dir", required=True, help="a complete run")
    parser.add_argument("--against", help="real data; default: the recipe's data.holdout")
    parser.add_argument("--iterations", default="last", choices=("last", "all"), help="populations to measure")
    parser.add_argument("--language_model", help="texts: a pretrained causal model to tune on the samples")
    options, beam_args = parser.parse_known_args(argv)
    try:
        told = {"language_model": options.language_model} if options.language_model else {}
        evaluate(
            options.run_dir,
            beam_args,
            against=options.against,
            iterations=options.iterations,
            options=told,
            progress=sys.stderr,
        )
    except KeyboardInterrupt:
        return console.leave("evaluate: interrupted; run it again, it goes on from here")
    except PeBeamError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{options.run_dir}/{RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
