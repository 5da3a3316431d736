"""A Dataflow and a bucket on this machine, and the flags that lead there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.storage.conftest import servers  # noqa: F401
from tests.storage.servers import Server

UNTESTED = "Dataflow was NOT tested: "
QUICK = """
import time, types
from apache_beam.runners.dataflow import dataflow_runner
dataflow_runner.time = types.SimpleNamespace(sleep=lambda _: time.sleep(0.05), time=time.time)
"""
"""Beam asks a job for its state every 5 s; jobs here take less than a second."""
_NEXT = itertools.count(70_000)


@pytest.fixture(scope="session")
def bucket(servers: Callable[[str], Server]) -> Server:  # noqa: F811
    """The server of gs://runs."""
    pytest.importorskip("google.cloud.dataflow", reason=UNTESTED + "apache-beam[gcp] is not installed")
    return servers("gs")


@pytest.fixture(autouse=True)
def _no_list_of_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam stages what `pip freeze` says with each job, which takes longer than most jobs here.

    Drivers of their own process still do so.
    """
    from apache_beam.runners.portability.stager import Stager

    monkeypatch.setattr(Stager, "_create_stage_submission_env_dependencies", lambda _: [])


@pytest.fixture
def cloud(bucket: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A service of its own, and a run directory that is not there yet.

    Attributes: service, flags, uri.
    """
    from apache_beam.runners.dataflow import dataflow_runner

    from tests.runners.dataflow.service import PROJECT, REGION, running

    for name, text in bucket.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "2")
    quick = SimpleNamespace(sleep=lambda _: time.sleep(0.05), time=time.time)
    monkeypatch.setattr(dataflow_runner, "time", quick)
    with running() as (service, endpoint):
        service.environment = dict(bucket.environment)
        flags = [
            "--runner=DataflowRunner",
            f"--dataflow_endpoint={endpoint}",
            "--no_auth",
            f"--project={PROJECT}",
            f"--region={REGION}",
            "--sdk_container_image=europe-docker.pkg.dev/a-project/pe-beam/worker:1",
        ]
        yield SimpleNamespace(service=service, flags=flags, uri=f"gs://runs/{next(_NEXT)}/run", endpoint=endpoint)


def without(flags: list[str], start: str) -> list[str]:
    """The flags but for one."""
    return [flag for flag in flags if not flag.startswith(start)]
