"""What a process has started ends with it, even if it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pe_beam.flink import leash
from pe_beam.flink.cluster import Cluster
from tests.flink.conftest import flink_command

_HOLDER = """
import subprocess, sys
from pe_beam.flink import leash
import os
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
leash.hold(os.getpid(), "--process", str(child.pid))
print(child.pid, flush=True)
sys.stdin.read()
"""


def _gone(pid: int, seconds: float = 30) -> bool:
    limit = time.monotonic() + seconds
    while leash.began(pid) is not None and time.monotonic() < limit:
        time.sleep(0.1)
    return leash.began(pid) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_holder_takes_what_it_started_with_it(number):
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    started = int(holder.stdout.readline())
    assert leash.began(started) is not None
    time.sleep(1.5)
    assert leash.began(started) is not None  # while its holder lives
    holder.send_signal(number)
    holder.wait()
    assert _gone(started)


def test_an_id_that_another_process_got_is_nobodys_holder():
    assert leash.began(os.getpid()) == leash.began(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert leash.began(ended.pid) is None


@pytest.mark.flink
@pytest.mark.xdist_group("flink")
def test_a_cluster_ends_with_the_test_session_that_started_it(flink_pieces, tmp_path):
    """As `make test` does, interrupted by a signal that it does not see."""
    folder = tmp_path / "cluster"
    holder = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    started = flink_command("start", "--dir", str(folder), "--slots", "1", "--holder", str(holder.pid))
    assert started.returncode == 0, started.stderr
    cluster = Cluster(folder)
    pids = [pid for found in cluster.running().values() for pid in found]
    assert len(pids) >= 4
    holder.kill()
    holder.wait()
    assert all(_gone(pid, 60) for pid in pids)
    assert cluster.running() == {}
    limit = time.monotonic() + 30
    while (folder / "cluster.json").exists() and time.monotonic() < limit:
        time.sleep(0.1)  # the last thing that a stop removes
    assert sorted(Path(path).name for path in folder.iterdir()) == ["logs"]
