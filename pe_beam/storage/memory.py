"""A store in the memory of this process, for tests: `memory://NAME`."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pe_beam.contracts.store import Store, Write, checked_name, shown_name, written_bytes
from pe_beam.errors import LockedError, StorageError


@dataclass
class _Space:
    """The files of one URL: name -> bytes, and a number that is unique to each write."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


_SPACES: dict[str, _Space] = {}
_NEXT = itertools.count()


class MemoryStore(Store):
    """Keeps files in memory. All threads of a process share them; another process does not see them."""

    def __init__(self, uri: str) -> None:
        """Takes a URL; each different URL is a different store."""
        super().__init__(uri)
        self._space = _SPACES.setdefault(uri, _Space())

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        return checked_name(name) in self._space.files

    def version(self, name: str) -> str:
        """Returns the number of the write."""
        return str(self._found(name)[1])

    def size(self, name: str) -> int:
        """See `Store.size`."""
        return len(self._found(name)[0])

    def read(self, name: str) -> bytes:
        """See `Store.read`."""
        return self._found(name)[0]

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Store.read_range`."""
        return self._found(name)[0][start : start + length]

    def list_files(self, folder: str = "") -> list[str]:
        """See `Store.list_files`."""
        below = f"{checked_name(folder)}/" if folder else ""
        with self._space.lock:
            return sorted(name for name in self._space.files if name.startswith(below))

    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """See `Store.commit`."""
        if not replace and self.exists(name):
            return False
        data = written_bytes(write)
        with self._space.lock:
            won = replace or checked_name(name) not in self._space.files
            if won:
                self._space.files[name] = (data, next(_NEXT))
        return won

    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """See `Store.swap`."""
        with self._space.lock:
            found = self._space.files.get(checked_name(name))
            same = expected == (None if found is None else str(found[1]))
            if same:
                self._space.files[name] = (bytes(data), next(_NEXT))
        return same

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        with self._space.lock:
            self._space.files.pop(checked_name(name), None)

    @contextlib.contextmanager
    def lease(self, name: str, *, patience: float = 1.0) -> Iterator[None]:
        """See `Store.lease`. A lease ends with this process, like all files of the store."""
        deadline = time.monotonic() + patience
        while not self._taken(checked_name(name)):
            if time.monotonic() >= deadline:
                raise LockedError(f"{self.uri}: another thread holds {shown_name(name)}")
            time.sleep(0.005)
        try:
            yield
        finally:
            self._space.leases.discard(name)

    def is_leased(self, name: str) -> bool:
        """See `Store.is_leased`."""
        return checked_name(name) in self._space.leases

    def _taken(self, name: str) -> bool:
        with self._space.lock:
            free = name not in self._space.leases
            self._space.leases.add(name)
        return free

    def _found(self, name: str) -> tuple[bytes, int]:
        try:
            return self._space.files[checked_name(name)]
        except KeyError:
            raise StorageError(f"run directory: reading {shown_name(name)} failed: No such file or directory") from None
