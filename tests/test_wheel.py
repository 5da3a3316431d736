"""What is built holds what it needs: the wheel, alone in an empty environment, runs a shipped recipe."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not UV.exists():
        pytest.skip("the wheel was NOT tested: no uv beside this Python (make test brings it)")
    folder = tmp_path_factory.mktemp("dist")
    _run(UV, "build", "--quiet", "--python", sys.executable, "--out-dir", folder, ROOT)
    return folder


def _run(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
    }
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=clean, timeout=600, **more
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_wheel_and_sdist_hold_templates_pipelines_and_recipes(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"pipelines/evolve.py", "pe_beam/templates/recipes/digits.yaml", "pe_beam/templates/flink/pom.xml"} <= names
    assert {"pe_beam/report/page/page.html", "pe_beam/py.typed"} <= names
    with tarfile.open(sdist) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert {"pipelines/evolve.py", "templates/recipes/digits.yaml", "templates/recipe.schema.json"} <= inside


def test_it_runs_the_digits_recipe_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    _run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    _run(UV, "pip", "install", "--quiet", "--python", python, wheel)
    small = ["--set", "evolution.iterations=1", "--set", "evolution.samples=100"]
    _run(tmp_path / "venv/bin/pe-beam", "run", "digits", "--run-dir", tmp_path / "run", *small, cwd=tmp_path)
    assert (tmp_path / "run/release/report.html").exists()
    said = _run(python, "-c", "import pe_beam; print(pe_beam.__version__)", cwd=tmp_path).stdout.strip()
    assert said == wheel.name.split("-")[1]
