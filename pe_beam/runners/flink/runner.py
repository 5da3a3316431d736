"""Flink, by Beam's FlinkRunner or a portable job server.

On a cluster three things are added. The target is asked first, so that what is missing is named. The first stage
answers the driver through the run directory, so that a job which no worker takes up ends with a message and not in
silence, and a run directory that workers do not see is noticed. And one job server serves all jobs of a run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.errors import PeBeamError, StorageError
from pe_beam.runners.flink import check, install, watch
from pe_beam.runners.flink.cluster import free_port
from pe_beam.storage import open_store

ARRIVAL_SECONDS = 45.0
JOB_SERVER_SECONDS = 45
_HELD = b"\narrived"
_LEFT = b"\nleft"


class FlinkRunner(Runner):
    """Runs graphs on Flink, on one machine or a cluster."""

    parallelism_flag = "--parallelism"

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        options = beam_options.PipelineOptions(list(args))
        runner = str(options.view_as(beam_options.StandardOptions).runner).rsplit(".", 1)[-1].lower()
        target = _target(options, args, flink=runner == "flinkrunner")
        if not any(re.match("--job[_-]server[_-]timeout", arg) for arg in args):
            # Beam's own five minutes are a silence if the job server goes away after the check.
            options.view_as(beam_options.PortableOptions).job_server_timeout = JOB_SERVER_SECONDS
        check.check(target)
        if target.own_server:
            options.view_as(beam_options.PortableOptions).job_endpoint = _own_job_server(tuple(args), target.jar)
        try:
            _run_watched(graph, options, target)
        except PeBeamError:
            raise
        except Exception as error:
            known = None if "pe_beam.errors." in str(error) else check.explain(f"{error!r} {error}")
            raise known or error from None


def _target(options: Any, args: Sequence[str], *, flink: bool) -> check.Target:
    """Where the flags send a job; a FlinkRunner without a jar gets the one that we build."""
    portable = options.view_as(beam_options.PortableOptions)
    ours = options.view_as(beam_options.FlinkRunnerOptions)
    rest_only = flink and ours.flink_submit_uber_jar
    own_server = flink and not portable.job_endpoint and not rest_only
    named = any(arg.startswith("--flink_master") for arg in args)
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--parallelism", type=int)
    jar = ours.flink_job_server_jar
    if own_server and not jar:
        install.find_java()
        jar = str(install.job_server_jar())
    return check.Target(
        master=ours.flink_master if named else "",
        job_endpoint=portable.job_endpoint or "",
        jar=jar or "",
        java=options.view_as(beam_options.JobServerOptions).job_server_java_launcher,
        environment_type=(portable.environment_type or "").upper(),
        environment_config=portable.environment_config or "",
        parallelism=parser.parse_known_args(list(args))[0].parallelism,
        own_server=own_server,
    )


@functools.lru_cache(maxsize=1)
def _own_job_server(args: tuple[str, ...], jar: str) -> str:
    """Starts Beam's job server for this process's jobs; Beam itself would start one more with every job."""
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer, FlinkRunner

    options = beam_options.PipelineOptions(list(args))
    flink = options.view_as(beam_options.FlinkRunnerOptions)
    flink.flink_master = FlinkRunner.add_http_scheme(flink.flink_master)
    flink.flink_job_server_jar = jar
    port = free_port()
    server_options = options.view_as(beam_options.JobServerOptions)
    server_options.job_port = port
    # Marked, so that it ends with this process also where that is killed and says goodbye to nobody.
    mark = f"pe_beam.job-server={os.getpid()}-{secrets.token_hex(8)}"
    server_options.job_server_jvm_properties = [*(server_options.job_server_jvm_properties or []), f"-D{mark}/server"]
    watch.start(mark, [os.getpid()], alone=True)
    server = FlinkJarJobServer(options)
    atexit.register(server.stop)
    server.start()
    return f"localhost:{port}"


def _run_watched(graph: Graph, options: Any, target: check.Target) -> None:
    store, label = graph.store, graph.label
    slug = re.sub(r"\W+", "-", label.lower())
    name = f"work/arrivals/{slug}"
    token = secrets.token_hex(16)
    store.commit(name, token.encode(), replace=True)
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    cloud.job_name = cloud.job_name or f"pe-beam-{slug}-{token[:8]}"
    pipeline = beam.Pipeline(options=options)
    arrive = beam.ParDo(ArriveFn(store.uri, name, token))
    leave = beam.ParDo(LeaveFn(store.uri, name))
    _ = graph.build(pipeline | "Start" >> beam.Create([0]) | "Arrive" >> arrive) | "Leave" >> leave
    result = pipeline.run()
    try:
        _watch(result, lambda: store.read(name), target, cloud.job_name)
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
    store.remove(name)


def _watch(result: Any, told: Callable[[], bytes], target: check.Target, job_name: str) -> None:
    """Waits for a job; gives up on one whose tasks run while no worker arrives.

    The job server asks Flink every 2 s whether a job has ended. Where job server and workers outlive this process, what
    the last stage tells is enough: all is committed by then.
    """
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            result.wait_until_finish()
        except BaseException as error:
            failed.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    limit = time.monotonic() + ARRIVAL_SECONDS
    outlived = target.job_endpoint and target.environment_type == "EXTERNAL"
    here = False
    while waiting.is_alive():
        waiting.join(0.1)
        said = told()
        here = here or _HELD in said
        if outlived and _LEFT in said:
            return
        if not here and time.monotonic() > limit:
            if check.tasks_running(target, job_name) is not False:
                raise check.no_worker(target, ARRIVAL_SECONDS)
            limit = time.monotonic() + ARRIVAL_SECONDS  # it waits for slots, for which Flink has its own limit
    if failed:
        raise failed[0]


class ArriveFn(beam.DoFn):
    """Passes its element on, once it has told the driver that a worker is there and sees the run directory."""

    def __init__(self, root: str, name: str, token: str) -> None:
        self._root = root
        self._name = name
        self._token = token

    def process(self, element: int) -> Iterator[int]:
        """Raises StorageError if the driver's token is not where the driver has put it."""
        store = open_store(self._root)
        try:
            seen = store.read(self._name).startswith(self._token.encode())
        except StorageError:
            seen = False
        if not seen:
            raise StorageError(
                f"--run-dir {self._root}: the workers do not see it; it must lie on a file system that the driver and "
                "all workers share, under the same path"
            )
        store.append(self._name, _HELD, durable=False)
        yield element


class LeaveFn(beam.DoFn):
    """Passes its element on, once it has told the driver that the last stage has committed its work."""

    def __init__(self, root: str, name: str) -> None:
        self._root = root
        self._name = name

    def process(self, element: Any) -> Iterator[Any]:
        """Tells it through the file of the arrival, if the driver still has it."""
        store = open_store(self._root)
        if store.exists(self._name):
            store.append(self._name, _LEFT, durable=False)
        yield element
