"""What all object stores share: names below a prefix, commits, leases, and what is asked of a `Bucket`.

Nothing is kept between processes; a process keeps a client a bucket.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import io
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, ClassVar, cast
from urllib.parse import urlsplit

from pe_beam.contracts.store import RUN_LOCK, Store, Write, checked_name, shown_name
from pe_beam.errors import StorageError
from pe_beam.storage import leases
from pe_beam.storage.asking import Asking
from pe_beam.storage.bucket import Bucket, Head
from pe_beam.storage.kept import Kept
from pe_beam.storage.scratch import map_copy

LEASE = ".lease"
"""Ends the names of objects that hold a lease; no file may be called so, and none is listed."""
LARGE = 8 << 20
"""Bytes above which a body is kept in a temporary file and a file is read piece by piece."""
_AT_ONCE = 8  # requests that delete
_SECRET = "private/secret.key"  # stays in no memory but that of who uses it


class ObjectStore(Store):
    """Files below a prefix of a bucket: `scheme://bucket/prefix`.

    Endpoint and credentials come from the environment, as the service's library reads them.
    """

    first_pause = 0.05
    remote = True
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
        found = self._asking.bucket.kept.get(key)
        if found is None:
            found = self._asking.asked(lambda bucket: bucket.get(key, 0, None), f"reading {shown_name(name)}")
            if found is not None:
                self._asking.bucket.kept.put(key, found)
        return found

    def read_committed(self, name: str) -> bytes:
        """As `Store.read_committed`."""
        found = self.find_committed(name)
        if found is None:
            raise self._missing(name)
        return found

    def mapped(self, name: str) -> memoryview:
        """As `Store.mapped`: a small file is fetched whole, a large one to a disk of this machine (`scratch`)."""
        key, doing = self._key(name), f"reading {shown_name(name)}"
        known = self._asking.bucket.kept.get(key)
        start = self._bytes(name, 0, LARGE) if known is None else known
        if len(start) < LARGE:
            return memoryview(start)

        def fetch(begin: Callable[[], None], write: Callable[[bytes], object]) -> None:
            def ask(bucket: Bucket) -> bool:
                begin()
                return bucket.download(key, write)

            if not self._asking.asked(ask, doing):
                raise self._missing(name)

        found = map_copy(fetch)
        return memoryview(self.read(name)) if found is None else found

    def open(self, name: str) -> BinaryIO:
        """A file for reading: a small one is fetched whole, by one request, or is what this process has committed."""
        known = self._asking.bucket.kept.get(self._key(name))
        start = self._bytes(name, 0, LARGE) if known is None else known
        return cast(BinaryIO, io.BytesIO(start)) if len(start) < LARGE else super().open(name)

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of a file as it lies there: nothing that was kept."""
        self._asking.bucket.kept.drop(self._key(name))
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
        won = self._asking.written(key, body, None if replace else "", f"writing {shown_name(name)}") is not None
        if won and not replace and isinstance(body, bytes) and name != _SECRET:
            self._asking.bucket.kept.put(key, body)
        return won

    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """As `Store.swap`."""
        wanted, doing = "" if expected is None else expected, f"writing {shown_name(name)}"
        return self._asking.written(self._key(name), bytes(data), wanted, doing) is not None

    def append(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """As `Store.append`: the file is read and swapped for a longer one."""
        if data or not self.exists(name):
            super().append(name, data, durable=durable)

    def delete(self, name: str) -> None:
        """Deletes a file."""
        key = self._key(name)
        self._asking.bucket.kept.drop(key)
        self._asking.asked(lambda bucket: bucket.delete([key]), f"deleting {shown_name(name)}")

    def delete_all(self, folder: str) -> None:
        """Deletes all below a folder; leases of this process that lie there end without a word."""
        keys = self._keys(folder, "deleting")
        for lease in leases.holdings(f"{self.place()}/{folder}/" if folder else f"{self.place()}/"):
            lease.drop()
        client = self._asking.bucket
        client.kept.drop(*keys)
        parts = [keys[start : start + client.batch] for start in range(0, len(keys), client.batch)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:

            def gone(part: list[str]) -> None:
                self._asking.asked(lambda bucket: bucket.delete(part), f"deleting {shown_name(folder)}")

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
            return self._asking.asked(lambda bucket: bucket.keeps_deleted(probe), "reading what the bucket keeps")
        except StorageError as error:
            return f"what it keeps of deleted files cannot be read ({str(error).rpartition(' failed: ')[2]})"

    # --- between names and keys ------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        if checked_name(name).endswith(LEASE):
            raise StorageError(f"run directory: a file name that ends in {LEASE} is refused")
        return self._below + name

    def _head(self, name: str) -> Head | None:
        key = self._key(name)
        return self._asking.asked(lambda bucket: bucket.head(key), f"reading {shown_name(name)}")

    def _found(self, name: str) -> Head:
        found = self._head(name)
        if found is None:
            raise self._missing(name)
        return found

    def _bytes(self, name: str, start: int, length: int | None) -> bytes:
        key = self._key(name)
        found = self._asking.asked(lambda bucket: bucket.get(key, start, length), f"reading {shown_name(name)}")
        if found is None:
            raise self._missing(name)
        return found

    def _latest(self, name: str) -> tuple[str, bytes] | None:
        key = self._key(name)
        found = self._asking.asked(lambda bucket: bucket.latest(key), f"reading {shown_name(name)}")
        return None if found is None else (found[0].version, found[1])

    def _keys(self, folder: str, doing: str) -> list[str]:
        prefix = f"{self._key(folder)}/" if folder else self._below
        return self._asking.asked(lambda bucket: bucket.keys(prefix), f"{doing} {shown_name(folder)}".rstrip())

    def _cell(self, name: str) -> leases.Cell:
        key, doing = self._key(name) + LEASE, f"locking {shown_name(name)}"

        def read() -> leases.Seen | None:
            found = self._asking.asked(lambda bucket: bucket.latest(key), doing)
            return None if found is None else leases.Seen(found[0].version, found[1], found[0].modified)

        def write(body: bytes, expected: str | None) -> str | None:
            return self._asking.written(key, body, "" if expected is None else expected, doing)

        return leases.Cell(f"{self.place()}/{name}", self.at(shown_name(name)), read, write)

    def _missing(self, name: str) -> StorageError:
        return StorageError(f"run directory: reading {shown_name(name)} failed: No such file or directory")

    @property
    def _asking(self) -> Asking:
        return Asking(self.uri, client_of(type(self), self._bucket))


def client_of(kind: type[ObjectStore], bucket: str) -> Bucket:
    """A client of a bucket, as the environment is now; one a process is kept.

    Raises:
      MissingExtraError: the service's library is not installed.
      UnreachableError: what the environment says is not enough, or not to be understood.
    """
    settings = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(kind.environment)))
    return _client(kind, bucket, os.getpid(), settings)


@functools.lru_cache(maxsize=8)
def _client(kind: type[ObjectStore], bucket: str, process: int, settings: tuple[tuple[str, str], ...]) -> Bucket:
    """A client a bucket, process and environment: a connection costs more than a request."""
    found = kind.connect(bucket)
    found.kept = Kept()
    return found
