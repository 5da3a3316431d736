"""Shared set-up: a small recipe and a fixed secret for runs that have to be repeatable."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

UNTESTED = "Flink was NOT tested: "
SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "source": "sklearn",
        "path": "digits",
        "labels": [str(x) for x in range(10)],
        "holdout": {"share": 0.3, "random_state": 0},
        "expected_records": 1250,
    },
    "modality": "image",
    "generator": {"name": "text-render", "side": 16},
    "embedder": {"name": "pixels", "size": 8},
    "evolution": {"iterations": 2, "samples": 40},
    "privacy": {"epsilon": 1, "delta": 1e-5},
}


@pytest.fixture
def small() -> dict[str, Any]:
    """A recipe on real digits that runs in seconds, as plain data that a test may change."""
    return copy.deepcopy(SMALL)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """32 bytes that make a run repeatable."""
    path = tmp_path / "given.secret"
    path.write_bytes(bytes(range(32)))
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says aloud which runners were left out: a skip is easily overlooked."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        if "NOT tested" in reason:
            terminalreporter.write_sep("=", reason.removeprefix("Skipped: "), yellow=True, bold=True)
