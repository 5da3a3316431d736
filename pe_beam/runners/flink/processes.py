"""Finds and ends the processes of a cluster by a mark in their command lines, whoever started them.

A mark outlives the starter (killed or not) and, unlike a noted process id, cannot name somebody else's process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TERM_SECONDS = 8.0


@dataclass(frozen=True)
class Found:
    """A living process: its id, its process group, and the name behind the mark."""

    pid: int
    group: int
    name: str


def find(mark: str) -> list[Found]:
    """Living processes whose command line holds `mark/NAME`."""
    listed = _from_proc() if Path("/proc/self/stat").exists() else _from_ps()
    key = f"{mark}/"
    return [Found(pid, group, line.split(key, 1)[1].split()[0]) for pid, group, line in listed if key in line]


def _from_proc() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                state, _, group = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:3]
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state not in "ZX":
                    yield int(folder.name), int(group), line


def _from_ps() -> Iterator[tuple[int, int, str]]:
    listed = subprocess.run(["ps", "-axo", "pid=,pgid=,stat=,command="], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        pid, group, state, command = [*line.split(None, 3), ""][:4]
        if state[0] not in "ZX":
            yield int(pid), int(group), command


def end(mark: str, *, alone: bool = False) -> int:
    """Ends all processes with a mark, and those in their groups unless `alone`; returns how many there were.

    A process that shares its group with whoever started it is ended `alone`.
    """
    found = find(mark)
    groups = set() if alone else {process.group for process in found} - {os.getpgrp()}
    pids = {process.pid for process in found} if alone else set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for send, targets in ((os.killpg, groups), (os.kill, pids)):
            for target in targets:
                with contextlib.suppress(ProcessLookupError):
                    send(target, number)
        limit = time.monotonic() + TERM_SECONDS
        while _any_lives(pids, groups) and time.monotonic() < limit:
            time.sleep(0.1)
    return len(found)


def _any_lives(pids: set[int], groups: set[int]) -> bool:
    listed = _from_proc() if Path("/proc/self/stat").exists() else _from_ps()
    return any(pid in pids or group in groups for pid, group, _ in listed)
