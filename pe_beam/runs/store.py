"""Durable, create-if-absent files in a run directory: what Beam's file systems lack.

Local: a commit is a temporary file under `work/attempts`, fsync, `os.link` to its name, fsync of the folder;
whoever comes second finds the winner's bytes there. Object stores will have conditional writes here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pe_beam.errors import LockedError, PeBeamError, StorageError


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space is left on its disk; free some and run again, it resumes"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "it cannot be written to; check its owner and rights"
        else:
            reason = f"{os.strerror(error.errno or 0)}"
        raise StorageError(f"run directory: {doing} failed: {reason}") from error


class Store:
    """Files below a run directory, by relative name."""

    def __init__(self, root: str | Path) -> None:
        """Names a run directory, which need not exist yet; URLs of object stores are refused."""
        if "://" in str(root):
            raise PeBeamError(f"--run-dir {root}: only local and mounted file systems are supported so far")
        self.root = Path(root).absolute()  # a worker may have another working directory

    def path(self, name: str) -> Path:
        """The full path of a file."""
        return self.root / name

    def exists(self, name: str) -> bool:
        """True once it is committed."""
        return self.path(name).exists()

    def read(self, name: str) -> bytes:
        """The bytes of a file; StorageError if it is missing or unreadable."""
        with _explained(f"reading {name}"):
            return self.path(name).read_bytes()

    def make(self, name: str) -> Path:
        """Makes a folder (and those above it)."""
        with _explained(f"making the folder {name}"):
            self.path(name).mkdir(parents=True, exist_ok=True)
        return self.path(name)

    def commit(self, name: str, write: bytes | Callable[[BinaryIO], None], *, replace: bool = False) -> bool:
        """Writes a file whole and durably, if it is not there yet.

        Args:
          name: relative to the run directory.
          write: the bytes, or a function that writes them.
          replace: take the place of a file that is there (for what may change: recipe, status).

        Returns:
          True if these bytes won, False if the file was there first.

        Raises:
          StorageError: full disk, missing rights, or a file system without hard links.
        """
        target = self.path(name)
        with _explained(f"writing {name}"):
            if not replace and target.exists():
                return False
            attempts = self.root / "work" / "attempts"
            attempts.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=attempts)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(write) if isinstance(write, bytes) else write(file)
                    file.flush()
                    os.fsync(file.fileno())
                if replace:
                    Path(temporary).replace(target)
                    won = True
                else:
                    won = _link(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
            _sync_folder(target.parent)
        return won

    def copy(self, source: str, target: str) -> None:
        """Commits the bytes of one file under another name."""

        def write(file: BinaryIO) -> None:
            with self.path(source).open("rb") as data:
                shutil.copyfileobj(data, file)

        self.commit(target, write)

    def remove(self, name: str) -> None:
        """Deletes a file or a folder with all below it; nothing happens if it is not there."""
        with _explained(f"deleting {name}"):
            path = self.path(name)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The run lock, which dies with its holder; LockedError if another process has it."""
        self.make("work")
        with _explained("locking"):
            handle = os.open(self.path("work/lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LockedError(f"{self.root}: another process is running in this directory") from None
            yield
        finally:
            os.close(handle)


def _link(temporary: str, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
