"""`python -m pe_beam` is `pe-beam`."""

import sys

from pe_beam import console

console.begin("pe-beam: interrupted")

from pe_beam.cli.main import main  # noqa: E402  (Ctrl-C is ours from here on)

sys.exit(main())
