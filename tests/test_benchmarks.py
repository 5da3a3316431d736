"""Every script in benchmarks/ runs, from any folder: found by listing, each at toy size."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import forks

pytestmark = pytest.mark.xdist_group("benchmarks")  # one worker: beside each other they would not measure anything
FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_at_toy_size_from_any_folder(script: str, tmp_path: Path) -> None:
    command = [forks.python(), FOLDER / script, "--toy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_the_readme_lists_every_script() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert [script for script in SCRIPTS if f"`{script}`" not in listed] == []
