"""A package of someone else's: what docs/own-parts.md shows, installed and run as its reader would."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from tests import forks
from tests.commands import run_with
from tests.whole_runs import ROOT

EXAMPLE = ROOT / "docs/examples/discs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder in which the example is installed, by its own entry points."""
    place = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    for file in EXAMPLE.iterdir():  # a build writes beside its source
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", place, source]
    subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parents[1])})
    return place


def test_its_own_tests_pass(installed):
    """Python finds the package by its path, as that of a user does."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))}
    command = [forks.python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_discs.py")]
    found = subprocess.run(command, check=False, env=env, capture_output=True, text=True, cwd=EXAMPLE)
    assert found.returncode == 0, found.stdout


def _sizes(images):
    return [(np.asarray(Image.open(io.BytesIO(data))) > 38).mean() for data in images]


def test_its_recipe_runs_and_finds_the_size_of_the_private_discs(installed, tmp_path):
    """Private discs have radius 0.12 to 0.2; at random they have up to 0.45."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for index in range(2000):
        picture, radius = Image.new("L", (32, 32)), rng.uniform(0.12, 0.2)
        box = (32 * (0.5 - radius),) * 2 + (32 * (0.5 + radius),) * 2
        ImageDraw.Draw(picture).ellipse(box, fill=int(rng.uniform(150, 250)))
        picture.save(tmp_path / f"pictures/{index}.png")
    found = run_with(installed, tmp_path, "run", str(EXAMPLE / "discs.yaml"), "--run-dir", "run")
    assert found.returncode == 0, found.stderr
    release = tmp_path / "run/release"
    first = _sizes(pq.read_table(release / "iteration=0000/population/part-00000.parquet")["image"].to_pylist())
    last = _sizes(pq.read_table(release / "samples.parquet")["image"].to_pylist())
    private = _sizes([path.read_bytes() for path in (tmp_path / "pictures").iterdir()])
    assert np.mean(first) > 1.5 * np.mean(private)
    assert abs(np.mean(last) - np.mean(private)) < 0.25 * np.mean(private)


def test_without_the_package_the_recipe_is_refused_by_name(tmp_path):
    found = run_with(None, tmp_path, "plan", str(EXAMPLE / "discs.yaml"))
    assert found.returncode == 2
    assert "generator.name: 'discs' is not known" in found.stderr


def test_the_page_shows_the_code_that_is_tested():
    page = (ROOT / "docs/own-parts.md").read_text()
    for name in ("discs.py", "pyproject.toml", "test_discs.py"):
        assert (EXAMPLE / name).read_text() in page, f"docs/own-parts.md does not show {name} as it is"
