"""Keeps a rate that all processes share: by one file where that is cheap, by parts of the rate where it is not.

`Pace` is the generic cell rate algorithm (ITU-T I.371). Its state is one number: the time at which the rate has caught
up with the units that were let through. All processes of a machine update it in one file. `SharedPace` is a token
bucket of its own in each process, filled at the process's part of the rate (`shares`).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pe_beam.contracts.store import Folder
from pe_beam.services.exchange import now
from pe_beam.services.shares import Shares

_SLACK = 0.97  # share of the rate that is used; the rest covers delays of a busy machine and of the network
_BURST = 0.005  # share of a minute's units that may go at once
_FILLED = 0.9  # share of the rate that `SharedPace` uses; the rest is for the unit that a process may be ahead by
_LOOK = 0.5  # seconds after which it looks again: its part may have grown
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

    def offer(self, units: float = 1.0) -> tuple[bool, float]:
        """Returns whether a place was taken, and the seconds to wait: for the place, or before the next try."""
        return True, self.reserve(units)

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

    def close(self) -> None:
        """Ends this process's part in the rate, after the last call."""

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


class SharedPace(Pace):
    """Lets at most `per_minute` units of all processes together leave in any sliding minute.

    Let r be `per_minute`. A process whose part is p fills its bucket at `_FILLED` p r a minute, and parts add up to 1
    at most. A bucket holds one unit and is empty at first, so that in any minute at most `_FILLED` r units leave, and
    one more for each process that had a part when the minute began: with r / `LEAST` processes at most r in all. Calls
    of many units leave when the bucket is not in debt, so that each process may be ahead by one call.

    Args:
      shares: parts of the rate.
      per_minute: units per minute, of all processes.
      clock: seconds on a clock of this process.
    """

    LEAST = 16
    """Units a minute that a process should have: with fewer, the unit that it may be ahead by counts too much."""

    def __init__(self, shares: Shares, per_minute: float, *, clock: Callable[[], float] = now) -> None:
        super().__init__(None, per_minute, clock=clock)
        self._shares, self._filled = shares, _FILLED * per_minute / 60  # units per second
        self._holds, self._rate, self._since = 0.0, 0.0, clock()

    def offer(self, units: float = 1.0) -> tuple[bool, float]:
        """Takes a place if one is free now. Otherwise the seconds to wait are those before the next try."""
        with self._mutex:
            self._fill()
            missing = min(units, 1.0) - self._holds
            if missing <= 0:
                self._holds -= units
                return True, 0.0
            return False, min(missing / self._rate, _LOOK) if self._rate else _LOOK

    def correct(self, units: float) -> None:
        """See `Pace.correct`."""
        with self._mutex:
            self._holds = min(self._holds - units, 1.0)

    def close(self) -> None:
        """See `Pace.close`. Paces that have their parts in common may each be closed."""
        self._shares.close()

    def _fill(self) -> None:
        moment, rate = self._clock(), self._shares.part() * self._filled
        # The part may have changed at any time since the last call: the smaller one counts.
        self._holds = min(self._holds + min(rate, self._rate) * (moment - self._since), 1.0)
        self._since, self._rate = moment, rate
