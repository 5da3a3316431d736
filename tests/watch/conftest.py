"""The browser of the report's tests, and a finished run that is served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pe_beam.watch.server import Serving, serving
from tests.report.conftest import browser  # noqa: F401
from tests.whole_runs import SMALL, Runs, copied


@pytest.fixture(scope="module")
def digits(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped half-way, so that its private files and its secret are still there."""
    return copied(runs.half(SMALL), tmp_path_factory.mktemp("watched") / "run")


@pytest.fixture(scope="module")
def served(digits: Path) -> Iterator[Serving]:
    """The page of that run."""
    with serving(str(digits)) as found:
        yield found
