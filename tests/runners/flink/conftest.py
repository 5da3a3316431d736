"""One Flink cluster for all tests that need one; where Java or Maven is missing they are skipped, and it is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pe_beam.runners.flink import install
from pe_beam.runners.flink.cluster import PORTS, Cluster
from tests.storage.servers import free_port
from tests.whole_runs import SMALL, UNTESTED


def missing() -> str | None:
    """Why Flink cannot be tested here."""
    try:
        install.find_java()
        install.job_server_jar(thin=True)
    except install.MissingToolError as error:
        return UNTESTED + str(error)
    return None


@pytest.fixture(scope="session")
def flink_pieces() -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)


def flink_command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """`python -m pe_beam.runners.flink` as a user calls it."""
    command = [sys.executable, "-m", "pe_beam.runners.flink", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def owned() -> list[str]:
    """Flags by which a cluster ends with this process and, as a worker of xdist, with the one that started it."""
    owners = [os.getpid(), *([os.getppid()] if "PYTEST_XDIST_WORKER" in os.environ else [])]
    return [f"--owner={pid}" for pid in owners]


def ports() -> list[str]:
    """Flags with ports of which none is another's before Java has started: those that the system gives out may be."""
    chosen: set[int] = set()
    while len(chosen) < len(PORTS):
        chosen.add(free_port())
    return [f"--{name.replace('_', '-')}={port}" for name, port in zip(PORTS, chosen, strict=True)]


@pytest.fixture(scope="session")
def cluster(flink_pieces, tmp_path_factory) -> Cluster:
    """A standalone cluster with one TaskManager of two slots."""
    folder = tmp_path_factory.mktemp("flink") / "a cluster"  # with a space, as folders may have
    started = flink_command("start", "--dir", str(folder), *ports(), *owned())
    assert started.returncode == 0, started.stderr
    made = Cluster(folder)
    assert all(flag in started.stdout for flag in made.beam_flags())
    assert flink_command("flags", "--dir", str(folder)).stdout.split() == made.beam_flags()
    yield made
    stopped = flink_command("stop", "--dir", str(folder))
    assert stopped.returncode == 0, stopped.stderr
    assert made.running() == {}
    assert sorted(path.name for path in folder.iterdir()) == ["logs"]


@pytest.fixture
def whole(cluster) -> Cluster:
    """The cluster with all its parts alive, whatever the test before did to it."""
    cluster.repair()
    return cluster


@pytest.fixture(scope="session")
def wanted(runs) -> Path:
    """The run directory of the small recipe on FnApiRunner, with the fixed secret."""
    return runs.finished(SMALL)


def environment_without(*programs: str, folder: Path) -> dict[str, str]:
    """An environment in whose PATH some programs are missing."""
    folder.mkdir()
    for part in os.environ["PATH"].split(os.pathsep):
        for path in Path(part).glob("*") if Path(part).is_dir() else []:
            if path.name not in programs and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return {**os.environ, "PATH": str(folder)}
