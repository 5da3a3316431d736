"""Asking a bucket until it answers, and writing so that no lost answer makes a false loser.

Create if absent and compare and swap are the service's own conditional writes. One may be applied though its answer is
lost, and the same write asked for again is then refused. So each object carries, as metadata, marks: of each of its
last writers the last write, newest first, handed on by whoever replaces it. A writer that was refused, or that has no
answer, looks whether its mark is among them. Bytes stay those of the local store, and equal bytes of another writer
are not taken for one's own. A version is the service's tag and these marks: an S3 tag is the MD5 of the bytes, and
marks tell apart two writes of the same ones where a writer asks again.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from pe_beam.errors import StorageError, UnreachableError
from pe_beam.storage.bucket import Bucket

PATIENCE = 18.0
"""Seconds after which what fails is not tried again."""
_NAME, _NUMBER = 4, 3  # bytes of a mark: its writer, and the write
_MOST_MARKS = 100  # of 15 characters: S3 takes 2,000 in all
T = TypeVar("T")


class Asking:
    """Requests to one bucket for one store, whose URI messages name."""

    def __init__(self, uri: str, bucket: Bucket) -> None:
        """Takes the client."""
        self._uri, self.bucket = uri, bucket

    def asked(self, ask: Callable[[Bucket], T], doing: str) -> T:
        """What a request brings; it may be asked again."""
        bucket, tries = self.bucket, _Tries(self._uri, doing)
        while True:
            try:
                return ask(bucket)
            except Exception as error:  # `failed` raises what is not the service's
                tries.failed(bucket, error)

    def written(self, key: str, body: bytes | BinaryIO, expected: str | None, doing: str) -> str | None:
        """The version that was written; None: another writer was faster.

        Args:
          key: of the object.
          body: a file is sent from its beginning.
          expected: the version that it replaces; "": there is none; None: whatever is there.
          doing: for messages.
        """
        bucket, tries = self.bucket, _Tries(self._uri, doing)
        bucket.kept.drop(key)
        tag, _, before = (expected or "").rpartition(" ")
        if expected and not tag:
            return None  # no version of ours, and no object's
        own, marks = _marked(before)
        while True:
            try:
                if not isinstance(body, bytes):
                    body.seek(0)
                written = bucket.put(key, body, None if expected is None else tag, marks)
                if written is not None:
                    return f"{written} {marks}"
            except Exception as error:  # `failed` raises what is not the service's
                tries.failed(bucket, error)
            # Refused, or no answer: the request may have been applied, and this may be its second time.
            there = self.asked(lambda bucket: bucket.head(key), doing)
            past = [] if there is None else there.marks.split(",")
            if there is not None and own in past:
                # Whoever came after has built on it: what replaces this very version is refused then.
                return f"{there.tag if past[0] == own else 'replaced'} {marks}"
            if expected is not None and ("" if there is None else there.version) != expected:
                return None
            tries.again()


class _Tries:
    """Counts time, and says what a failure means."""

    def __init__(self, uri: str, doing: str) -> None:
        self._uri, self._doing = uri, doing
        self._end, self._pause = time.monotonic() + PATIENCE, 0.05

    def failed(self, bucket: Bucket, error: Exception) -> None:
        """Waits for another try.

        Raises:
          StorageError: it is of no use, or time is up.
          Exception: the same one, if it is no fault of the service.
        """
        found = bucket.trouble(error)
        if found is None:
            raise error
        if not found.passing or time.monotonic() + self._pause > self._end:
            kind = UnreachableError if found.setup else StorageError
            # Not `from error`: what libraries say holds keys of objects, and those of private files are private.
            raise kind(f"--run-dir {self._uri}: {self._doing} failed: {found.said}") from None
        self.again()

    def again(self) -> None:
        """Waits for another try of what was refused though nothing stands in its way; StorageError: time is up."""
        if time.monotonic() + self._pause > self._end:
            raise StorageError(f"--run-dir {self._uri}: {self._doing} failed: the store refuses it again and again")
        time.sleep(random.uniform(self._pause / 2, self._pause))  # how long to wait shapes nothing
        self._pause = min(2 * self._pause, 2.0)


_writer = threading.local()


def _marked(before: str) -> tuple[str, str]:
    """A mark for a write, and the marks that go with it, after those of what it replaces.

    All of it is random: a count would tell in release/ how much was written before, and so of the number of records.
    """
    if not before:
        own = secrets.token_hex(_NAME + _NUMBER)
        return own, own
    if getattr(_writer, "process", None) != os.getpid():
        _writer.process, _writer.name = os.getpid(), secrets.token_hex(_NAME)
    own = f"{_writer.name}{secrets.token_hex(_NUMBER)}"
    others = [mark for mark in before.split(",") if mark[: 2 * _NAME] != _writer.name]
    return own, ",".join([own, *others[: _MOST_MARKS - 1]])
