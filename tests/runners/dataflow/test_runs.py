"""Whole runs on Dataflow with the run directory on gs://: the real runner of Beam against a service on this machine."""

from __future__ import annotations

from hashlib import sha256
from types import SimpleNamespace

from pe_beam.driver import loop
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import open_store
from tests.whole_runs import SMALL, Runs, release_digests


def digests(uri: str) -> dict[str, str]:
    store = open_store(uri)
    names = store.list_files("release")
    return {name.removeprefix("release/"): sha256(store.read(name)).hexdigest() for name in names}


def test_a_run_releases_the_same_bytes(cloud: SimpleNamespace, runs: Runs) -> None:
    local = runs.finished(SMALL)
    run = loop.evolve(parse_recipe(SMALL), cloud.uri, cloud.flags, secret_file=runs.secret_file)
    assert digests(cloud.uri) == release_digests(local)
    assert run.store.read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()
    assert cloud.service.names() == ["ingest", "iteration-00", "iteration-01", "iteration-02"]
