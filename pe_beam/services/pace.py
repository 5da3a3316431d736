"""A rate that all processes of one machine share.

The generic cell rate algorithm (ITU-T I.371): one number, the time at which the rate has caught up with what was
let through. It lies in a file under a lock, so that workers which know nothing of each other keep one rate together.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_SLACK = 0.97  # of the rate that is used: the rest covers what a busy machine and the way to the service delay
_BURST = 0.005  # of a minute's units that may go at once
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # a machine that was started anew begins its clock again


class Pace:
    """At most `per_minute` units in any sliding minute, counted where they leave.

    Args:
      path: the shared file; None: this process alone.
      per_minute: units a minute.
      clock: seconds on a clock that all processes of the machine share.
    """

    def __init__(self, path: Path | None, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60.0 / (per_minute * _SLACK)  # seconds a unit
        self._burst = max(1.0, per_minute * _BURST)
        self._clock = clock
        self._mutex = threading.Lock()
        self._handle = None
        self._own = 0.0
        self._boot = _BOOT.read_bytes().strip()[:36] if _BOOT.exists() else b"-"
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def reserve(self, units: float = 1.0) -> float:
        """Takes the next place in the row; returns the seconds to wait until its turn. A place is never given up."""

        def take(caught_up: float, now: float) -> tuple[float, float]:
            start = max(caught_up, now)
            # What goes beyond the burst waits until the rate has caught up with all but the burst.
            wait = max(start - now - (self._burst - min(units, self._burst)) * self._interval, 0.0)
            return start + units * self._interval, wait

        return self._change(take)

    def correct(self, units: float) -> None:
        """Adds what a call took beyond what was reserved for it; below 0: gives back."""
        self._change(lambda caught_up, now: (max(caught_up + units * self._interval, 0.0), 0.0))

    def _change(self, step: Callable[[float, float], tuple[float, float]]) -> float:
        with self._mutex:
            if self._handle is None:
                self._own, result = step(self._own, self._clock())
                return result
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                data = os.pread(self._handle, 64, 0)
                before = struct.unpack("<d", data[:8])[0] if data[8:] == self._boot else 0.0
                after, result = step(before, self._clock())
                os.pwrite(self._handle, struct.pack("<d", after) + self._boot, 0)
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            return result
