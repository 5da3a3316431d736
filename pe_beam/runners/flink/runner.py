"""Runs graphs on Flink, with Beam's FlinkRunner or a portable job server.

On a cluster it adds three things to Beam. It checks the target first, so that a message names what is missing. The
first stage answers the driver through the run directory. So a job that no worker starts ends with a message, and a run
directory that workers do not see is found. One job server serves all jobs of a run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options import pipeline_options as beam_options

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, PeBeamError
from pe_beam.runners.flink import check, install, watch
from pe_beam.runners.flink.arrival import Arrival
from pe_beam.runners.flink.cluster import answers, free_port
from pe_beam.runners.options import Options, runner_key
from pe_beam.runners.staging import let_go

ARRIVAL_SECONDS = 45.0
JOB_SERVER_SECONDS = 45


class FlinkRunner(Runner):
    """Runs graphs on Flink, on one machine or on a cluster."""

    parallelism_flag = "--parallelism"

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:
        """See Runner. What `run` checks may have ended before a later job; this does not change."""
        if Options(list(args)).view_as(beam_options.StandardOptions).streaming:
            raise InputError(
                "--streaming: all graphs are batch jobs, and with checkpoints none would end; leave it out"
            )

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        options = Options(list(args))
        runner = runner_key(str(options.view_as(beam_options.StandardOptions).runner))
        target = _target(options, args, flink=runner == "flinkrunner")
        if not any(re.match("--job[_-]server[_-]timeout", arg) for arg in args):
            # Beam's default: five minutes without a message if the job server ends after the check.
            options.view_as(beam_options.PortableOptions).job_server_timeout = JOB_SERVER_SECONDS
        check.check(target)
        if target.own_server:
            options.view_as(beam_options.PortableOptions).job_endpoint = _own_job_server(args, target.jar)
        try:
            _run_watched(graph, options, target)
        except PeBeamError:
            raise
        except Exception as error:
            known = None if "pe_beam.errors." in str(error) else check.explain(f"{error!r} {error}")
            raise known or error from None


def _target(options: Any, args: Sequence[str], *, flink: bool) -> check.Target:
    """Returns the target of the flags. A FlinkRunner without a jar gets the one that `install` builds."""
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


_servers: dict[tuple[str, ...], tuple[int, Any]] = {}  # what a job server is started with -> its port and its handle
_one_at_a_time = threading.Lock()


def _own_job_server(args: Sequence[str], jar: str) -> str:
    """Returns the endpoint of Beam's job server for all jobs of this process. Beam would start another for every job.

    One that has ended is started again: Ctrl-C and a notebook's stop reach it as well, and memory may run out.
    """
    options = Options(list(args))
    flink, server = options.view_as(beam_options.FlinkRunnerOptions), options.view_as(beam_options.JobServerOptions)
    flink.flink_job_server_jar = jar
    # Other flags, as --parallelism, are those of a job: each server is a Java of its own.
    java = (server.job_server_java_launcher, server.job_server_jvm_properties, jar, server.jar_cache_dir)
    told = (flink.flink_master, server.artifacts_dir, server.artifact_port, server.expansion_port)
    key = tuple(str(each) for each in (*java, *told))
    with _one_at_a_time:
        port, ended = _servers.get(key, (0, None))
        if ended is None or not answers("localhost", port):
            if ended is not None:
                _stop(ended)
            _servers[key] = _started(options)
        return f"localhost:{_servers[key][0]}"


def _started(options: Any) -> tuple[int, Any]:
    """Starts a job server. Returns its port and its handle."""
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer, FlinkRunner

    flink = options.view_as(beam_options.FlinkRunnerOptions)
    flink.flink_master = FlinkRunner.add_http_scheme(flink.flink_master)
    port = free_port()
    server_options = options.view_as(beam_options.JobServerOptions)
    server_options.job_port = port
    # The mark lets `watch` end the server when this process ends, even if this process is killed.
    mark = f"pe_beam.job-server={os.getpid()}-{secrets.token_hex(8)}"
    server_options.job_server_jvm_properties = [*(server_options.job_server_jvm_properties or []), f"-D{mark}/server"]
    watch.start(mark, [os.getpid()], alone=True)
    server = FlinkJarJobServer(options)
    atexit.register(server.stop)
    server.start()
    return port, server


def _stop(server: Any) -> None:
    """Deletes the folder of a job server that has ended, and closes the connection to it."""
    atexit.unregister(server.stop)
    with contextlib.suppress(OSError):
        server.stop()


def _run_watched(graph: Graph, options: Any, target: check.Target) -> None:
    arrival = Arrival(graph.store, graph.label)
    cloud = options.view_as(beam_options.GoogleCloudOptions)
    cloud.job_name = cloud.job_name or f"pe-beam-{arrival.slug}-{arrival.token[:8]}"
    pipeline = beam.Pipeline(options=options)
    arrival.around(pipeline | "Start" >> beam.Create([0]), graph.build)
    result = pipeline.run()
    try:
        _watch(result, arrival, target, cloud.job_name)
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
    finally:
        let_go(result)
    arrival.clear()


def _watch(result: Any, arrival: Arrival, target: check.Target, job_name: str) -> None:
    """Waits for a job. Raises an error if its tasks run, or may run, and no worker arrives.

    The job server asks Flink every 2 s whether a job has ended. If job server and workers outlive this process, the
    message of the last stage is enough, because everything is committed by then.
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
        late = time.monotonic() > limit
        if not here and (arrival.often or late):
            here = arrival.has_begun()
        if outlived and arrival.has_ended():
            return
        if late and not here:
            if check.tasks_running(target, job_name) is not False:
                raise check.no_worker(target, ARRIVAL_SECONDS)
            limit = time.monotonic() + ARRIVAL_SECONDS  # the job waits for slots, and Flink has its own limit for that
    if failed:
        raise failed[0]
