"""A whole run that the workflow launches: the real DataflowRunner, real buckets, and no driver that waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from pe_beam.contracts.store import Store
from pe_beam.storage import open_store
from pipelines import embed, iteration
from tests.launch import service
from tests.launch.workflows import ENVIRONMENT, LAUNCH, LOOK, STANDARD, Workflow
from tests.storage.conftest import servers  # noqa: F401
from tests.storage.proxy import before
from tests.storage.servers import Server, make_bucket
from tests.whole_runs import ROOT, SECRET, SMALL, UNREPORTED

STAGING = "launch-staging"
RUNS = "launch-runs"
RECIPE = f"gs://{STAGING}/recipes/small.yaml"


@pytest.fixture(scope="session")
def proxied(servers: Callable[[str], Server]) -> Iterator[tuple[list[str], dict[str, str]]]:  # noqa: F811
    """Two buckets: the requests to them, which grow, and what the libraries have to be told."""
    pytest.importorskip(
        "google.cloud.dataflow", reason="DataflowRunner was NOT tested: no google-cloud-dataflow-client"
    )
    server = servers("gs")
    for bucket in (STAGING, RUNS):
        make_bucket(server, bucket)
    with before(server.port) as proxy:
        # There is no metadata server here, which Beam would wait for.
        yield proxy.requests, {**server.behind(proxy.port), "NO_GCE_CHECK": "true"}


@pytest.fixture
def buckets(proxied: tuple[list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets libraries use the buckets."""
    for name, text in proxied[1].items():
        monkeypatch.setenv(name, text)


@dataclass
class Launched:
    """A run that was launched.

    Attributes:
      store: its run directory.
      jobs: names of its jobs, in order.
      requests: method and path of each request to a bucket, of launchers and workers.
      states: before each job, the number of ledger lines, and whether somebody held the run.
    """

    store: Store
    jobs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    states: list[tuple[int, bool]] = field(default_factory=list)


@pytest.fixture(scope="session")
def launched(proxied: tuple[list[str], dict[str, str]]) -> Launched:
    """The small recipe, by templates/dataflow/workflow.yaml and the services that it calls."""
    requests, environment = proxied
    uri = f"gs://{RUNS}/runs/small"
    found = Launched(open_store(uri))

    def launch(projectId: str, location: str, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        asked = body["launchParameter"]
        program = {"embed": embed, "iteration": iteration}[asked["containerSpecGcsPath"].split("/")[-1][:-5]]
        assert program.main(service.flags(STAGING, asked["jobName"], asked["parameters"])) == 0
        found.requests.extend(requests)
        lines = found.store.read("ledger.jsonl").splitlines() if found.store.exists("ledger.jsonl") else []
        found.states.append((len(lines), found.store.locked()))
        graph = service.staged(STAGING, asked["jobName"])
        del requests[:]  # those were a test's own
        service.run(graph)
        found.jobs.append(asked["jobName"])
        return {"job": {"id": asked["jobName"]}}

    calls = {
        **STANDARD,
        "sys.get_env": {**ENVIRONMENT, "STAGING_BUCKET": STAGING}.__getitem__,
        LAUNCH: launch,
        LOOK: lambda **_: {"currentState": "JOB_STATE_DONE"},
    }
    definition = yaml.safe_load((ROOT / "templates/dataflow/workflow.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        for name, text in environment.items():
            patch.setenv(name, text)
        patch.setattr("pe_beam.driver.finalize.report_bytes", lambda *_, **__: UNREPORTED)
        open_store(f"gs://{STAGING}/recipes").commit("small.yaml", yaml.safe_dump(SMALL).encode())
        found.store.commit("private/secret.key", SECRET)
        found.store.commit("private/secret.supplied", b"")
        del requests[:]
        told = {"recipe": RECIPE, "run_dir": uri, "iterations": SMALL["evolution"]["iterations"]}
        Workflow(definition, calls).run(told)
        found.requests.extend(requests)
    return found
