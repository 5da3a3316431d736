"""Every script in benchmarks/ runs, from any folder: found by listing, each at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compiled modules are kept between the scripts, and threads that wait for each other do not spin."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode")), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_runs_at_toy_size_from_any_folder(script: str, tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, str(FOLDER / script), "--toy"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_the_readme_lists_every_script() -> None:
    listed = (FOLDER / "README.md").read_text()
    assert [script for script in SCRIPTS if f"`{script}`" not in listed] == []
