"""Durable, create-if-absent files in a run directory: what Beam's file systems lack.

Local: a commit is a temporary file (of a private file under `private/attempts`), fsync, `os.link` to its name, fsync of
the folder; whoever comes second finds the winner's bytes there. Object stores will have conditional writes here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pe_beam.durable import sync_folder
from pe_beam.errors import LockedError, PeBeamError, StorageError

# Times of files in release/ would tell how long private stages took to whoever gets a faithful copy (1980: the least
# that every archive format can hold).
_NO_TIME = 315532800


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

    def stamp(self, name: str) -> tuple[int, ...]:
        """Device, inode, size and time of a file: other ones for another file."""
        with _explained(f"reading {_shown(name)}"):
            found = self.path(name).stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns

    def read(self, name: str) -> bytes:
        """The bytes of a file; StorageError if it is missing or unreadable."""
        with _explained(f"reading {_shown(name)}"):
            return self.path(name).read_bytes()

    def digest(self, name: str) -> str:
        """SHA-256 (hex) of a file, read in pieces."""
        with _explained(f"reading {_shown(name)}"), self.path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

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
        with _explained(f"writing {_shown(name)}"):
            if not replace and target.exists():
                return False
            if name.startswith("private/"):
                (self.root / "private").mkdir(mode=0o700, exist_ok=True)
            attempts = self.path(attempts_for(name))
            attempts.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=attempts)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(write) if isinstance(write, bytes) else write(file)
                    file.flush()
                    os.fsync(file.fileno())
                if name.startswith("release"):
                    os.utime(temporary, (_NO_TIME, _NO_TIME))
                if replace:
                    Path(temporary).replace(target)
                    won = True
                else:
                    won = _link(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
            if name.startswith("release"):
                self._hide_times(target.parent)
            sync_folder(target.parent)
        return won

    def sweep_attempts(self) -> None:
        """Deletes what killed writers have left; for the end of a run, when no worker writes any more."""
        self.remove(PRIVATE_ATTEMPTS)
        self.remove(WORK_ATTEMPTS)

    def hide_times(self, folder: str) -> None:
        """Gives a folder of the release and all in it the one time that tells nothing; a kill may have left others."""
        with _explained(f"setting times in {folder}"):
            for path in [self.path(folder), *self.path(folder).rglob("*")]:
                os.utime(path, (_NO_TIME, _NO_TIME))

    def _hide_times(self, folder: Path) -> None:
        """Whoever adds to a folder sets its time afterwards, so that the last one leaves it set."""
        while folder != self.root:
            os.utime(folder, (_NO_TIME, _NO_TIME))
            folder = folder.parent

    def copy(self, source: str, target: str) -> None:
        """Commits the bytes of one file under another name.

        Raises:
          StorageError: other bytes are there already, or the disk says no.
        """

        def write(file: BinaryIO) -> None:
            with self.path(source).open("rb") as data:
                shutil.copyfileobj(data, file)

        if not self.commit(target, write) and not filecmp.cmp(self.path(source), self.path(target), shallow=False):
            raise StorageError(f"run directory: {target} is not what this run has made; restore or delete it")

    def remove(self, name: str) -> None:
        """Deletes a file or a folder with all below it; nothing happens if it is not there."""
        with _explained(f"deleting {_shown(name)}"):
            path = self.path(name)
            if path.is_dir():
                shutil.rmtree(path.resolve())  # where a folder is linked from another disk, that is what is meant
            path.unlink(missing_ok=True)

    def locked(self) -> bool:
        """True while a process holds the run lock."""
        if not self.exists("work/lock"):
            return False
        try:
            with self.lock(patience=0):
                return False
        except LockedError:
            return True

    @contextlib.contextmanager
    def lock(self, *, patience: float = 1.0) -> Iterator[None]:
        """The run lock, which dies with its holder; LockedError if another process has it.

        Args:
          patience: seconds to wait for it, since `locked` holds it for an instant.
        """
        self.make("work")
        with _explained("locking"):
            handle = os.open(self.path("work/lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + patience
            while not _try_lock(handle):
                if time.monotonic() >= deadline:
                    raise LockedError(f"{self.root}: another process is running in this directory")
                time.sleep(0.05)
            yield
        finally:
            os.close(handle)


PRIVATE_ATTEMPTS = "private/attempts"
WORK_ATTEMPTS = "work/attempts"


def attempts_for(name: str) -> str:
    """The folder in which attempts at a file are written: what a kill leaves of a private file stays private."""
    return PRIVATE_ATTEMPTS if name.startswith("private/") else WORK_ATTEMPTS


def _shown(name: str) -> str:
    """A name that may be said aloud: below private/ only which folder, for names there hold digests and rows."""
    return "/".join(name.split("/")[:2]) if name.startswith("private/") else name


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _link(temporary: str, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True
