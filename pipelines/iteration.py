"""One iteration of a run as one Beam job.

    python -m pipelines.iteration --run_dir=runs/digits --iteration=3 [Beam flags]

The run directory holds recipe, secret, frozen embeddings and the population before. Run twice, it does nothing
the second time; the ledger line is written before the job starts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console

if __name__ == "__main__":
    console.begin("iteration: interrupted; run it again, it goes on from here")

from pe_beam.driver.loop import run_one
from pe_beam.engine.graphs.iteration import Config, build
from pe_beam.errors import PeBeamError

__all__ = ["Config", "build", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one iteration; returns the exit status."""
    parser = argparse.ArgumentParser(description="One iteration of a run; idempotent.")
    parser.add_argument("--run_dir", required=True, help="a run directory with frozen embeddings")
    parser.add_argument("--iteration", type=int, required=True, help="0 to evolution.iterations")
    options, beam_args = parser.parse_known_args(argv)
    try:
        run_one(options.run_dir, options.iteration, beam_args)
    except KeyboardInterrupt:
        return console.leave("iteration: interrupted; run it again, it goes on from here")
    except PeBeamError as error:
        print(f"iteration: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
