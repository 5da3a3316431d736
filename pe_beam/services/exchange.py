"""Runs what talks to a store on a thread of its own, when it is due: a request must not hold up calls to a service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Exchange:
    """One function on one thread, which begins when it is first asked for and ends with `close` or with the process.

    Args:
      work: returns seconds until it is due again; None: only when it is asked for. What it raises, `demand` raises.
      name: of the thread.
      pause: seconds between two times at least.
    """

    def __init__(self, work: Callable[[], float | None], name: str, *, pause: float = 0.0) -> None:
        self._work, self._name, self._pause = work, name, pause
        self._event, self._mutex = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._closed = threading.Event()

    def ask(self) -> None:
        """Makes the function due now. It does not wait for it."""
        self._event.set()
        with self._mutex:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def demand(self) -> None:
        """Raises what the function has raised since the last call, once."""
        with self._mutex:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends the thread, once what it is doing is done."""
        with self._mutex:
            thread = self._thread
        self._closed.set()
        self._event.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        due: float | None = None
        while True:
            self._event.wait(due)
            self._event.clear()
            if self._closed.is_set():
                return
            try:
                due = self._work()
            except BaseException as error:
                due = None
                with self._mutex:
                    self._error = error
            self._closed.wait(self._pause)


def now() -> float:
    """Returns seconds on a clock of this machine that also runs while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
