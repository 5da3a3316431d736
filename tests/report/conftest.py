"""One finished run of real digits for all tests of the report, and a browser where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.whole_runs import SMALL, Runs


@pytest.fixture(scope="session")
def digits(runs: Runs) -> Path:
    """The run directory; nothing may be changed in it."""
    return runs.finished(SMALL)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; where it is missing, the tests are skipped and it is said."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"The report was NOT tested in a browser: none of {', '.join(names)} is on PATH")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()
