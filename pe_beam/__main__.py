"""`python -m pe_beam` is `pe-beam`."""

import sys

from pe_beam.cli import main

sys.exit(main())
