"""What Dataflow does with a Flex Template, as far as it can be had here.

The launcher passes flags to the program as Dataflow's launcher does: parameters by name, then the environment of the
launch as Beam's flags, and `--template_location`, where it expects the description of a job. The service then runs the
graph that the description names. Beam's own DataflowRunner writes both, to a bucket of a real server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pe_beam.storage import open_store

IMAGE = "europe-west1-docker.pkg.dev/my-project/pe-beam/pe-beam:1"


def flags(bucket: str, name: str, parameters: Mapping[str, str]) -> list[str]:
    """What the launcher of a template gives to its program."""
    return [
        *(f"--{key}={value}" for key, value in parameters.items()),
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west1",
        f"--job_name={name}",
        f"--staging_location=gs://{bucket}/staging",
        f"--temp_location=gs://{bucket}/temp",
        f"--template_location=gs://{bucket}/staging/template_launches/{name}/job_object",
        "--service_account_email=worker@my-project.iam.gserviceaccount.com",
        f"--sdk_container_image={IMAGE}",
    ]


def description(bucket: str, name: str) -> dict[str, Any]:
    """The job that a program left for the service; FileNotFoundError: a template that gave no job."""
    store = open_store(f"gs://{bucket}/staging")
    path = f"template_launches/{name}/job_object"
    if not store.exists(path):
        raise FileNotFoundError("Failed to read the job file")
    found: dict[str, Any] = json.loads(store.read(path))
    return found


def staged(bucket: str, name: str) -> beam_runner_api_pb2.Pipeline:
    """The staged graph of a job that a program left."""
    job = description(bucket, name)
    url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    data = open_store(f"gs://{bucket}/staging").read(url.partition(f"{bucket}/staging/")[2])
    return beam_runner_api_pb2.Pipeline.FromString(data)


def run(graph: beam_runner_api_pb2.Pipeline) -> None:
    """Runs a staged graph; its workers are threads of this process instead of containers."""
    for environment in graph.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn
        payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        assert payload.container_image == IMAGE
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    result = FnApiRunner().run_via_runner_api(graph, PipelineOptions(["--direct_running_mode=in_memory"]))
    result.wait_until_finish()
