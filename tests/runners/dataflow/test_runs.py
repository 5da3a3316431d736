"""Whole runs on Dataflow with the run directory on gs://: the real runner of Beam against a service on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pyarrow as pa
import pytest
from apache_beam.utils.secret import Secret

from pe_beam.driver import loop
from pe_beam.errors import InputError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.runners.dataflow.check import NO_SAMPLES
from pe_beam.storage import open_store
from tests.whole_runs import SMALL, Runs, parquet_recipe, picture_table, release_digests

pytestmark = pytest.mark.xdist_group("dataflow")
KEY = "type:GcpSecret;version_name:projects/a-project/secrets/shuffle/versions/1"
CONNECT = """
import functools, grpc
from google.cloud import secretmanager
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport
secretmanager.SecretManagerServiceClient = functools.partial(
    secretmanager.SecretManagerServiceClient,
    transport=SecretManagerServiceGrpcTransport(channel=grpc.insecure_channel("127.0.0.1:{port}")),
)
"""
"""Where a worker's Secret Manager is: Beam names none, and Google's client takes no address from the environment."""


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
    for job in cloud.service.jobs.values():
        assert NO_SAMPLES in dict(job.environment.sdk_pipeline_options["options"])["experiments"]


def _by_client(folder: Path) -> dict[str, Any]:
    """A short recipe on pictures of eight clients."""
    table = picture_table(60)
    table = table.append_column("client", pa.array([f"client {i % 8}" for i in range(60)], pa.string()))
    recipe = parquet_recipe({**SMALL, "evolution": {"iterations": 1, "samples": 20}}, table, folder / "data")
    recipe["data"]["columns"] = {"client": "client"}
    recipe["privacy"] = {"epsilon": 4, "delta": 1e-5, "unit": "client"}
    return recipe


@contextlib.contextmanager
def secret_manager(value: bytes) -> Iterator[tuple[int, list[str]]]:
    """A Secret Manager with one value: its port, and the names that were asked for."""
    from google.cloud import secretmanager

    asked: list[str] = []

    def access(request: Any, _: Any) -> Any:
        asked.append(request.name)
        return secretmanager.AccessSecretVersionResponse(name=request.name, payload={"data": value})

    handler = grpc.unary_unary_rpc_method_handler(
        access,
        request_deserializer=secretmanager.AccessSecretVersionRequest.deserialize,
        response_serializer=secretmanager.AccessSecretVersionResponse.serialize,
    )
    server = grpc.server(ThreadPoolExecutor(4))
    name = "google.cloud.secretmanager.v1.SecretManagerService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"AccessSecretVersion": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, asked
    finally:
        server.stop(None)


def test_client_ids_are_shuffled_under_a_key(cloud: SimpleNamespace, runs: Runs, tmp_path: Path) -> None:
    """The same release; a worker fetches the key from Secret Manager, which here answers in the worker's process."""
    recipe = _by_client(tmp_path)
    local = runs.finished(recipe)
    with pytest.raises(InputError, match=r"^data\.path: .* is on a disk, and workers of DataflowRunner do not see"):
        loop.evolve(parse_recipe(recipe), cloud.uri, cloud.flags)
    recipe["data"]["path"] = f"file://{recipe['data']['path']}"  # workers of this service do
    with pytest.raises(InputError, match=r"^--gbek: missing"):
        loop.evolve(parse_recipe(recipe), cloud.uri, cloud.flags)
    with secret_manager(Secret.generate_secret_bytes()) as (port, asked):
        cloud.service.before = CONNECT.format(port=port)
        loop.evolve(parse_recipe(recipe), cloud.uri, [*cloud.flags, f"--gbek={KEY}"], secret_file=runs.secret_file)
    assert set(asked) == {"projects/a-project/secrets/shuffle/versions/1"}
    assert digests(cloud.uri) == release_digests(local)
