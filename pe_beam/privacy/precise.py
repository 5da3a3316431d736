"""Gives mpmath at a set precision to one thread at a time, because its precision and caches are global."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

_LOCK = threading.RLock()


@contextlib.contextmanager
def precision(bits: int) -> Iterator[Any]:
    """Gives the module mpmath at `bits` bits. Other threads that ask for it wait.

    >>> with precision(100) as mpmath:
    ...     mpmath.mp.prec
    100
    """
    import mpmath

    with _LOCK, mpmath.workprec(bits):
        yield mpmath
