"""A store of one's own: a whole run directory in one SQLite file, `--run-dir sqlite:///absolute/path.db`."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pe_beam.contracts.store import Store, Write, checked_name, shown_name, written_bytes
from pe_beam.errors import LockedError, StorageError


class SqliteStore(Store):
    """Files are rows. A transaction makes a write whole, and a primary key lets the first one win."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._path = Path(unquote(urlsplit(uri).path))

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, version INTEGER NOT NULL, data BLOB)"
                )
                database.execute("CREATE TABLE IF NOT EXISTS writes (last INTEGER)")
                database.execute("BEGIN IMMEDIATE")
                yield database
        except sqlite3.Error as error:
            raise StorageError(f"run directory: {self._path.name}: {error}") from error

    def _next(self, database: sqlite3.Connection) -> int:
        """A number that no other write has, deleted files' included."""
        (last,) = database.execute("SELECT coalesce(max(last), 0) FROM writes").fetchone()
        database.execute("DELETE FROM writes")
        database.execute("INSERT INTO writes VALUES (?)", (last + 1,))
        return int(last) + 1

    def _found(self, name: str, columns: str, *values: int) -> tuple:
        with self._database() as database:
            query = f"SELECT {columns} FROM files WHERE name = ?"
            row = database.execute(query, (*values, checked_name(name))).fetchone()
        if row is None:
            raise StorageError(f"run directory: reading {shown_name(name)} failed: No such file or directory")
        return tuple(row)

    def exists(self, name: str) -> bool:
        """See Store."""
        with self._database() as database:
            query = "SELECT 1 FROM files WHERE name = ?"
            return database.execute(query, (checked_name(name),)).fetchone() is not None

    def version(self, name: str) -> str:
        """See Store."""
        return str(self._found(name, "version")[0])

    def size(self, name: str) -> int:
        """See Store."""
        return int(self._found(name, "length(data)")[0])

    def read(self, name: str) -> bytes:
        """See Store."""
        return bytes(self._found(name, "data")[0])

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See Store."""
        return bytes(self._found(name, "substr(data, ?, ?)", start + 1, length)[0])

    def list_files(self, folder: str = "") -> list[str]:
        """See Store."""
        below = f"{checked_name(folder)}/" if folder else ""
        with self._database() as database:
            names = [row[0] for row in database.execute("SELECT name FROM files")]
        return sorted(name for name in names if name.startswith(below))

    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """See Store."""
        if not replace and self.exists(name):
            return False
        data = written_bytes(write)
        with self._database() as database:
            verb = "REPLACE" if replace else "INSERT OR IGNORE"
            values = (checked_name(name), self._next(database), data)
            return database.execute(f"{verb} INTO files VALUES (?, ?, ?)", values).rowcount == 1

    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """See Store."""
        with self._database() as database:
            row = database.execute("SELECT version FROM files WHERE name = ?", (checked_name(name),)).fetchone()
            if expected != (None if row is None else str(row[0])):
                return False
            database.execute("REPLACE INTO files VALUES (?, ?, ?)", (name, self._next(database), data))
            return True

    def delete(self, name: str) -> None:
        """See Store."""
        with self._database() as database:
            database.execute("DELETE FROM files WHERE name = ?", (checked_name(name),))

    @contextlib.contextmanager
    def lease(self, name: str, *, patience: float = 1.0) -> Iterator[None]:
        """A transaction on a file of its own, which dies with its holder."""
        deadline = time.monotonic() + patience
        with contextlib.closing(sqlite3.connect(self._lease(name), timeout=0, isolation_level=None)) as held:
            while not _taken(held):
                if time.monotonic() >= deadline:
                    raise LockedError(f"{self.uri}: another process holds {shown_name(name)}")
                time.sleep(0.02)
            yield

    def is_leased(self, name: str) -> bool:
        """See Store."""
        with contextlib.closing(sqlite3.connect(self._lease(name), timeout=0, isolation_level=None)) as held:
            return not _taken(held)

    def _lease(self, name: str) -> str:
        return f"{self._path}.{checked_name(name).replace('/', '-')}.lease"


def _taken(held: sqlite3.Connection) -> bool:
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    return True
