"""Reads objects of any bucket, without a run directory: the private data where they lie. Nothing is written.

Clients, credentials and variables of emulators are those of the stores (`gs.py`, `s3.py`, `az.py`).
"""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar, cast

from pe_beam import registry
from pe_beam.contracts.store import Seekable
from pe_beam.errors import DataError, MissingExtraError, PeBeamError, StorageError
from pe_beam.storage.asking import PATIENCE
from pe_beam.storage.bucket import Bucket, Head
from pe_beam.storage.objects import ObjectStore, client_of

FIRST, MOST = 256 << 10, 8 << 20
"""Bytes of the first request, and of the largest of those that follow each other."""
_DENIED = "access is denied"
T = TypeVar("T")


class UnreadableError(Exception):
    """An object or a bucket cannot be read. The message ends a sentence, and names no object.

    Attributes:
      kind: the error that the user gets.
    """

    def __init__(self, said: str, kind: type[PeBeamError] = DataError) -> None:
        """Takes the message."""
        super().__init__(said)
        self.kind = kind


def is_object(url: str) -> bool:
    """Returns whether a URL names an object store: gs, s3, az or one of a third party."""
    scheme, sign, _ = url.partition("://")
    return bool(sign) and _store_of(scheme.lower()) is not None


def list_objects(url: str) -> list[tuple[str, int]]:
    """Returns (URL, bytes) of all objects below a URL that ends in "/".

    Raises:
      UnreadableError: the bucket cannot be read.
    """
    place = _Place(url)
    found = place.asked(lambda bucket: bucket.listed(place.key))
    return [(f"{place.root}/{key}", size) for key, size in found if not key.endswith("/")]


def find_object(url: str) -> Head | None:
    """Returns what the service says of an object; None: there is none.

    Raises:
      UnreadableError: the bucket cannot be read.
    """
    place = _Place(url)
    return place.asked(lambda bucket: bucket.head(place.key)) if place.key else None


def open_object(url: str, size: int = 0) -> BinaryIO:
    """Opens an object for reading: seekable, and read ahead where it is read in order.

    Args:
      url: of the object.
      size: its bytes, if they are known; 0: the service is asked.

    Raises:
      FileNotFoundError: there is no such object.
      UnreadableError: the bucket cannot be read.
    """
    if not size:
        found = find_object(url)
        if found is None:
            raise FileNotFoundError
        size = found.size
    return cast(BinaryIO, io.BufferedReader(_Ahead(_Place(url), size), FIRST))


def read_object(url: str, most: int) -> bytes:
    """Returns the first `most` bytes of an object, or all if it has fewer, by one request.

    Raises:
      FileNotFoundError: there is no such object.
      UnreadableError: the bucket cannot be read.
    """
    place = _Place(url)
    found = place.asked(lambda bucket: bucket.get(place.key, 0, most))
    if found is None:
        raise FileNotFoundError
    return found


class _Place:
    """A bucket and a key in it, as a URL names them."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        name, _, self.key = rest.partition("/")
        self.root = f"{scheme}://{name}"
        kind = _store_of(scheme.lower())
        if not name or kind is None:
            raise UnreadableError(f"{scheme}:// is followed by the name of a bucket")
        try:
            self._bucket = client_of(kind, name)
        except (MissingExtraError, StorageError) as error:
            raise UnreadableError(str(error).removeprefix("--run-dir: "), type(error)) from None

    def asked(self, ask: Callable[[Bucket], T]) -> T:
        """Returns what a request brings. What passes by is asked again for some seconds."""
        end, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                return ask(self._bucket)
            except Exception as error:  # what is not the service's is raised again
                found = self._bucket.trouble(error)
                if found is None:
                    raise
                if not found.passing or time.monotonic() + pause > end:
                    wanted = f"{_DENIED}; whom the credentials name has to list and read objects there"
                    said = wanted if found.said.startswith(_DENIED) else found.said
                    # Not `from error`: what libraries say holds keys of objects.
                    raise UnreadableError(f"{self.root} cannot be read: {said}") from None
            time.sleep(random.uniform(pause / 2, pause))  # how long to wait shapes nothing
            pause = min(2 * pause, 2.0)

    def fetch(self, start: int, length: int) -> bytes:
        """Returns bytes of the object; all of them are there.

        Raises:
          FileNotFoundError: there is no such object.
          UnreadableError: the object is shorter than it was.
        """
        found = self.asked(lambda bucket: bucket.get(self.key, start, length))
        if found is None:
            raise FileNotFoundError
        if len(found) != length:
            raise UnreadableError("a file there is not what it was when it was listed")
        return found


class _Ahead(Seekable):
    """An object that is read by ranges. While it is read in order, the next range is asked for ahead."""

    def __init__(self, place: _Place, size: int) -> None:
        super().__init__(size)
        self._place, self._begin = place, 0
        self._block = b""
        self._step = FIRST
        self._next: Future[bytes] | None = None
        self._next_begin = 0

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        if not self._begin <= self._at < self._begin + len(self._block):
            self._load(wanted)
        start = self._at - self._begin
        data = memoryview(self._block)[start : start + wanted]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        super().close()

    def _load(self, wanted: int) -> None:
        """Fetches the block at the current position. A block right behind the last one is larger."""
        behind = self._begin + len(self._block)
        in_order = behind <= self._at < behind + self._step and bool(self._block)
        self._step = min(2 * self._step, MOST) if in_order else FIRST
        if self._next is not None and self._next_begin <= self._at:
            block = self._next.result()
            begin, self._next = self._next_begin, None
            if self._at < begin + len(block):
                self._begin, self._block = begin, block
                self._ask_ahead()
                return
        length = min(max(wanted, self._step), self._size - self._at)
        self._block, self._begin = self._place.fetch(self._at, length), self._at
        if in_order:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        start = self._begin + len(self._block)
        length = min(self._step, self._size - start)
        if length > 0:
            self._next_begin = start
            self._next = _pool(os.getpid()).submit(self._place.fetch, start, length)


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads that ask ahead, a pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(32, "pe_beam-ahead")


@lru_cache(maxsize=64)
def _store_of(scheme: str) -> type[ObjectStore] | None:
    for point in registry.points("stores"):
        if point.name == scheme:
            found = point.load()
            return found if isinstance(found, type) and issubclass(found, ObjectStore) else None
    return None
