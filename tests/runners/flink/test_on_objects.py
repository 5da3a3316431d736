"""Flink with its run directory on an object store: no disk that machines share, and few looks of the driver."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.errors import MissingExtraError, StorageError
from pe_beam.runners.flink import check, runner
from pe_beam.runners.flink.arrival import Arrival, ArriveFn
from pe_beam.runners.flink.cluster import Cluster, free_port
from pe_beam.storage import open_store
from tests.commands import run_command
from tests.runners.flink.test_bad_days import target, with_pool
from tests.storage.conftest import KINDS, NAMES
from tests.storage.proxy import Proxy, before
from tests.storage.servers import Server, found, make_bucket, program_of, running
from tests.whole_runs import SMALL, Runs, release_digests

on_flink = [pytest.mark.flink, pytest.mark.xdist_group("flink"), pytest.mark.reported]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of those that are at hand, with the bucket `runs`."""
    kind = next((kind for kind in KINDS if found(program_of(kind))), None)
    if kind is None:
        pytest.skip(f"Flink on an object store was NOT tested: there is none of {', '.join(NAMES.values())}")
    with running(kind, tmp_path_factory.mktemp(kind)) as started:
        make_bucket(started, "runs")
        yield started


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What all requests go through."""
    with before(server.port) as passed:
        for name, text in server.behind(passed.port).items():
            monkeypatch.setenv(name, text)
        yield passed


@contextlib.contextmanager
def pool(environment: dict[str, str]) -> Iterator[int]:
    """A pool of Python workers with an environment of its own; its port."""
    port = free_port()
    command = [sys.executable, "-m", "pe_beam.runners.flink.workers", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 180
        while not check.answers("localhost", port):
            assert time.monotonic() < limit
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _recipe(folder: Path, recipe: dict[str, Any]) -> str:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


class TestOnACluster:
    pytestmark = on_flink

    def test_a_run_on_a_store_gives_the_same_release(
        self, whole: Cluster, proxy: Proxy, server: Server, runs: Runs, tmp_path: Path
    ) -> None:
        wanted, uri = runs.finished(SMALL), f"{server.kind}://runs/flink/whole"
        flags = ["--run-dir", uri, "--secret-file", str(runs.secret_file)]
        told = f"import os; os.environ.update({server.behind(proxy.port)!r})"
        with pool(server.behind(proxy.port)) as port:
            done = run_command("run", _recipe(tmp_path, SMALL), *flags, "--", *with_pool(whole, port), before=told)
        assert done.returncode == 0, done.stderr
        store = open_store(uri)
        names = store.list_files("release")
        digests = {name.removeprefix("release/"): sha256(store.read(name)).hexdigest() for name in names}
        assert digests == release_digests(wanted)
        assert store.read("ledger.jsonl") == (wanted / "ledger.jsonl").read_bytes()
        assert store.list_files("work/arrivals") == []
        arrivals = [asked for asked in proxy.requests if "arrivals" in asked]
        assert len(arrivals) <= 4 * 6 + 2, "a job: written, read, answered, deleted twice; and looked at if it is slow"

    def test_workers_with_another_endpoint_are_told_of(
        self, whole: Cluster, proxy: Proxy, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        uri = f"{server.kind}://runs/flink/unseen"
        with running(server.kind, tmp_path) as other, pool(other.environment) as port:  # it has no bucket
            flags = ["--", *with_pool(whole, port)]
            assert main(["run", _recipe(tmp_path, SMALL), "--run-dir", uri, *flags]) == 1
        said = capsys.readouterr().err
        assert f"--run-dir {uri}: the workers do not see it; each worker needs the driver's endpoint" in said
        assert "there is no such bucket" in said


def test_workers_that_see_another_bucket_are_told_of(proxy: Proxy, server: Server) -> None:
    store = open_store(f"{server.kind}://runs/flink/other")
    store.commit("a", b"token")
    assert list(ArriveFn(store.uri, "a", "token").process(0)) == [0]
    assert store.read("a.arrived") == b"token"
    for name, token in (("a", "other"), ("b", "token")):
        with pytest.raises(StorageError, match=r"workers do not see it; each worker needs .*another bucket"):
            list(ArriveFn(store.uri, name, token).process(0))


def test_workers_that_lack_a_package_are_told_of(proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise MissingExtraError("needs a package")

    store = open_store(f"{server.kind}://runs/flink/lacks")
    monkeypatch.setattr(type(store), "connect", lacks)
    monkeypatch.setenv({"gs": "GOOGLE_X", "s3": "AWS_X", "az": "AZURE_X"}[server.kind], "another client")
    with pytest.raises(MissingExtraError, match="the workers' installation: needs a package"):
        list(ArriveFn(store.uri, "a", "token").process(0))


class _Job:
    """One that ends when it is told, or when it is cancelled."""

    def __init__(self, ends: Callable[[], bool]) -> None:
        self._ends = ends

    def wait_until_finish(self) -> None:
        while not self._ends():
            time.sleep(0.02)


def _looks(proxy: Proxy) -> int:
    """The requests about arrivals. Leases of earlier tests in this process may still be renewed."""
    return sum("arrivals" in request for request in proxy.requests)


def test_the_driver_looks_seldom(proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As 45 s and a job of minutes, but faster: one look after each time that a worker may take to begin."""
    monkeypatch.setattr(runner, "ARRIVAL_SECONDS", 0.5)
    monkeypatch.setattr(check, "tasks_running", lambda *_: False)  # as one that waits for slots
    store = open_store(f"{server.kind}://runs/flink/looks")
    arrival = Arrival(store, "Iteration 01")
    assert not arrival.has_begun()
    proxy.requests.clear()
    began = time.monotonic()
    runner._watch(_Job(lambda: _looks(proxy) >= 4 or time.monotonic() > began + 60), arrival, target(), "name")
    assert 4 <= _looks(proxy) <= (time.monotonic() - began) / 0.5 + 1
    list(ArriveFn(store.uri, "work/arrivals/iteration-01", arrival.token).process(0))
    assert arrival.has_begun()
    proxy.requests.clear()
    end = time.monotonic() + 2.2
    runner._watch(_Job(lambda: time.monotonic() > end), arrival, target(), "name")
    assert _looks(proxy) <= 3
    arrival.clear()
    assert store.list_files("work") == []
    again = Arrival(store, "Iteration 01")
    store.commit("work/arrivals/iteration-01.arrived", b"of another job")
    assert not again.has_begun()
