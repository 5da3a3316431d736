"""Whole runs on object stores: the same release and ledger as on a disk, few requests, and a secret that is gone."""

from __future__ import annotations

import itertools
import json
from hashlib import sha256
from typing import Any

import pytest

from pe_beam.cli.main import main
from pe_beam.contracts.store import Store
from pe_beam.driver import loop
from pe_beam.driver.status import status
from pe_beam.errors import LockedError, SecretError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import leases, open_store
from tests.storage.proxy import BUSY, LATE, LOST, Proxy
from tests.storage.servers import Server
from tests.storage.test_retention import keeping
from tests.whole_runs import SMALL, Runs, release_digests

MOST = 60
"""Requests to the store in an iteration."""
_NEXT = itertools.count(20_000)


def _digests(store: Store) -> dict[str, str]:
    names = store.list_files("release")
    return {name.removeprefix("release/"): sha256(store.read(name)).hexdigest() for name in names}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> list[int]:
    """How many requests each iteration made; a slow one is no reason to renew its lease in between."""
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "600")
    found: list[int] = []
    real = loop.run_iteration

    def count(*given: Any) -> None:
        before = len(proxy.requests)
        real(*given)
        found.append(len(proxy.requests) - before)

    monkeypatch.setattr(loop, "run_iteration", count)
    return found


def test_a_run_releases_the_same_bytes_as_on_a_disk(
    server: Server, counted: list[int], runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    local, uri = runs.finished(SMALL), f"{server.kind}://runs/{next(_NEXT)}/a run"
    recipe = parse_recipe(SMALL)
    run = loop.evolve(recipe, uri, secret_file=runs.secret_file)
    assert _digests(run.store) == release_digests(local)
    assert run.store.read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()
    assert not run.store.exists("private/secret.key")
    assert len(counted[-3:]) == 3
    assert 0 < max(counted) <= MOST, counted
    loop.evolve(recipe, uri)  # complete: nothing to do
    assert status(uri)["state"] == "complete"
    assert main(["purge", uri]) == 0
    left = {name.split("/")[0] for name in run.store.list_files()}
    assert left == {"ledger.jsonl", "recipe.yaml", "release", "secret.json"}
    assert not run.store.locked()
    capsys.readouterr()


def test_a_run_whose_writes_go_wrong_releases_the_same_bytes(server: Server, proxy: Proxy, runs: Runs) -> None:
    """Every fourth write: one answer is lost, one comes too late, one is refused."""
    proxy.fault = lambda change, _: None if change % 4 else (LOST, LATE, BUSY)[change // 4 % 3]
    local, uri = runs.finished(SMALL), f"{server.kind}://runs/{next(_NEXT)}"
    run = loop.evolve(parse_recipe(SMALL), uri, secret_file=runs.secret_file)
    assert proxy.changes > 40
    assert _digests(run.store) == release_digests(local)
    assert run.store.read("ledger.jsonl") == (local / "ledger.jsonl").read_bytes()


def test_no_secret_is_laid_where_what_is_deleted_lives_on(server: Server, small: dict[str, Any]) -> None:
    with keeping(server) as bucket:
        uri = f"{bucket}/{next(_NEXT)}"
        with pytest.raises(SecretError, match=r"(versioning|soft delete) is on, and a secret that is deleted must be"):
            loop.evolve(parse_recipe(small), uri)
        left = open_store(uri).list_files()
    assert left == ["recipe.yaml"]


def test_a_driver_that_lost_its_lock_stops_before_it_spends(
    store: Store, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes the lock over after the data were embedded: no ledger line is written from then on."""
    real = loop.check_ledger

    def taken_over(run: Any) -> None:
        lease = leases.holding(_lock(store).place)
        assert lease is not None
        _steal(store)
        lease._thread.join(60)  # it ends when a renewal finds another holder
        real(run)

    monkeypatch.setattr(loop, "check_ledger", taken_over)
    with pytest.raises(LockedError, match="could not renew its hold"):
        loop.evolve(parse_recipe(small), store.uri)
    assert not store.exists("ledger.jsonl")


def _steal(store: Store) -> None:
    """Writes another holder into the lock, as one does that has seen it expire."""
    written = None
    while written is None:  # the holder may have renewed it since it was read
        found = _lock(store).read()
        other = {**json.loads(found.body), "holder": "another", "fence": 2}
        written = _lock(store).write(json.dumps(other).encode(), found.version)


def _lock(store: Store) -> Any:
    return store._cell("work/lock")  # type: ignore[attr-defined]
