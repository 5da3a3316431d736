"""A run with a paid service whose directory lies on an object store: the same release, and few requests."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pe_beam.contracts.store import Folder
from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from pe_beam.services.record import read_totals
from pe_beam.storage import open_store
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served
from tests.storage.conftest import KINDS, NAMES
from tests.storage.proxy import Proxy, before
from tests.storage.servers import found, make_bucket, program_of, running
from tests.whole_runs import release_digests


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Proxy]]:
    """The URL of a bucket on one of the servers that are at hand, and what all requests go through."""
    kind = next((kind for kind in KINDS if found(program_of(kind))), None)
    if kind is None:
        pytest.skip(f"paid services on an object store were NOT tested: there is none of {', '.join(NAMES.values())}")
    with running(kind, tmp_path_factory.mktemp(kind)) as server, before(server.port) as proxy:
        make_bucket(server, "runs")
        for name, text in server.behind(proxy.port).items():
            monkeypatch.setenv(name, text)
        yield f"{kind}://runs", proxy


def test_a_run_on_a_store_pays_once_and_gives_the_same_release(
    texts: dict[str, Any], tmp_path: Path, secret_file: Path, proxied: tuple[str, Proxy]
) -> None:
    """Several processes at once: tests/storage/test_services_on_objects.py."""
    bucket, proxy = proxied
    texts["evolution"] |= {"samples": 100, "iterations": 1}
    texts["execution"]["llm"] |= {"requests_per_minute": 30000, "concurrency": 16, "ceiling": {"calls": 100_000}}
    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(serve(texts, server))
        evolve(recipe, tmp_path / "one", secret_file=secret_file)
        run = evolve(recipe, f"{bucket}/two", secret_file=secret_file)
        counts = collections.Counter(entry["digest"] for entry in server.requests())
    names = run.store.list_files("release")
    digests = {name.removeprefix("release/"): sha256(run.store.read(name)).hexdigest() for name in names}
    assert digests == release_digests(tmp_path / "one")
    assert set(counts.values()) == {2}, "each run asked for each thing once"
    total = read_totals(Folder(open_store(f"{bucket}/two"), "work/services/llm"))
    assert total is not None
    assert total.calls == len(counts)
    paid = [asked for asked in proxy.requests if "services" in asked]
    kept = [asked for asked in proxy.requests if "journal" in asked]
    assert len(paid) < 60
    assert 0 < len([asked for asked in kept if asked.startswith(("PUT", "POST"))]) < len(counts)
