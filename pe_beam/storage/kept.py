"""What this process has read or committed of files that are not changed once they are there, kept for a moment.

Steps of one iteration read the same small files again and again. That is free on a disk; on an object store each time
is a request. A few seconds are enough for that, and few enough that a directory deleted and made anew is seen.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

SECONDS = 5.0
_LARGEST, _MOST = 4 << 20, 64 << 20  # bytes of a file, and of all together


class Kept:
    """Bytes by key, of one bucket as one process sees it."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The bytes of an object, if they were put here a moment ago."""
        with self._mutex:
            since, data = self._found.get(key, (-SECONDS, b""))
            return data if time.monotonic() - since < SECONDS else None

    def put(self, key: str, data: bytes) -> None:
        """Keeps the bytes of an object, unless they are many."""
        if len(data) > _LARGEST:
            return
        with self._mutex:
            self._found.pop(key, None)
            self._found[key] = time.monotonic(), bytes(data)
            total = sum(len(kept) for _, kept in self._found.values())
            while total > _MOST:
                total -= len(self._found.popitem(last=False)[1][1])

    def drop(self, *keys: str) -> None:
        """Forgets objects that are about to be changed."""
        with self._mutex:
            for key in keys:
                self._found.pop(key, None)
