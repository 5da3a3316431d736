"""Every script in benchmarks/ runs, from any folder: found by listing, each at toy size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts import Scripts

pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker: imports are paid for once
FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    """One interpreter for all; what it compiles is kept for the processes that scripts start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with Scripts(kept) as started:
        yield started


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_at_toy_size_from_any_folder(script: str, tmp_path: Path, scripts: Scripts) -> None:
    done = scripts.run([str(FOLDER / script), "--toy"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_the_readme_lists_every_script() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert [script for script in SCRIPTS if f"`{script}`" not in listed] == []
