"""A whole run whose directory lies in memory: nothing above the contract needs a path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.cli.main import main
from pe_beam.contracts.store import Folder
from pe_beam.driver.export import export
from pe_beam.driver.loop import embed_only, evolve, run_one
from pe_beam.driver.reporting import report
from pe_beam.driver.status import privacy, status
from pe_beam.engine.run import open_run
from pe_beam.errors import InputError, LockedError, SecretError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.evaluation.setting import WORK
from pe_beam.recipe.loading import parse_recipe
from pe_beam.report.build import history_of
from pe_beam.storage import open_store

pytestmark = pytest.mark.reported


def _release(uri: str | Path) -> dict[str, bytes]:
    store = open_store(uri)
    return {name: store.read(name) for name in store.list_files("release")}


@pytest.fixture
def in_memory(request: pytest.FixtureRequest) -> str:
    uri = f"memory://{request.node.name}"
    request.addfinalizer(lambda: open_store(uri).delete_all(""))
    return uri


def test_a_run_in_memory_releases_the_same_bytes(
    small: dict[str, Any],
    tmp_path: Path,
    secret_file: Path,
    in_memory: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    recipe = parse_recipe(small)
    run = evolve(recipe, in_memory, secret_file=secret_file)
    assert sorted(tmp_path.iterdir()) == before
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    assert _release(in_memory) == _release(tmp_path / "run")
    assert run.store.read("ledger.jsonl") == (tmp_path / "run/ledger.jsonl").read_bytes()
    assert not run.store.exists("private/secret.key")

    # All that may be asked of a run.
    assert status(in_memory)["state"] == "complete"
    assert privacy([in_memory])["runs"][0]["dir"] == in_memory
    with pytest.raises(InputError, match="named twice"):
        privacy([in_memory, in_memory])
    export(in_memory, tmp_path / "samples.csv")
    export(tmp_path / "run", tmp_path / "same.csv")
    assert (tmp_path / "samples.csv").read_bytes() == (tmp_path / "same.csv").read_bytes()
    assert report(in_memory) == f"{in_memory}/release/report.html"
    assert _release(in_memory) == _release(tmp_path / "run")
    history = history_of(Folder(run.store, "release"))
    assert history.population(2).equals(history_of(tmp_path / "run/release").population(2))
    found = evaluate(in_memory)
    assert json.loads(run.store.read("private/evaluation/evaluation.json")) == found
    assert run.store.list_files(WORK) == []
    evolve(recipe, in_memory)  # complete: nothing to do
    assert main(["status", in_memory]) == 0
    assert main(["purge", in_memory]) == 0
    left = {name.split("/")[0] for name in run.store.list_files()}
    assert left == {"ledger.jsonl", "recipe.yaml", "release", "secret.json"}
    assert _release(in_memory) == _release(tmp_path / "run")
    capsys.readouterr()


def test_a_run_in_memory_resumes_and_keeps_its_rules(
    small: dict[str, Any], tmp_path: Path, secret_file: Path, in_memory: str
) -> None:
    recipe = parse_recipe(small)
    embed_only(recipe, in_memory)
    run = open_run(in_memory)
    assert run.store.size("private/secret.key") == 32
    run_one(in_memory, 0)
    run_one(in_memory, 1)
    with pytest.raises(SecretError, match="not the secret of this run"):
        evolve(recipe, in_memory, secret_file=secret_file)
    with run.store.lock(), pytest.raises(LockedError, match="another process is running"):
        evolve(recipe, in_memory)
    held = run.store.read("private/secret.key")
    run.store.delete("private/secret.key")
    with pytest.raises(SecretError, match="budget is spent but"):
        evolve(recipe, in_memory)
    run.store.commit("private/secret.key", held)
    first = run.store.read("release/iteration=0001/manifest.json")
    evolve(recipe, in_memory)
    assert run.store.read("release/iteration=0001/manifest.json") == first
    assert status(in_memory)["state"] == "complete"
