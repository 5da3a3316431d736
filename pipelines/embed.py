"""Private records -> frozen embedding shards, as one Beam job; the first step of every run.

python -m pipelines.embed --recipe=R.yaml --run_dir=runs/mine [Beam flags]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pe_beam import console

if __name__ == "__main__":
    console.begin("embed: interrupted; run it again, it goes on from here")

from pe_beam.driver.loop import embed_only
from pe_beam.engine.graphs.ingest import Config, build
from pe_beam.errors import PeBeamError
from pe_beam.recipe.loading import load_recipe

__all__ = ["Config", "build", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds and freezes the private records; returns the exit status."""
    parser = argparse.ArgumentParser(description="Embeds the private records of a recipe, once.")
    parser.add_argument("--recipe", required=True, help="a YAML recipe")
    parser.add_argument("--run_dir", required=True, help="made if it is not there")
    options, beam_args = parser.parse_known_args(argv)
    try:
        embed_only(load_recipe(options.recipe), options.run_dir, beam_args)
    except KeyboardInterrupt:
        return console.leave("embed: interrupted; run it again, it goes on from here")
    except PeBeamError as error:
        print(f"embed: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
