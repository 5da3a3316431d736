"""Ends what a process has started, once that process is gone, however it went: even killed, it leaves nothing behind.

    python -m pe_beam.flink.leash --holder PID --cluster DIR
    python -m pe_beam.flink.leash --holder PID --process PID

It runs beside them in a session of its own, so that a signal to its holder's terminal or group does not end it first.
A process is known by its id and the time it began: an id that another process got later is not mistaken for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SECONDS = 0.5
TERM_SECONDS = 5.0


def hold(holder: int, *arguments: str) -> None:
    """Starts a leash in the hand of a process; `arguments` say what it ends."""
    subprocess.Popen(
        [sys.executable, "-m", "pe_beam.flink.leash", "--holder", str(holder), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def began(pid: int) -> str | None:
    """What tells a living process from a later one of the same id; None: there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip() or None


def main(argv: Sequence[str] | None = None) -> int:
    """Waits for the holder's end, or for that of what it holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pe_beam.flink.leash", description=__doc__)
    parser.add_argument("--holder", type=int, required=True, help="process id to wait for")
    held = parser.add_mutually_exclusive_group(required=True)
    held.add_argument("--cluster", metavar="DIR", help="the folder of a cluster")
    held.add_argument("--process", type=int, help="process id")
    options = parser.parse_args(argv)
    holder = began(options.holder)
    if options.cluster is not None:
        settings = Path(options.cluster) / "cluster.json"
        if _waited(options.holder, holder, settings.exists):
            from pe_beam.flink.cluster import Cluster

            Cluster(options.cluster).stop()
        return 0
    process = began(options.process)
    if _waited(options.holder, holder, lambda: began(options.process) == process is not None):
        _end(options.process, process)
    return 0


def _waited(holder: int, since: str | None, needed: Callable[[], bool]) -> bool:
    """True once the holder is gone; False once nothing is left to end."""
    while since is not None and began(holder) == since:
        if not needed():
            return False
        time.sleep(SECONDS)
    return needed()


def _end(pid: int, since: str | None) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if since is None or began(pid) != since:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        limit = time.monotonic() + TERM_SECONDS
        while began(pid) == since and time.monotonic() < limit:
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
