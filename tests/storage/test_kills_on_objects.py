"""`kill -9` at every commit point of a run on a store, and two drivers at once: same bytes, one line an iteration."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pe_beam.driver import loop
from pe_beam.errors import LockedError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.storage import open_store
from tests.storage.conftest import KINDS
from tests.storage.proxy import KILLED, before
from tests.storage.servers import Server, found, program_of
from tests.whole_runs import Runs, release_digests

_NEXT = itertools.count(50_000)
_LEASE = "work/lock.lease"
_ALL = "PE_BEAM_ALL_KILLS" in os.environ
_AT = re.compile(
    r".*(secret\.key|embeddings/index\.json|ledger\.jsonl|iteration=0001/(matrix\.npy|histogram.*|manifest\.json)"
    r"|(counts|noised)/.*|chunks/.*|release/privacy\.json|samples\.parquet)"
)
"""What commits something that is not made again; the others are killed at with PE_BEAM_ALL_KILLS=1, 41 kills in all."""


@pytest.fixture
def one(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """One server of those that are at hand: what is killed here is ours."""
    server = servers(next((kind for kind in KINDS if found(program_of(kind))), "gs"))
    for name, text in {**server.environment, "PE_BEAM_LEASE_SECONDS": "5"}.items():
        monkeypatch.setenv(name, text)
    return server


def _check(uri: str, wanted: Path) -> None:
    store = open_store(uri)
    names = store.list_files("release")
    assert {name.removeprefix("release/"): store.digest(name) for name in names} == release_digests(wanted)
    assert store.read("ledger.jsonl") == (wanted / "ledger.jsonl").read_bytes()
    assert not store.exists("private/secret.key")


def _drive(recipe: dict[str, Any], uri: str, secret: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    try:
        loop.evolve(parse_recipe(recipe), uri, secret_file=secret)
    except LockedError:
        os._exit(3)
    os._exit(0)


def _driver(*given: Any) -> multiprocessing.Process:
    """A driver of its own, forked: the imports are done."""
    process = multiprocessing.get_context("fork").Process(target=_drive, args=given)
    process.start()
    return process  # type: ignore[return-value]


def test_a_driver_that_is_killed_after_each_of_its_writes(one: Server, small: dict[str, Any], runs: Runs) -> None:
    """One run: killed right after the first write of a file, and after its deletion, and started again each time."""
    small["evolution"] = {"iterations": 1, "samples": 10}
    top, seen, killed = f"{next(_NEXT)}/run", list[str](), 0
    uri, driver = f"{one.kind}://runs/{top}", None

    def fault(_: int, asked: str) -> str | None:
        name = re.sub(r"(probe)-\w+", r"\1", unquote(asked).rpartition(f"{top}/")[2].partition("?")[0])
        if name == _LEASE or not (_ALL or _AT.fullmatch(name)) or f"{asked.split(maxsplit=1)[0]} {name}" in seen:
            return None
        seen.append(f"{asked.split(maxsplit=1)[0]} {name}")
        return KILLED

    def kill() -> None:
        assert driver is not None
        driver.kill()

    with before(one.port) as proxy:
        proxy.fault, proxy.kill = fault, kill
        while True:
            driver = _driver(small, uri, runs.secret_file, one.behind(proxy.port))
            driver.join(300)
            if driver.exitcode == 0:
                break
            assert driver.exitcode == -9, seen[-1]
            killed += 1
            _forget_lease(uri)
    assert killed == len(seen)
    assert killed >= (40 if _ALL else 12)
    for name in ("ledger.jsonl", "private/secret.key", "private/noised/iteration=0001", "release/samples.parquet"):
        assert any(asked.endswith(f" {name}") for asked in seen), name
    _check(uri, runs.finished(small))


def _forget_lease(uri: str) -> None:
    """As a minute later: that a lease of a killed holder expires is looked at elsewhere."""
    store: Any = open_store(uri)
    store._asking.bucket.delete([store._below + _LEASE])


def test_of_two_drivers_at_once_one_goes_on(one: Server, small: dict[str, Any], runs: Runs) -> None:
    small["evolution"] = {"iterations": 1, "samples": 10}
    uri = f"{one.kind}://runs/{next(_NEXT)}/run"
    drivers = [_driver(small, uri, runs.secret_file, one.environment) for _ in range(2)]
    for each in drivers:
        each.join(300)
    # The second one may begin when the first has ended.
    assert sorted(-1 if each.exitcode is None else each.exitcode for each in drivers) in ([0, 0], [0, 3])
    _check(uri, runs.finished(small))
