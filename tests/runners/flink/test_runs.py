"""Whole runs on Flink: the same release as in process, whatever is killed meanwhile, and one ledger line each."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.commands import Command, run_command
from tests.whole_runs import ROOT, copied, release_digests

pytestmark = [pytest.mark.flink, pytest.mark.xdist_group("flink"), pytest.mark.reported]
LONG = 240
DOCS = ROOT / "docs/flink.md"


@pytest.fixture
def command(small, tmp_path, secret_file) -> list[str]:
    """`pe-beam run` of the small recipe, without Beam flags."""
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(small))
    return ["run", str(path), "--run-dir", str(tmp_path / "run"), "--secret-file", str(secret_file), "--"]


def until(true: Callable[[], object], process: Command) -> None:
    limit = time.monotonic() + LONG
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)


def check_run(run: Path, wanted: Path) -> None:
    assert release_digests(run) == release_digests(wanted)
    assert len((run / "ledger.jsonl").read_text().splitlines()) == 2


def test_embedded_flink_gives_the_same_release(flink_pieces, command, tmp_path, wanted):
    (line,) = re.findall(r"^pe-beam run \S+ --run-dir runs/embedded -- (.*)$", DOCS.read_text(), re.MULTILINE)
    done = run_command(*command[:-1], "--unroll", "--", *shlex.split(line))
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "run", wanted)


# Two slots and a job an iteration: what goes on after each kill below.
@pytest.mark.parametrize(("slots", "unrolled"), [(1, []), (2, ["--unroll"])])
def test_a_standalone_cluster_gives_the_same_release(whole, command, tmp_path, wanted, slots, unrolled):
    flags = [flag for flag in whole.beam_flags() if not flag.startswith("--parallelism")]
    began = time.monotonic()
    done = run_command(*command[:-1], *unrolled, "--", *flags, f"--parallelism={slots}")
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "run", wanted)
    assert not list((tmp_path / "run/work/arrivals").iterdir())
    assert time.monotonic() - began < LONG


def kill_taskmanager(whole) -> None:
    os.kill(whole.running()["taskmanager-1"][0], signal.SIGKILL)


def kill_worker(whole) -> None:
    (pool,) = whole.running()["worker-pool"]
    workers = [pid for pid, parent in parents().items() if parent in children_of(pool)]
    killed = 0
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):  # one that ended between the listing and its turn
            os.kill(pid, signal.SIGKILL)
            killed += 1
    assert killed


def parents() -> dict[int, int]:
    listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}


def children_of(pid: int) -> set[int]:
    return {child for child, parent in parents().items() if parent == pid}


def kill_job_server(whole) -> None:
    os.kill(whole.running()["job-server"][0], signal.SIGKILL)


@pytest.mark.parametrize(
    ("kill", "begun", "message"),
    [
        (kill_taskmanager, "work/iteration=0001/matrix.npy", "TaskManager was lost"),
        (kill_worker, "work/iteration=0001/matrix.npy", "Python worker ended"),
        (kill_job_server, "release/iteration=0001/manifest.json", "job server"),
    ],
)
def test_what_is_killed_costs_nothing(whole, command, small, runs, tmp_path, wanted, kill, begun, message):
    run = copied(runs.begun(small), tmp_path / "run")
    flags = whole.beam_flags()
    if kill is kill_job_server:  # a job that is sent to none is waited for; test_bad_days holds our own limit
        flags.append("--job_server_timeout=15")
    with Command(*command, *flags) as process:
        until((run / begun).exists, process)
        kill(whole)
        done = process.communicate(timeout=LONG)
    if done.returncode != 0:  # a worker killed between two of its stages costs nothing at all
        assert done.returncode == 1, done.stderr
        assert message in done.stderr
        assert "run again" in done.stderr
    whole.repair()
    done = run_command(*command, *whole.beam_flags())
    assert done.returncode == 0, done.stderr
    check_run(run, wanted)


def test_a_killed_driver_leaves_a_job_that_does_no_harm(whole, command, small, runs, tmp_path, wanted):
    run = copied(runs.begun(small), tmp_path / "run")
    with Command(*command, *whole.beam_flags()) as process:
        until((run / "work/iteration=0001/matrix.npy").exists, process)
        os.kill(process.pid, signal.SIGKILL)
    done = run_command(*command, *whole.beam_flags())
    assert done.returncode == 0, done.stderr
    check_run(run, wanted)
