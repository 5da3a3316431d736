"""Finds and ends the processes of a cluster by a mark in their command lines. It does not matter who started them.

A mark still works after the starter has ended or was killed. A stored process id may belong to another process later;
a mark cannot.
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
    """A running process: its id, its process group, and the name after the mark."""

    pid: int
    group: int
    name: str


def find(mark: str) -> list[Found]:
    """Returns the running processes with `mark/NAME` in their command line."""
    listed = _from_proc() if Path("/proc/self/stat").exists() else _from_ps()
    key = f"{mark}/"
    return [Found(pid, group, line.split(key, 1)[1].split()[0]) for pid, group, line in listed if key in line]


def _from_proc() -> Iterator[tuple[int, int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # the process has ended meanwhile
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
    """Ends all processes with a mark, and the other processes in their groups unless `alone`.

    Use `alone` for a process that shares its group with its starter. Returns the number of processes with the mark.
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
