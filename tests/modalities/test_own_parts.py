"""A source, a search engine and a store of someone else's, installed as docs/own-parts.md tells, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks
from tests.commands import run_with
from tests.whole_runs import ROOT, UNASKED

EXAMPLE = ROOT / "docs/examples/parts"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the package is installed."""
    place, source = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("source")
    shutil.copytree(EXAMPLE, source, dirs_exist_ok=True)  # a build writes beside its source
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", place, source]
    subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parents[1])})
    return place


def test_their_own_tests_pass(installed: Path) -> None:
    """Python finds the package by its path, as that of a user does."""
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH")]))
    command = [forks.python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_parts.py")]
    env = {**os.environ, "PYTHONPATH": path}
    found = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=900, cwd=EXAMPLE)
    assert found.returncode == 0, found.stdout


def test_a_run_uses_all_three(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("# public\n" + "\n".join(f"word {i % 7} of {i}" for i in range(60)))
    recipe = {
        **UNASKED,
        "name": "parts",
        "data": {"source": "lines", "path": "texts.txt", "options": {"comment": "#"}},
        "execution": {"search_engine": "every"},
    }
    (tmp_path / "text.yaml").write_text(json.dumps(recipe))
    plan = run_with(installed, tmp_path, "plan", "text.yaml", "--json")
    assert plan.returncode == 0, plan.stderr
    small = ["--set", "evolution.iterations=1", "--set", "evolution.samples=40"]
    every = ["--set", "execution.search_engine=every"]
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    base = ["run", "digits", "--secret-file", "secret", *small, "--run-dir"]
    for where, more in (("plain", []), (f"sqlite://{tmp_path}/run.db", every)):
        found = run_with(installed, tmp_path, *base, where, *more)
        assert found.returncode == 0, found.stderr
    for where, name in (("plain", "one.jsonl"), (f"sqlite://{tmp_path}/run.db", "two.jsonl")):
        out = run_with(installed, tmp_path, "export", where, "--to", name)
        assert out.returncode == 0, out.stderr
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_without_the_package_they_are_refused_by_name(tmp_path: Path) -> None:
    for key, value, told in (
        ("data.source", "lines", "data.source: 'lines' is not known"),
        ("execution.search_engine", "every", "execution.search_engine: 'every' is not known"),
    ):
        found = run_with(None, tmp_path, "run", "digits", "--run-dir", "run", "--set", f"{key}={value}")
        assert found.returncode == 2
        assert told in found.stderr
    found = run_with(None, tmp_path, "status", f"sqlite://{tmp_path}/run.db")
    assert found.returncode in (1, 2) and "no store is known by sqlite://" in found.stderr
