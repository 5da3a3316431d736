"""Runs the command `pe-beam` for `python -m pe_beam`."""

import sys

from pe_beam import console

console.begin("pe-beam: interrupted")

from pe_beam.cli.main import main  # noqa: E402  (from here on `console` handles Ctrl-C)

sys.exit(main())
