"""A store: the files of a run directory by relative name, wherever they lie."""

from __future__ import annotations

import abc
import contextlib
import hashlib
import io
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, cast

from pe_beam.errors import LockedError, StorageError

Write = bytes | Callable[[BinaryIO], None]
"""The bytes of a file, or a function that writes them."""

RUN_LOCK = "work/lock"
_PIECE = 1 << 20  # bytes that are read or written at a time
_LONGEST_PAUSE = 1.0  # seconds between two attempts at a swap


class Store(abc.ABC):
    """Files by relative name, such as `release/privacy.json`.

    A name is one or more parts joined by `/`; no part is empty, `.` or `..`. There are no folders but those that names
    make. A store is built from its URI alone and pickled as its URI: another process opens the same files with it.
    Every method raises StorageError where the store cannot do it, and for a name that leaves it.

    A file that is there is changed in one way at a time: replaced by `commit`, changed by `update` and `swap`, or added
    to by `append`.

    Attributes:
      uri: what `pe_beam.storage.open_store` takes; for a local store the absolute path.
      first_pause: seconds that an update which came second waits at most before it tries again; doubled each time.
      remote: whether each call is a request over a network. Callers then ask seldom, and write in blocks.
    """

    first_pause: ClassVar[float] = 0.001
    remote: ClassVar[bool] = False

    def __init__(self, uri: str) -> None:
        """Names the store; nothing is made or asked yet."""
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri,)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash((type(self), self.uri))

    # --- reading ---------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def exists(self, name: str) -> bool:
        """True once the file is committed; False for a folder."""

    @abc.abstractmethod
    def version(self, name: str) -> str:
        """An opaque text that a file of that name with other bytes, before or after, would not have."""

    @abc.abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """All bytes of a file, of one version, also while `update` changes it."""

    @abc.abstractmethod
    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start` on; fewer at the end of the file."""

    @abc.abstractmethod
    def list_files(self, folder: str = "") -> list[str]:
        """Names of all files below a folder, at any depth, sorted; "": of all. Attempts are not among them."""

    def find_committed(self, name: str) -> bytes | None:
        """All bytes of a file that is not changed once it is committed; None: it is not there.

        A store whose requests cost may give what this process has read, or committed, some seconds ago.
        """
        return self.read(name) if self.exists(name) else None

    def read_committed(self, name: str) -> bytes:
        """As `find_committed`, of a file that has to be there."""
        return self.read(name)

    def mapped(self, name: str) -> memoryview:
        """All bytes of a file that is not changed once it is committed, read-only.

        They are memory-mapped where the store can, so that a large file takes no more memory than is looked at. They
        stay as they are when the file is deleted.
        """
        return memoryview(self.read_committed(name))

    def open(self, name: str) -> BinaryIO:
        """A committed file, for reading; it can seek. Only what is asked for is read."""
        return cast(BinaryIO, io.BufferedReader(_Ranges(self, name), 1 << 18))

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of a file, read in pieces."""
        found = hashlib.sha256()
        with self.open(name) as file:
            while piece := file.read(_PIECE):
                found.update(piece)
        return found.hexdigest()

    # --- writing ---------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """Writes a file whole and durably, if it is not there yet. What fails or is killed half-way leaves nothing.

        Args:
          name: of the file.
          write: the bytes, or a function that writes them.
          replace: take the place of a file that is there (for what may change: recipe, status).

        Returns:
          True if these bytes won, False if the file was there first.
        """

    @abc.abstractmethod
    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """Writes a file durably if its version is still the expected one; None: if it is not there.

        Returns:
          True if it was written, False if there is another version.
        """

    def update(self, name: str, change: Callable[[bytes | None], bytes], *, durable: bool = True) -> bytes:
        """Reads a file, changes it and writes it as one step: of racing updates none is lost.

        Args:
          name: of the file.
          change: the bytes that are there (None: no file) -> the bytes to be there. It may be called several times;
            what it raises leaves the file as it was.
          durable: False: a kill loses nothing, but a machine that stops may take the file back to an older version.

        Returns:
          The bytes that were written.
        """
        pause = self.first_pause
        while True:
            found = self._latest(name)
            after = change(None if found is None else found[1])
            if self.swap(name, after, None if found is None else found[0]):
                return after
            time.sleep(random.uniform(0, pause))  # how long to wait shapes nothing
            pause = min(2 * pause, _LONGEST_PAUSE)

    def append(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Adds bytes to the end of a file, which is made if it is not there. A kill may leave a part of them.

        Args:
          name: of the file.
          data: to be added; none of it may be called to make durable what was added before.
          durable: False: a kill loses nothing, but a machine that stops may lose the end.
        """
        self.update(name, lambda before: (before or b"") + data, durable=durable)

    def copy(self, source: str, target: str) -> None:
        """Commits the bytes of one file under another name.

        Raises:
          StorageError: other bytes are there already.
        """

        def write(file: BinaryIO) -> None:
            with self.open(source) as data:
                while piece := data.read(_PIECE):
                    file.write(piece)

        if not self.commit(target, write) and self.digest(source) != self.digest(target):
            raise StorageError(f"run directory: {target} is not what this run has made; restore or delete it")

    @abc.abstractmethod
    def delete(self, name: str) -> None:
        """Deletes a file, durably; nothing happens if it is not there."""

    def delete_all(self, folder: str) -> None:
        """Deletes all below a folder, attempts and leases included."""
        for name in self.list_files(folder):
            self.delete(name)

    def remove(self, name: str) -> None:
        """Deletes a file, or a folder with all below it; nothing happens if it is not there."""
        self.delete(name)
        self.delete_all(name)

    # --- leases ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def lease(self, name: str, *, patience: float = 1.0) -> AbstractContextManager[None]:
        """Holds a name for this holder alone, until the body ends or the holder dies.

        Args:
          name: of no file; nothing is written there.
          patience: seconds to wait for it.

        Raises:
          LockedError: another holder has it.
        """

    @abc.abstractmethod
    def is_leased(self, name: str) -> bool:
        """True while someone holds the name."""

    @contextlib.contextmanager
    def lock(self, *, patience: float = 1.0) -> Iterator[None]:
        """The run lock: one driver works in a run directory; LockedError if another process has it."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self.lease(RUN_LOCK, patience=patience))
            except LockedError:
                raise LockedError(f"{self.uri}: another process is running in this directory") from None
            yield

    def locked(self) -> bool:
        """True while a process holds the run lock."""
        return self.is_leased(RUN_LOCK)

    def demand_lock(self) -> None:  # noqa: B027
        """Makes sure that the run lock, if this process took it, is still its own: asked before work is handed out.

        Raises:
          LockedError: it expired, and another process may work here; only a store whose leases expire says so.
        """

    # --- what only some stores have something to do for --------------------------------------------------------

    def keeps_deleted(self) -> str | None:
        """Why a file may live on that was deleted (versions, soft delete, retention); None: deleted is gone."""
        return None

    def at(self, name: str) -> str:
        """Where a file lies, for people."""
        return f"{self.uri.rstrip('/')}/{name}" if name else self.uri

    def place(self) -> str:
        """One text for one place, however its URI is spelled."""
        return self.uri

    def protect(self, folder: str) -> None:  # noqa: B027
        """Lets nobody but the owner look into a folder, where a store knows owners."""

    def hide_times(self, folder: str) -> None:  # noqa: B027
        """Gives all in a folder of the release one time that tells nothing, where a store lets times be set."""

    def sweep_attempts(self, name: str | None = None) -> None:  # noqa: B027
        """Deletes what killed writers have left of a file; None: of all files, when nobody writes any more."""

    def _latest(self, name: str) -> tuple[str, bytes] | None:
        """A version and bytes that are not older; None: there is no file."""
        for last in (False, False, True):
            try:
                return self.version(name), self.read(name)
            except StorageError:
                # It may have been made in between: a file that is there again and again and is not read is a fault.
                if not self.exists(name):
                    return None
                if last:
                    raise
        return None


@dataclass(frozen=True)
class Folder:
    """A folder of a store, as a store of its own: what parts of a run are given to keep files in.

    Attributes:
      store: where it lies.
      prefix: its name there; "": all of the store.
    """

    store: Store
    prefix: str = ""

    def __str__(self) -> str:
        return self.store.at(self.prefix)

    def __truediv__(self, below: str) -> Folder:
        return Folder(self.store, self.name(below))

    def name(self, below: str) -> str:
        """The name in the store of a file of this folder."""
        return f"{self.prefix}/{below}" if self.prefix else below

    def exists(self, name: str) -> bool:
        """As `Store.exists`."""
        return self.store.exists(self.name(name))

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        return self.store.read(self.name(name))

    def open(self, name: str) -> BinaryIO:
        """As `Store.open`."""
        return self.store.open(self.name(name))

    def list_files(self) -> list[str]:
        """Names in this folder of all files below it, sorted."""
        start = len(self.name(""))
        return [name[start:] for name in self.store.list_files(self.prefix)]

    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """As `Store.commit`."""
        return self.store.commit(self.name(name), write, replace=replace)

    def update(self, name: str, change: Callable[[bytes | None], bytes], *, durable: bool = True) -> bytes:
        """As `Store.update`."""
        return self.store.update(self.name(name), change, durable=durable)

    def append(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """As `Store.append`."""
        self.store.append(self.name(name), data, durable=durable)

    def delete(self, name: str) -> None:
        """As `Store.delete`."""
        self.store.delete(self.name(name))

    def lease(self, name: str, *, patience: float = 1.0) -> AbstractContextManager[None]:
        """As `Store.lease`."""
        return self.store.lease(self.name(name), patience=patience)

    def is_leased(self, name: str) -> bool:
        """As `Store.is_leased`."""
        return self.store.is_leased(self.name(name))


def written_bytes(write: Write) -> bytes:
    """All that is to be written, for a store that keeps a file whole."""
    if isinstance(write, bytes):
        return write
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


def checked_name(name: str) -> str:
    """The name, if it stays in its store.

    Raises:
      StorageError: it is absolute, climbs, or has an empty part. The message does not hold it: names below private/ are
        private.

    >>> checked_name("release/privacy.json")
    'release/privacy.json'
    """
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise StorageError("run directory: a file name that leaves it is refused")
    return name


def shown_name(name: str) -> str:
    """A name that may be said aloud: below private/ only which folder, for names there hold digests and rows."""
    return "/".join(name.split("/")[:2]) if name.startswith("private/") else name


class Seekable(io.RawIOBase):
    """A position in a file of known size. Subclasses read from `_at` on, and move it.

    Args:
      size: bytes of the file.
    """

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Returns the position, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position, also behind the end, and returns it. Raises ValueError before the beginning."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("seek: before the beginning of the file")
        self._at = start + offset
        return self._at


class _Ranges(Seekable):
    """A file that is read by ranges."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store.size(name))
        self._store, self._name = store, name

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self._size - self._at, 0))
        data = self._store.read_range(self._name, self._at, wanted) if wanted else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
