"""Finds faults of a run's Flink: checks it within seconds before a job, and explains failures of a job."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pe_beam.errors import InputError, PeBeamError
from pe_beam.runners.flink import install
from pe_beam.runners.flink.cluster import answers, rest

_OF_FLINK = -1  # --parallelism
IN_PROCESS = ("[local]", "[auto]", "[collection]")


class FlinkError(PeBeamError):
    """A Flink cluster, its job server or its workers cannot run a job as they are. Exit status 1."""


@dataclass(frozen=True)
class Target:
    """The place to which the Beam flags send a job. A value without a flag is None or "".

    Attributes:
      master: `--flink_master`.
      job_endpoint: `--job_endpoint`.
      jar: `--flink_job_server_jar`.
      java: the Java command that starts the jar.
      environment_type: `--environment_type`.
      environment_config: `--environment_config`.
      parallelism: `--parallelism`.
      own_server: True if a job server is started for this run.
    """

    master: str
    job_endpoint: str
    jar: str
    java: str
    environment_type: str
    environment_config: str
    parallelism: int | None
    own_server: bool

    @property
    def rest_address(self) -> str | None:
        """Returns Flink's REST endpoint, or None if the flags name none."""
        return None if not self.master or self.master in IN_PROCESS else self.master


def check(target: Target) -> None:
    """Refuses a target that cannot work, within seconds. The message names the flag.

    Raises:
      InputError: a flag is wrong by itself.
      MissingToolError: this run starts a job server, and no Java for it is found.
      FlinkError: a service does not answer, is of another kind or version, or has too few slots.
    """
    if target.parallelism is not None and target.parallelism < 1 and target.parallelism != _OF_FLINK:
        raise InputError(
            f"--parallelism={target.parallelism}: at least 1 is wanted, or {_OF_FLINK}, Flink's own default"
        )
    if target.own_server:
        _check_jar(target)
    elif target.job_endpoint:
        host, port = _address(target.job_endpoint, "--job_endpoint")
        if not answers(host, port):
            raise FlinkError(
                f"--job_endpoint={target.job_endpoint}: no job server answers there; start it "
                "(python -m pe_beam.runners.flink repair) and run again: it resumes"
            )
    if target.rest_address:
        _check_cluster(target, target.rest_address)
    if target.environment_type == "EXTERNAL":
        _check_pool(target)


def _check_jar(target: Target) -> None:
    install.find_java(target.java)
    if target.jar and "://" not in target.jar and not Path(target.jar).is_file():
        raise InputError(
            f"--flink_job_server_jar={target.jar}: no such file; `python -m pe_beam.runners.flink install` builds one"
        )


def _check_cluster(target: Target, address: str) -> None:
    if address.endswith("/"):  # as a browser shows it; the job server reads it as part of the port
        raise InputError(f"--flink_master={target.master}: host:port is wanted, without the slash at its end")
    overview = rest(address, "/overview")
    if overview is None or "flink-version" not in overview:
        raise FlinkError(
            f"--flink_master={target.master}: no Flink answers there (its REST address, host:port); start it "
            "(python -m pe_beam.runners.flink repair), or give another address"
        )
    version = str(overview["flink-version"])
    if not version.startswith(f"{install.FLINK_LINE}."):
        raise FlinkError(
            f"--flink_master={target.master}: is Flink {version}; the job server needs {install.FLINK_LINE}"
        )
    slots, managers = int(overview.get("slots-total", 0)), int(overview.get("taskmanagers", 0))
    if managers == 0:
        raise FlinkError(f"--flink_master={target.master}: has no TaskManager; start one")
    if target.parallelism and target.parallelism > slots:
        raise FlinkError(
            f"--parallelism={target.parallelism}: more than the {slots} slots of the {managers} TaskManagers at "
            f"{target.master}; ask for less, or raise taskmanager.numberOfTaskSlots"
        )


def _check_pool(target: Target) -> None:
    address = target.environment_config
    if address.startswith("{"):
        try:
            address = str(json.loads(address)["url"])
        except (ValueError, KeyError):
            raise InputError(f"--environment_config={address}: host:port or a JSON object with url is wanted") from None
    host, port = _address(address, "--environment_config")
    # TaskManagers connect to the workers. Their localhost is this machine only if they run on it.
    known = target.rest_address or target.job_endpoint
    here = _local(_address(known, "")[0]) if known else True
    if here or not _local(host):
        _ask_pool(host, port, address)


def _ask_pool(host: str, port: int, address: str) -> None:
    if not answers(host, port):
        raise FlinkError(
            f"--environment_config={address}: no pool of Python workers answers there; start one "
            f"(python -m pe_beam.runners.flink.workers --port {port}) beside every TaskManager"
        )


def _local(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1", "[::1]")


def _address(text: str, flag: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:https?://)?(?P<host>\[[^\]]+\]|[^:/]+)(?::(?P<port>\d{1,5}))?/?", text)
    if found is None or (flag and not found["port"]):
        raise InputError(f"{flag}={text}: host:port is wanted")
    return found["host"].strip("[]"), int(found["port"] or 0)


def tasks_running(target: Target, job_name: str) -> bool | None:
    """Returns True if a task of the job runs or has finished, False while the job waits for slots, None if unknown."""
    found = rest(target.rest_address, "/jobs/overview") if target.rest_address else None
    for job in (found or {}).get("jobs", []):
        if job.get("name") == job_name:
            tasks = job.get("tasks", {})
            return bool(tasks.get("running", 0) or tasks.get("finished", 0))
    return None


def no_worker(target: Target, seconds: float) -> FlinkError:
    """Returns the error for a job whose tasks run, or may run, but which no Python worker has started."""
    if target.rest_address and rest(target.rest_address, "/overview") is None:
        return FlinkError(
            f"--flink_master={target.master}: Flink stopped answering while the job ran; start it again "
            "(python -m pe_beam.runners.flink repair), and run again: it resumes"
        )
    where = target.environment_config or target.environment_type or "the default environment"
    known = target.rest_address is not None
    also = "" if known else ", or the cluster has no free slots (give --flink_master to tell which)"
    return FlinkError(
        f"no Python worker has begun after {seconds:.0f} s: the worker pool at --environment_config={where} is missing "
        f"beside a TaskManager, or its workers cannot start (they need the driver's Python and Beam){also}; the job "
        "was cancelled, run again to go on"
    )


_CAUSES = [
    (
        r"JobCancellationException: Job was cancelled",
        "the job was cancelled at Flink; run again: a new job goes on from what is committed",
    ),
    (
        r"NoResourceAvailableException|Could not acquire the minimum required resources"
        r"|[Ss]lot request|TimeoutException: Timeout has occurred",
        "Flink has not enough free slots: lower --parallelism, wait for other jobs, or add TaskManagers",
    ),
    (
        r"Insufficient number of network buffers",
        "Flink has not enough network buffers: raise taskmanager.memory.network.max (256m does for 2 slots), or lower "
        "--parallelism",
    ),
    (
        r"for command 'docker |Cannot run program \"docker\"",
        "Beam starts its workers by Docker where nothing else is said, and Docker did not; name a pool of workers, "
        "--environment_type=EXTERNAL --environment_config=HOST:PORT, or on one machine --environment_type=LOOPBACK",
    ),
    (
        r"No module named '?pe_beam",
        "the Python workers have no pe_beam: install it (same version) where the worker pool runs",
    ),
    (
        r"environment and pipeline runtime environment are not compatible|[Cc]an't get attribute",
        "workers and driver do not fit together: both need the same Python, Beam and pe_beam",
    ),
    (
        r"InvalidClassException|NoSuchMethodError|NoClassDefFoundError|ClassNotFoundException",
        f"job server and cluster do not fit together: both need Flink {install.FLINK_LINE}, and the thin jar needs "
        "to lie in Flink's lib folder too",
    ),
    (
        r"no longer reachable|Connection unexpectedly closed by remote task manager|Lost connection to task manager"
        r"|TaskManager with id .* (timed out|lost)|Heartbeat of TaskManager|disconnect(ed)? from TaskManager"
        r"|TaskExecutor .* (closed|disconnected)|Remote connection to \[.*\] failed",
        "a TaskManager was lost while the job ran; see that one is there again, and run again: it resumes",
    ),
    (
        r"SDK (harness|worker) (exited|disconnected|.*died)|Multiplexer hanging up|Data endpoint .*terminated"
        r"|CANCELLED: client cancelled|CANCELLED: cancelled before receiving half close|call already cancelled",
        "a Python worker ended while the job ran (killed, or out of memory?); run again: it resumes",
    ),
    (
        r"StatusCode\.UNAVAILABLE|failed to connect to all addresses|Socket closed|FutureTimeoutError"
        r"|StatusCode\.DEADLINE_EXCEEDED",
        "the job server stopped answering; start it again (python -m pe_beam.runners.flink repair), and run again: "
        "it resumes",
    ),
    (
        r"Failed to submit JobGraph|Could not connect to|RestClientException|Connection refused",
        "the job server does not reach Flink at its --flink-master; start Flink again, and run again: it resumes",
    ),
]


def explain(text: str) -> FlinkError | None:
    """Returns the error for a known cause of a failed job, or None.

    The message has nothing of the job's text, because that may contain private values.
    """
    for pattern, message in _CAUSES:
        if re.search(pattern, text):
            return FlinkError(message)
    return None
