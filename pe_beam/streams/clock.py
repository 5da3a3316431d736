"""The clock that says which windows are due. It does not believe at once that time has leapt.

What closes too early is closed for good, and records that were still to come are late. So a jump forward counts only
after it has lasted; a jump back counts at once, for to wait costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

JUMP = 60.0
"""Seconds by which a clock may be set forward and be believed at once."""
LASTS = 600.0
"""Seconds for which a larger jump has to last: services that set clocks right look every few minutes."""


def _elapsed() -> float:
    """Returns seconds that no one sets, and that also pass while this machine sleeps, where its system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class SteadyClock:
    """The machine's clock, which goes on as it did after a jump forward until the jump has lasted `LASTS` seconds.

    Args:
      wall: seconds since 1970.
      elapsed: seconds since some instant, which nobody sets.
    """

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _elapsed) -> None:
        self._wall, self._elapsed = wall, elapsed
        self._offset = wall() - elapsed()
        self._since: float | None = None  # when a jump that is not believed yet was seen

    def now(self) -> datetime:
        """Returns the instant."""
        elapsed = self._elapsed()
        offset = self._wall() - elapsed
        if offset - self._offset <= JUMP or (self._since is not None and elapsed - self._since >= LASTS):
            self._offset, self._since = offset, None
        elif self._since is None:
            self._since = elapsed
        return datetime.fromtimestamp(elapsed + self._offset, UTC)
