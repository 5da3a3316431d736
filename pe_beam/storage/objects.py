"""What all object stores share: names below a prefix, conditional writes that no lost answer confuses, leases.

Create if absent and compare and swap are the service's own conditional writes. One may be applied though its answer is
lost, and the same write asked for again is then refused. So each object carries, as metadata, marks: of each of its
last writers the last write, newest first, handed on by whoever replaces it. A writer that was refused, or that has no
answer, looks whether its mark is among them. Bytes stay those of the local store, and equal bytes of another writer
are not taken for one's own. A version is the service's tag and these marks: an S3 tag is the MD5 of the bytes, and
marks tell apart two writes of the same ones where a writer asks again.

Services differ in `Bucket` alone. Nothing is kept between processes; a process keeps a client a bucket.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import io
import os
import random
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, TypeVar, cast
from urllib.parse import urlsplit

from pe_beam.contracts.store import RUN_LOCK, Store, Write, checked_name, shown_name
from pe_beam.errors import StorageError, UnreachableError
from pe_beam.storage import leases
from pe_beam.storage.kept import Kept

MARKS = "pebeamwrites"
"""Key of the metadata that holds marks: letters alone, for Azure allows no more."""
LEASE = ".lease"
"""Ends the names of objects that hold a lease; no file may be called so, and none is listed."""
LARGE = 8 << 20
"""Bytes above which a body is kept in a temporary file and a file is read piece by piece."""
PATIENCE = 18.0
"""Seconds after which what fails is not tried again."""
NO_BUCKET = "there is no such bucket; make it, or correct its name or the endpoint"
CONNECT, ANSWER = 5.0, 10.0
"""Seconds to wait for a connection, and for an answer to begin."""
_AT_ONCE = 8  # requests that delete
_NAME, _NUMBER = 4, 3  # bytes of a mark: its writer, and the write
_MOST_MARKS = 100  # of 15 characters: S3 takes 2,000 in all
_SECRET = "private/secret.key"  # stays in no memory but that of who uses it
T = TypeVar("T")


@dataclass(frozen=True)
class Head:
    """What a service says of an object.

    Attributes:
      tag: what a conditional write names: a generation or an entity tag.
      marks: the last write of each of its last writers, newest first, joined by commas.
      size: bytes.
      modified: seconds since 1970 by the service's clock.
    """

    tag: str
    marks: str
    size: int
    modified: float

    @property
    def version(self) -> str:
        """As `Store.version`."""
        return f"{self.tag} {self.marks}"


@dataclass(frozen=True)
class Trouble:
    """Why a service did not do what it was asked.

    Attributes:
      said: ends a sentence; of the request it holds nothing.
      passing: whether to try again.
      setup: whether address, rights or credentials are at fault.
    """

    said: str
    passing: bool = False
    setup: bool = False


class Bucket(abc.ABC):
    """One bucket of a service, without retries: what fails raises the exceptions of the service's library.

    Attributes:
      kept: what was read and committed here a moment ago.
      batch: how many objects one request deletes.
    """

    kept: Kept
    batch: int

    @abc.abstractmethod
    def head(self, key: str) -> Head | None:
        """None: no such object."""

    @abc.abstractmethod
    def latest(self, key: str) -> tuple[Head, bytes] | None:
        """An object and all its bytes, of one version."""

    @abc.abstractmethod
    def get(self, key: str, start: int, length: int | None) -> bytes | None:
        """Bytes of an object, none beyond its end; None: no such object."""

    @abc.abstractmethod
    def put(self, key: str, body: bytes | BinaryIO, expected: str | None, marks: str) -> str | None:
        """Writes an object.

        Args:
          key: of the object.
          body: bytes, or a file of them from its beginning.
          expected: the tag of the object that it replaces; "": there is none; None: whatever is there.
          marks: to be kept with it.

        Returns:
          Its tag; None if what was expected is not there.
        """

    @abc.abstractmethod
    def keys(self, prefix: str) -> list[str]:
        """Keys of all objects below a prefix that ends in "/" or is empty."""

    @abc.abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, in as few requests as the service allows; one that is gone is no fault."""

    @abc.abstractmethod
    def trouble(self, error: Exception) -> Trouble | None:
        """What an exception means; None: it is no fault of the service."""

    @abc.abstractmethod
    def keeps_deleted(self, probe: str) -> str | None:
        """Why a deleted object may live on; None: it does not. `probe` is a key that may be written and deleted."""


class ObjectStore(Store):
    """Files below a prefix of a bucket: `scheme://bucket/prefix`.

    Endpoint and credentials come from the environment, as the service's library reads them.
    """

    first_pause = 0.05
    scheme: ClassVar[str]
    environment: ClassVar[tuple[str, ...]]
    """How variables begin that the library reads."""

    def __init__(self, uri: str) -> None:
        """Takes the URL.

        Raises:
          StorageError: it is not a bucket and a prefix alone.
        """
        parts = urlsplit(uri)
        clean = parts.path.strip("/")
        if not parts.netloc or "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
            raise StorageError(
                f"--run-dir: a URL of the form {self.scheme}://BUCKET/PREFIX is wanted; endpoint and credentials come "
                "from the environment"
            )
        self._bucket, self._below = parts.netloc, f"{checked_name(clean)}/" if clean else ""
        super().__init__(f"{self.scheme}://{self._bucket}/{clean}".rstrip("/"))

    @classmethod
    @abc.abstractmethod
    def connect(cls, bucket: str) -> Bucket:
        """A client of a bucket; asks nothing yet.

        Raises:
          MissingExtraError: the service's library is not installed.
          UnreachableError: what the environment says is not enough, or not to be understood.
        """

    def exists(self, name: str) -> bool:
        """True once it is committed."""
        return self._head(name) is not None

    def version(self, name: str) -> str:
        """The service's tag and the marks of the last writes."""
        return self._found(name).version

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self._found(name).size

    def read(self, name: str) -> bytes:
        """All of a file."""
        return self._bytes(name, 0, None)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some of a file."""
        return self._bytes(name, start, length)

    def find_committed(self, name: str) -> bytes | None:
        """As `Store.find_committed`: one request, or none."""
        key = self._key(name)
        found = self._client().kept.get(key)
        if found is None:
            found = self._asked(lambda bucket: bucket.get(key, 0, None), f"reading {shown_name(name)}")
            if found is not None:
                self._client().kept.put(key, found)
        return found

    def read_committed(self, name: str) -> bytes:
        """As `Store.read_committed`."""
        found = self.find_committed(name)
        if found is None:
            raise self._missing(name)
        return found

    def open(self, name: str) -> BinaryIO:
        """A file for reading: a small one is fetched whole, by one request, or is what this process has committed."""
        known = self._client().kept.get(self._key(name))
        start = self._bytes(name, 0, LARGE) if known is None else known
        return cast(BinaryIO, io.BytesIO(start)) if len(start) < LARGE else super().open(name)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of a file as it lies there: nothing that was kept."""
        self._client().kept.drop(self._key(name))
        return super().digest(name)

    def list_files(self, folder: str = "") -> list[str]:
        """Names below a folder; objects that end in "/", which consoles make of folders, are none."""
        keys = self._keys(folder, "reading")
        names = [key[len(self._below) :] for key in keys if not key.endswith((LEASE, "/"))]
        return sorted(names)

    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """As `Store.commit`; what a function writes is kept in a temporary file without a name, and sent whole."""
        if isinstance(write, bytes):
            return self._committed(name, write, replace=replace)
        with tempfile.SpooledTemporaryFile(max_size=LARGE) as spool:
            write(cast(BinaryIO, spool))
            size = spool.seek(0, io.SEEK_END)
            spool.seek(0)
            if size < LARGE:
                return self._committed(name, spool.read(), replace=replace)
            if not replace and self._head(name) is not None:
                return False  # sooner than after all of it was sent
            return self._committed(name, cast(BinaryIO, spool), replace=replace)

    def _committed(self, name: str, body: bytes | BinaryIO, *, replace: bool) -> bool:
        key = self._key(name)
        won = self._written(key, body, None if replace else "", name) is not None
        if won and not replace and isinstance(body, bytes) and name != _SECRET:
            self._client().kept.put(key, body)
        return won

    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """As `Store.swap`."""
        return self._written(self._key(name), bytes(data), "" if expected is None else expected, name) is not None

    def append(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """As `Store.append`: the file is read and swapped for a longer one."""
        if data or not self.exists(name):
            super().append(name, data, durable=durable)

    def delete(self, name: str) -> None:
        """Deletes a file."""
        key = self._key(name)
        self._client().kept.drop(key)
        self._asked(lambda bucket: bucket.delete([key]), f"deleting {shown_name(name)}")

    def delete_all(self, folder: str) -> None:
        """Deletes all below a folder; leases of this process that lie there end without a word."""
        keys = self._keys(folder, "deleting")
        for lease in leases.holdings(f"{self.place()}/{folder}/" if folder else f"{self.place()}/"):
            lease.drop()
        client = self._client()
        client.kept.drop(*keys)
        parts = [keys[start : start + client.batch] for start in range(0, len(keys), client.batch)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:

            def gone(part: list[str]) -> None:
                self._asked(lambda bucket: bucket.delete(part), f"deleting {shown_name(folder)}")

            list(pool.map(gone, parts))

    @contextlib.contextmanager
    def lease(self, name: str, *, patience: float = 1.0) -> Iterator[None]:
        """As `Store.lease`: an object that this process renews; LockedError at the end too, if it was lost on the way.

        Where an object names a holder, this waits until that one is seen to live, or for as long as its lease holds.
        """
        held = leases.take(self._cell(name), patience)
        try:
            yield
        finally:
            if not held.dropped:
                held.free()
        held.demand()

    def is_leased(self, name: str) -> bool:
        """True while someone holds the name, and for as long as a lease holds after a holder was killed."""
        return leases.is_held(self._cell(name))

    def demand_lock(self) -> None:
        """As `Store.demand_lock`."""
        held = leases.holding(self._cell(RUN_LOCK).place)
        if held is not None:
            held.demand()

    def keeps_deleted(self) -> str | None:
        """As `Store.keeps_deleted`: what versioning, soft delete and retention of the bucket say."""
        probe = self._key(f"private/probe-{secrets.token_hex(8)}")
        try:
            return self._asked(lambda bucket: bucket.keeps_deleted(probe), "reading what the bucket keeps")
        except StorageError as error:
            return f"what it keeps of deleted files cannot be read ({str(error).rpartition(' failed: ')[2]})"

    # --- between names and keys ------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        if checked_name(name).endswith(LEASE):
            raise StorageError(f"run directory: a file name that ends in {LEASE} is refused")
        return self._below + name

    def _head(self, name: str) -> Head | None:
        key = self._key(name)
        return self._asked(lambda bucket: bucket.head(key), f"reading {shown_name(name)}")

    def _found(self, name: str) -> Head:
        found = self._head(name)
        if found is None:
            raise self._missing(name)
        return found

    def _bytes(self, name: str, start: int, length: int | None) -> bytes:
        key = self._key(name)
        found = self._asked(lambda bucket: bucket.get(key, start, length), f"reading {shown_name(name)}")
        if found is None:
            raise self._missing(name)
        return found

    def _latest(self, name: str) -> tuple[str, bytes] | None:
        key = self._key(name)
        found = self._asked(lambda bucket: bucket.latest(key), f"reading {shown_name(name)}")
        return None if found is None else (found[0].version, found[1])

    def _keys(self, folder: str, doing: str) -> list[str]:
        prefix = f"{self._key(folder)}/" if folder else self._below
        return self._asked(lambda bucket: bucket.keys(prefix), f"{doing} {shown_name(folder)}".rstrip())

    def _cell(self, name: str) -> leases.Cell:
        key, doing = self._key(name) + LEASE, f"locking {shown_name(name)}"

        def read() -> leases.Seen | None:
            found = self._asked(lambda bucket: bucket.latest(key), doing)
            return None if found is None else leases.Seen(found[0].version, found[1], found[0].modified)

        def write(body: bytes, expected: str | None) -> str | None:
            return self._written(key, body, "" if expected is None else expected, name, doing=doing)

        return leases.Cell(f"{self.place()}/{name}", self.at(shown_name(name)), read, write)

    def _missing(self, name: str) -> StorageError:
        return StorageError(f"run directory: reading {shown_name(name)} failed: No such file or directory")

    # --- asking a service ------------------------------------------------------------------------------------

    def _asked(self, ask: Callable[[Bucket], T], doing: str) -> T:
        """What a request brings; it may be asked again."""
        bucket, tries = self._client(), _Tries(self, doing)
        while True:
            try:
                return ask(bucket)
            except Exception as error:  # `failed` raises what is not the service's
                tries.failed(bucket, error)

    def _written(
        self, key: str, body: bytes | BinaryIO, expected: str | None, name: str, *, doing: str = ""
    ) -> str | None:
        """The version that was written; None: another writer was faster.

        Args:
          key: of the object.
          body: a file is sent from its beginning.
          expected: the version that it replaces; "": there is none; None: whatever is there.
          name: of the file.
          doing: for messages.
        """
        self._client().kept.drop(key)
        bucket, tries = self._client(), _Tries(self, doing or f"writing {shown_name(name)}")
        tag, _, before = (expected or "").rpartition(" ")
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
            there = self._asked(lambda bucket: bucket.head(key), tries.doing)
            past = [] if there is None else there.marks.split(",")
            if there is not None and own in past:
                # Whoever came after has built on it: what replaces this very version is refused then.
                return f"{there.tag if past[0] == own else 'replaced'} {marks}"
            if expected is not None and ("" if there is None else there.version) != expected:
                return None
            tries.again()

    def _client(self) -> Bucket:
        settings = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(self.environment)))
        return _client(type(self), self._bucket, os.getpid(), settings)


class _Tries:
    """Counts time, and says what a failure means."""

    def __init__(self, store: ObjectStore, doing: str) -> None:
        self._store, self.doing = store, doing
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
            raise kind(f"--run-dir {self._store.uri}: {self.doing} failed: {found.said}") from None
        self.again()

    def again(self) -> None:
        """Waits for another try of what was refused though nothing stands in its way; StorageError: time is up."""
        if time.monotonic() + self._pause > self._end:
            raise StorageError(
                f"--run-dir {self._store.uri}: {self.doing} failed: the store refuses it again and again"
            )
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


@functools.lru_cache(maxsize=8)
def _client(kind: type[ObjectStore], bucket: str, process: int, settings: tuple[tuple[str, str], ...]) -> Bucket:
    """A client a bucket, process and environment: a connection costs more than a request."""
    found = kind.connect(bucket)
    found.kept = Kept()
    return found
