"""Keeps a rate that all processes of one machine share.

It is the generic cell rate algorithm (ITU-T I.371). Its state is one number: the time at which the rate has caught up
with the units that were let through. All processes update it in one file, so independent workers keep one rate.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pe_beam.contracts.store import Folder

_SLACK = 0.97  # share of the rate that is used; the rest covers delays of a busy machine and of the network
_BURST = 0.005  # share of a minute's units that may go at once
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # the clock starts again when the machine is restarted


class Pace:
    """Lets at most `per_minute` units leave this machine in any sliding minute.

    Args:
      folder: folder of the shared file; None: the rate is of this process alone.
      per_minute: units per minute.
      name: name of what is counted, and of the file.
      clock: seconds on a clock that all processes of the machine share.
    """

    def __init__(
        self,
        folder: Folder | None,
        per_minute: float,
        *,
        name: str = "requests",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 60.0 / (per_minute * _SLACK)  # seconds per unit
        self._burst = max(1.0, per_minute * _BURST)
        self._clock = clock
        self._mutex = threading.Lock()
        self._folder, self._file = folder, f"{name}.pace"
        self._own = 0.0
        self._boot = _BOOT.read_bytes().strip()[:36] if _BOOT.exists() else b"-"

    def reserve(self, units: float = 1.0) -> float:
        """Takes the next place in the queue and returns the seconds to wait. A place cannot be given back."""

        def take(caught_up: float, now: float) -> tuple[float, float]:
            start = max(caught_up, now)
            # Units beyond the burst wait until the rate has caught up with all but the burst.
            wait = max(start - now - (self._burst - min(units, self._burst)) * self._interval, 0.0)
            return start + units * self._interval, wait

        return self._change(take)

    def correct(self, units: float) -> None:
        """Adds the units that a call used beyond its reservation. A negative number gives units back."""
        self._change(lambda caught_up, now: (max(caught_up + units * self._interval, 0.0), 0.0))

    def _change(self, step: Callable[[float, float], tuple[float, float]]) -> float:
        result = 0.0

        def change(before: bytes | None) -> bytes:
            nonlocal result
            data = before or b""
            caught_up = struct.unpack("<d", data[:8])[0] if data[8:] == self._boot else 0.0
            after, result = step(caught_up, self._clock())
            return struct.pack("<d", after) + self._boot

        with self._mutex:
            if self._folder is None:
                self._own, result = step(self._own, self._clock())
            else:
                self._folder.update(self._file, change, durable=False)
            return result
