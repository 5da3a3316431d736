"""What a command owns of its process: what it says on stderr, and how it ends at Ctrl-C. Not for the library.

Ctrl-C: exit status 130 and one line, whatever the threads are doing. Python by itself prints a trace, and then waits
for threads that nobody has told to stop. Here the main thread unwinds, so that locks, jobs and processes are let go in
order; what has not ended `GRACE_SECONDS` later, or at a second Ctrl-C, ends with the process. Whatever a run has
committed by then is used again, so nothing else is owed.

Standard library alone: it is in place before anything that takes time to import.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from types import FrameType, TracebackType

STATUS = 130
GRACE_SECONDS = 5.0


class _State:
    """Of this process: what to say, or None where it is not ours; whether Ctrl-C came; whether it is ending."""

    line: str | None = None
    asked = False
    ending = threading.Lock()


def begin(line: str) -> None:
    """Takes this process over, before anything heavy is imported: it says `line` at Ctrl-C and ends.

    Libraries log errors alone from here on, and draw no bars of their own; Beam warns of parts that nobody asked for
    while it is imported. Where Ctrl-C is ignored (nohup), it stays so. To be called in the main thread.
    """
    logging.basicConfig(level=logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    _State.line = line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
        sys.excepthook = _on_exception


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Libraries and dying threads say nothing on stderr; where the process is not ours, they may."""
    if _State.line is None:
        yield
        return
    before, hook = logging.root.manager.disable, threading.excepthook
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None  # Beam's threads that listen to a job server die with it, noisily
    try:
        yield
    finally:
        if not _State.asked:
            logging.disable(before)
            threading.excepthook = hook


def asked() -> bool:
    """Whether Ctrl-C came: whatever fails now fails for that reason."""
    return _State.asked


def leave(line: str = "") -> int:
    """Says so and ends this process; where `begin` was not called, says `line` and returns the exit status."""
    if _State.line is None:
        print(line, file=sys.stderr)
        return STATUS
    _end(orderly=True)
    return STATUS


def _on_interrupt(_: int, __: FrameType | None) -> None:
    if _State.asked:
        _end(orderly=False)
    _State.asked = True
    # Threads that lose what they work with have nothing to say that anybody wants to hear.
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None
    sys.unraisablehook = lambda _: None
    watch = threading.Timer(GRACE_SECONDS, _end, kwargs={"orderly": False})
    watch.daemon = True
    watch.start()
    raise KeyboardInterrupt


def _on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if _State.asked:
        _end(orderly=True)
    sys.__excepthook__(kind, error, trace)


def _end(*, orderly: bool) -> None:
    """Once: a second thread that comes here waits for the first, unless that one took its time being orderly."""
    if _State.ending.acquire(blocking=False):
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(start + str(_State.line), file=sys.stderr, flush=True)
        if orderly:
            atexit._run_exitfuncs()  # started servers are stopped; threads are not waited for
    elif orderly:
        time.sleep(GRACE_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(STATUS)
