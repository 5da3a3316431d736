"""Ends started services with whoever started them, however that one ends: `kill -9` runs no handler and no `finally`.

A process of its own that looks on: once an owner is gone, it ends all processes that carry a mark. It needs no file,
no pipe that a fork could hold open, and no thread of the owner's to live on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_beam.runners.flink import processes

_POLL_SECONDS, _LOOK_SECONDS = 0.25, 5.0


@dataclass(frozen=True)
class Owner:
    """A process id and the start time of the process. The system reuses ids, so the id alone is not enough."""

    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Returns the process that has this id now."""
        return cls(pid, _began(pid))

    def lives(self) -> bool:
        """Returns whether this process still runs."""
        return bool(self.began) and _began(self.pid) == self.began


def _began(pid: int) -> str:
    """Returns the start time of a process as text, or "" if there is none or it has ended.

    Another process with the same id has another text.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def start(mark: str, owners: Sequence[int], *, alone: bool = False) -> None:
    """Starts a process that ends all processes with this mark when one of the owners has ended.

    Call it before the processes with the mark start.

    Args:
      mark: the mark of `processes.find`.
      owners: ids of running processes.
      alone: the argument of `processes.end`.
    """
    command = [sys.executable, "-m", "pe_beam.runners.flink.watch", f"--mark={mark}"]
    command += [f"--owner={owner.pid}:{owner.began}" for owner in map(Owner.of, owners)]
    command += ["--alone"] if alone else []
    nothing = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Waits until an owner has ended, then ends the processes with the mark.

    Returns earlier if processes with the mark were running and all have ended.
    """
    parser = argparse.ArgumentParser(prog="python -m pe_beam.runners.flink.watch", description=__doc__)
    parser.add_argument("--mark", required=True)
    parser.add_argument("--owner", action="append", required=True, metavar="PID:BEGAN")
    parser.add_argument("--alone", action="store_true", help="end marked processes, not their groups")
    options = parser.parse_args(argv)
    owners = [Owner(int(pid), began) for pid, _, began in (text.partition(":") for text in options.owner)]
    seen, look_at = False, 0.0
    while all(owner.lives() for owner in owners):
        if time.monotonic() >= look_at:
            found = bool(processes.find(options.mark))
            if seen and not found:
                return 0
            seen, look_at = found, time.monotonic() + _LOOK_SECONDS
        time.sleep(_POLL_SECONDS)
    processes.end(options.mark, alone=options.alone)
    time.sleep(1)  # for a process that was just being started
    processes.end(options.mark, alone=options.alone)
    return 0


if __name__ == "__main__":
    os.chdir("/")  # this process must not keep a folder in use
    sys.exit(main())
