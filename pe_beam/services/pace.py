"""A rate that all processes of one machine share.

The generic cell rate algorithm (ITU-T I.371): one number, the time at which the rate has caught up with what was
let through. It lies in a file that all of them update, so that workers which know nothing of each other keep one rate.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pe_beam.contracts.store import Folder

_SLACK = 0.97  # of the rate that is used: the rest covers what a busy machine and the way to the service delay
_BURST = 0.005  # of a minute's units that may go at once
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # a machine that was started anew begins its clock again


class Pace:
    """At most `per_minute` units in any sliding minute, counted where they leave.

    Args:
      folder: where the shared file lies; None: this process alone.
      per_minute: units a minute.
      name: of what is counted, and so of the file.
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
        self._interval = 60.0 / (per_minute * _SLACK)  # seconds a unit
        self._burst = max(1.0, per_minute * _BURST)
        self._clock = clock
        self._mutex = threading.Lock()
        self._folder, self._file = folder, f"{name}.pace"
        self._own = 0.0
        self._boot = _BOOT.read_bytes().strip()[:36] if _BOOT.exists() else b"-"

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
