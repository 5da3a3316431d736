"""Servers that object stores are tested on, one of a kind a session."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pe_beam.contracts.store import Store
from pe_beam.storage import leases, open_store, suite
from tests.storage.proxy import Proxy, before
from tests.storage.servers import Server, make_bucket, running

KINDS = ("gs", "s3", "az")
NAMES = {"gs": "gs:// (fake-gcs-server)", "s3": "s3:// (MinIO)", "az": "az:// (Azurite)"}
_NEXT = itertools.count()
suite.PRELOAD.append("google.cloud.storage")  # half a second, which each of 32 processes would need


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Kind -> a server of it with the bucket `runs`; the test is left out aloud where the program is not at hand."""
    with ExitStack() as stack:
        started: dict[str, Server] = {}

        def start(kind: str) -> Server:
            if kind not in started:
                try:
                    started[kind] = stack.enter_context(running(kind, tmp_path_factory.mktemp(kind)))
                except FileNotFoundError as error:
                    pytest.skip(f"{NAMES[kind]} was NOT tested: there is no {error}; python -m tests.storage.servers")
                make_bucket(started[kind], "runs")
            return started[kind]

        yield start


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """One of each kind, told to the libraries by the environment."""
    found = servers(request.param)
    for name, text in found.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "2")
    return found


@pytest.fixture
def store(server: Server) -> Store:
    """An empty store."""
    return open_store(f"{server.kind}://runs/{next(_NEXT)}/run")


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What all requests go through, and only those of the test: what earlier tests hold is dropped."""
    for lease in [*leases._held.values()]:
        lease.drop()
    with before(server.port) as found:
        for name, text in server.behind(found.port).items():
            monkeypatch.setenv(name, text)
        yield found
