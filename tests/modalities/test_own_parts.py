"""A source, a search engine and a store of someone else's, installed as docs/own-parts.md tells, and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole_runs import ROOT

EXAMPLE = ROOT / "docs/examples/parts"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is installed, in a folder of its own."""
    place, source = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("source")
    shutil.copytree(EXAMPLE, source, dirs_exist_ok=True)  # a build writes beside its source
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", place, source]
    subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": str(Path(sys.executable).parents[1])})
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))}


def _run(arguments: list[str], env: dict[str, str], **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=300, **more)


def test_their_own_tests_pass(installed: dict[str, str]) -> None:
    test = str(EXAMPLE / "test_parts.py")
    found = _run(["pytest", "-q", "-p", "no:cacheprovider", test], installed, cwd=EXAMPLE)
    assert found.returncode == 0, found.stdout


def test_a_run_uses_all_three(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("# public\n" + "\n".join(f"word {i % 7} of {i}" for i in range(60)))
    recipe = {
        "name": "parts",
        "data": {"source": "lines", "path": "texts.txt", "options": {"comment": "#"}},
        "modality": "text",
        "generator": {
            "name": "llm",
            "backend": "huggingface",
            "model": "",
            "random": {"user": "x"},
            "vary": {"user": "x"},
        },
        "embedder": {"name": "hashed-words", "dimension": 16},
        "evolution": {"iterations": 1, "samples": 10},
        "privacy": {"epsilon": 1, "delta": 1e-5},
        "execution": {"search_engine": "every"},
    }
    (tmp_path / "text.yaml").write_text(json.dumps(recipe))
    plan = _run(["pe_beam", "plan", "text.yaml", "--json"], installed, cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    small = ["--set", "evolution.iterations=1", "--set", "evolution.samples=40"]
    every = ["--set", "execution.search_engine=every"]
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    base = ["pe_beam", "run", "digits", "--secret-file", "secret", *small, "--run-dir"]
    for where, more in (("plain", []), (f"sqlite://{tmp_path}/run.db", every)):
        found = _run([*base, where, *more], installed, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
    for where, name in (("plain", "one.jsonl"), (f"sqlite://{tmp_path}/run.db", "two.jsonl")):
        out = _run(["pe_beam", "export", where, "--to", name], installed, cwd=tmp_path)
        assert out.returncode == 0, out.stderr
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_without_the_package_they_are_refused_by_name(tmp_path: Path) -> None:
    for key, value, told in (
        ("data.source", "lines", "data.source: 'lines' is not known"),
        ("execution.search_engine", "every", "execution.search_engine: 'every' is not known"),
    ):
        command = ["pe_beam", "run", "digits", "--run-dir", "run", "--set", f"{key}={value}"]
        found = _run(command, {**os.environ}, cwd=tmp_path)
        assert found.returncode == 2
        assert told in found.stderr
    found = _run(["pe_beam", "status", f"sqlite://{tmp_path}/run.db"], {**os.environ}, cwd=tmp_path)
    assert found.returncode in (1, 2) and "no store is known by sqlite://" in found.stderr
