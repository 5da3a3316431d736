"""Started services end with whoever started them, at SIGTERM and at SIGKILL; the others live on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from pe_beam.runners.flink import processes, watch
from pe_beam.runners.flink.cluster import Cluster
from tests.runners.flink.conftest import flink_command, owned

# As a starter in a test: a session of its own for each service, and a watch from before the first of them.
STARTER = """
import subprocess, sys, time
from pe_beam.runners.flink import watch
mark = sys.argv[1]
watch.start(mark, [int(pid) for pid in sys.argv[3:]] or [__import__("os").getpid()], alone=sys.argv[2] == "alone")
service = [sys.executable, "-c", "import time; time.sleep(120)"]
for name in ("one", "two"):
    subprocess.Popen([*service, f"{mark}/{name}"], start_new_session=sys.argv[2] != "alone")
print("started", flush=True)
time.sleep(120)
"""


def until(true: Callable[[], object], seconds: float = 110) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.fixture
def mark() -> Iterator[str]:
    made = f"pe_beam.test={os.getpid()}-{time.monotonic_ns()}"
    yield made
    processes.end(made, alone=True)


def started(mark: str, way: str, *owners: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STARTER, mark, way, *map(str, owners)]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert starter.stdout is not None
    assert starter.stdout.readline() == "started\n"
    until(lambda: sorted(found.name for found in processes.find(mark)) == ["one", "two"])  # between fork and exec
    return starter


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("way", ["groups", "alone"])
def test_services_end_with_their_starter(mark: str, way: str, number: signal.Signals) -> None:
    starter = started(mark, way)
    os.kill(starter.pid, number)
    starter.wait()
    until(lambda: not processes.find(mark))


def test_services_end_with_the_first_of_two_owners_and_nothing_else_does(mark: str) -> None:
    """As a worker of pytest-xdist and its controller: whoever goes first."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"]) as controller:
        starter = started(mark, "alone", os.getpid(), controller.pid)  # services share the starter's group
        controller.kill()
        controller.wait()
        until(lambda: not processes.find(mark))
        assert starter.poll() is None
        starter.kill()
        starter.wait()


def test_an_id_that_is_used_again_is_another_process() -> None:
    mine = watch.Owner.of(os.getpid())
    assert mine.lives()
    assert not watch.Owner(mine.pid, "long ago").lives()
    assert not watch.Owner.of(2**22 + 1).lives()


@pytest.mark.flink
@pytest.mark.xdist_group("flink")
def test_a_cluster_ends_with_its_owner(flink_pieces: None, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as owner:
        done = flink_command("start", "--dir", str(folder), f"--owner={owner.pid}", *owned())
        assert done.returncode == 0, done.stderr
        assert sorted(Cluster(folder).running()) == ["job-server", "jobmanager", "taskmanager-1", "worker-pool"]
        owner.kill()
        owner.wait()
        until(lambda: not Cluster(folder).running())


@pytest.mark.flink
@pytest.mark.xdist_group("flink")
def test_the_job_server_of_a_driver_that_is_killed_ends(flink_pieces: None, small: dict, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(small))
    run = f"-m pe_beam run {tmp_path / 'r.yaml'} --run-dir {tmp_path / 'run'} -- --runner=FlinkRunner"
    command = [sys.executable, *shlex.split(run), "--flink_master=[local]"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as driver:
        mark = f"pe_beam.job-server={driver.pid}-"

        def servers() -> list[str]:
            return [line for _, _, line in processes._from_proc() if mark in line]

        until(lambda: any("java" in line.split()[0] for line in servers()), 240)
        driver.kill()
        driver.wait()
        until(lambda: not servers(), 120)
