"""Says which service is waited for, to whoever listens: a command, or a run that shows its progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def heard_by(say: Callable[[str], None]) -> Iterator[None]:
    """Gives `say` one line for each service that keeps this thread waiting while the body runs."""
    token = _LISTENER.set(say)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Callable[[str], None]:
    """Returns what is called with a line in this thread; it does nothing if nobody listens."""
    return _LISTENER.get() or (lambda _: None)
