"""Controls a command's process: what it writes on stderr, and how it ends at Ctrl-C. Only commands use it.

At Ctrl-C a command prints one line and ends with exit status 130, whatever its threads do. Without this module Python
prints a trace and waits for threads that nobody has told to stop. Here the main thread unwinds, so that it releases
locks, jobs and processes in order. After `GRACE_SECONDS`, or at a second Ctrl-C, the process ends with everything that
still runs. The next run uses again what this run has committed, so nothing else has to be saved.

The module uses only the standard library, because it has to work before slow imports begin.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
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
    """State of this process: the line for Ctrl-C (None before `begin`), whether Ctrl-C came, whether it is ending."""

    line: str | None = None
    asked = False
    ending = threading.Lock()


def begin(line: str) -> None:
    """Takes control of this process, so that it prints `line` at Ctrl-C and ends.

    Call it in the main thread, before slow imports. From here on libraries log only errors, show no warnings (Beam
    warns of unused parts when it is imported) and draw no progress bars. Ctrl-C stays ignored where it is (nohup).
    """
    logging.basicConfig(level=logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    # Imports make half a million objects that stay: looking for garbage among them was a tenth of a command's start.
    gc.set_threshold(20_000, 50, 100)
    _State.line = line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
        sys.excepthook = _on_exception


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keeps libraries and ending threads silent on stderr. Does nothing if `begin` was not called."""
    if _State.line is None:
        yield
        return
    before, hook = logging.root.manager.disable, threading.excepthook
    logging.disable(logging.CRITICAL)
    threading.excepthook = lambda _: None  # Beam's threads that listen to a job server fail when it ends
    try:
        yield
    finally:
        if not _State.asked:
            logging.disable(before)
            threading.excepthook = hook


@contextlib.contextmanager
def adding(text: str) -> Iterator[None]:
    """Adds a clause to the line that Ctrl-C prints while the body runs; without `begin`, Ctrl-C prints it on stderr."""
    before = _State.line
    if before is not None:
        _State.line = f"{before}; {text}"
    try:
        yield
    except KeyboardInterrupt:
        if before is None:
            print(text, file=sys.stderr)
        raise
    except BaseException:
        _State.line = before
        raise
    _State.line = before


def asked() -> bool:
    """Returns whether Ctrl-C came. If so, it is the reason for every later failure."""
    return _State.asked


def leave(line: str = "") -> int:
    """Prints the line of `begin` and ends the process. Without `begin` it prints `line` and returns the exit status."""
    if _State.line is None:
        print(line, file=sys.stderr)
        return STATUS
    _end(orderly=True)
    return STATUS


def give_up_output() -> None:
    """Drops what standard output did not take; Python would try again as it ends, with a trace and status 120.

    Does nothing if `begin` was not called.
    """
    if _State.line is not None:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _on_interrupt(_: int, __: FrameType | None) -> None:
    if _State.asked:
        _end(orderly=False)
    _State.asked = True
    # Threads fail now because their resources are gone. Their messages help nobody.
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
    """Prints the line and ends the process. The first caller prints.

    A later orderly caller waits `GRACE_SECONDS` for the first; one that is not orderly ends the process at once.
    """
    if _State.ending.acquire(blocking=False):
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(start + str(_State.line), file=sys.stderr, flush=True)
        if orderly:
            atexit._run_exitfuncs()  # stops started servers, does not wait for threads
    elif orderly:
        time.sleep(GRACE_SECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(STATUS)
