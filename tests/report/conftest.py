"""One finished run of real digits for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.whole_runs import SMALL, Runs


@pytest.fixture(scope="session")
def digits(runs: Runs) -> Path:
    """The run directory; nothing may be changed in it."""
    return runs.finished(SMALL)
