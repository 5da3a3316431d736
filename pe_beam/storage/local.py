"""The local store: files below a directory of a local or mounted file system with hard links and flock.

A commit writes a temporary file (for a private file under `private/attempts`), calls fsync, links it to its name with
`os.link`, and calls fsync on the folder; a later writer finds the first writer's bytes. A lease is a flock, which ends
with its holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from pe_beam.contracts.store import Store, Write, checked_name, shown_name
from pe_beam.errors import LockedError, StorageError

PRIVATE_ATTEMPTS = "private/attempts"
WORK_ATTEMPTS = "work/attempts"
# Times of files that are shared would reveal the duration of private stages in a copy that preserves times. 1980 is the
# earliest time that every archive format supports.
_NO_TIME = 315532800
_SHARED = ("release", "published/", "report.html")  # of a run, and of a stream its notes and its page
_IN_PLACE = 1 << 16  # largest size in bytes of a file that `update` overwrites in place; its version has a digest
# Number of files that stay open between updates that need not be durable: opening costs more than a small write.
_MOST_OPEN = 8
_FILE = "file://"
_ON_THIS_MACHINE = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")  # file systems


@contextlib.contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explanation(doing, error) from error


def _explanation(doing: str, error: OSError) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "no space is left on its disk; free some and run again, it resumes"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"it cannot be {'read' if doing.startswith('reading') else 'written to'}; check its owner and rights"
    else:
        reason = f"{os.strerror(error.errno or 0)}"
    return StorageError(f"run directory: {doing} failed: {reason}")


class LocalStore(Store):
    """Keeps files below a directory, which need not exist yet."""

    def __init__(self, uri: str | Path) -> None:
        """Takes a path or a file:// URL, and makes it absolute, because a worker may have another working directory."""
        text = str(uri)
        self._root = Path(unquote(urlsplit(text).path) if text.startswith(_FILE) else text).absolute()
        super().__init__(str(self._root))
        self._kept: dict[str, _Kept] = {}
        self._mutex = threading.Lock()

    def place(self) -> str:
        """Returns the path with all symbolic links resolved."""
        return str(self._root.resolve())

    def exists(self, name: str) -> bool:
        """See `Store.exists`."""
        try:
            return self._path(name).is_file()
        except OSError as error:  # a folder of another user, as private/ is, says not even what is in it
            raise _explanation(f"reading {shown_name(name)}", error) from error

    def version(self, name: str) -> str:
        """Returns device, inode, size and time of a file, and the digest of a small file, which may be overwritten."""
        with _explained(f"reading {shown_name(name)}"), self._path(name).open("rb") as file:
            return _version(file.fileno())

    def size(self, name: str) -> int:
        """See `Store.size`."""
        with _explained(f"reading {shown_name(name)}"):
            return self._path(name).stat().st_size

    def read(self, name: str) -> bytes:
        """See `Store.read`. Small files may be overwritten in place, so they are read under a shared lock."""
        with _explained(f"reading {shown_name(name)}"), self._path(name).open("rb") as file:
            if os.fstat(file.fileno()).st_size <= _IN_PLACE:
                _flock(file.fileno(), fcntl.LOCK_SH, patience=1.0)
            return file.read()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """See `Store.read_range`."""
        with _explained(f"reading {shown_name(name)}"), self._path(name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def mapped(self, name: str) -> memoryview:
        """See `Store.mapped`. It maps the file itself, but on a disk of another machine it reads it.

        A lost connection would end the process without a word, and NFS cannot delete the folder of a file in use.
        """
        with _explained(f"reading {shown_name(name)}"), self._path(name).open("rb") as file:
            found = os.fstat(file.fileno())
            if not found.st_size or not _is_here(found.st_dev):
                return memoryview(file.read())
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def open(self, name: str) -> BinaryIO:
        """Opens a file with Arrow, so that reading Parquet does not pass through Python."""
        with _explained(f"reading {shown_name(name)}"):
            return cast(BinaryIO, pa.OSFile(str(self._path(name)), "rb"))

    def digest(self, name: str) -> str:
        """See `Store.digest`."""
        with _explained(f"reading {shown_name(name)}"), self._path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def list_files(self, folder: str = "") -> list[str]:
        """See `Store.list_files`. It follows symbolic links, because a folder may be linked from another disk."""
        found: list[str] = []
        top = self._path(folder) if folder else self._root
        with _explained(f"reading {shown_name(folder)}"):
            for place, folders, files in os.walk(top, onerror=_missing_or_raise, followlinks=True):
                name = "/".join(part for part in (folder, *Path(place).relative_to(top).parts) if part)
                folders[:] = [] if name in (PRIVATE_ATTEMPTS, WORK_ATTEMPTS) else folders
                if name not in (PRIVATE_ATTEMPTS, WORK_ATTEMPTS):
                    found += [f"{name}/{file}" if name else file for file in files]
        return sorted(found)

    def commit(self, name: str, write: Write, *, replace: bool = False) -> bool:
        """See `Store.commit`. Raises StorageError also for a file system without hard links."""
        target = self._path(name)
        with _explained(f"writing {shown_name(name)}"):
            if not replace and target.exists():
                return False
            return self._write(name, write, replace=replace)

    def swap(self, name: str, data: bytes, expected: str | None) -> bool:
        """See `Store.swap`. The file is locked between the comparison and the rename."""
        if expected is None:
            return self.commit(name, data)
        with _explained(f"writing {shown_name(name)}"):
            kept = self._held(name)
            if kept is None:
                return False
            try:
                same = _version(kept.handle) == expected
                if same:
                    self._write(name, data, replace=True, mode=os.fstat(kept.handle).st_mode)
                return same
            finally:
                kept.release()
                self._forget(name)

    def update(self, name: str, change: Callable[[bytes | None], bytes], *, durable: bool = True) -> bytes:
        """See `Store.update`. The file is locked. A small file that keeps its length is overwritten with one write."""
        try:  # not `_explained`, which is slow: accounts and paces are updated at every call of a service
            while True:
                kept = self._held(name)
                if kept is not None:
                    try:
                        return self._changed(name, kept.handle, change, durable=durable)
                    finally:
                        kept.release()
                        if durable:
                            self._forget(name)
                after = change(None)
                if self._write(name, after):
                    return after
        except OSError as error:
            raise _explanation(f"writing {shown_name(name)}", error) from error

    def _changed(self, name: str, handle: int, change: Callable[[bytes | None], bytes], *, durable: bool) -> bytes:
        before = _content(handle)
        after = change(before)
        if len(after) != len(before) or len(after) > _IN_PLACE:
            self._write(name, after, replace=True, mode=os.fstat(handle).st_mode)
            return after
        os.pwrite(handle, after, 0)
        if durable:
            os.fsync(handle)
            # The folder is always synced: an earlier writer may have been killed before it synced the folder.
            _sync_folder(self._path(name).parent)
        return after

    def append(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """See `Store.append`. It uses O_APPEND, so that bytes of several processes are not mixed."""
        try:
            kept = self._opened(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            if not kept.is_current():
                self._forget(name)
                kept = self._opened(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            while data:
                data = data[os.write(kept.handle, data) :]
            if durable:
                os.fsync(kept.handle)
                self._forget(name)  # a durable append ends the use of a file; NFS cannot delete a folder of open files
        except OSError as error:
            raise _explanation(f"writing {shown_name(name)}", error) from error

    def delete(self, name: str) -> None:
        """See `Store.delete`."""
        path = self._path(name)
        with _explained(f"deleting {shown_name(name)}"):
            if path.is_dir():
                return
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync_folder(path.parent)

    def delete_all(self, folder: str) -> None:
        """See `Store.delete_all`. A folder that is linked from another disk is deleted there, and so is the link."""
        path = self._path(folder) if folder else self._root
        with _explained(f"deleting {shown_name(folder)}"):
            if path.is_dir():
                shutil.rmtree(path.resolve())
            if path.is_symlink():
                path.unlink()

    @contextlib.contextmanager
    def lease(self, name: str, *, patience: float = 1.0) -> Iterator[None]:
        """See `Store.lease`. The lease is a flock on an empty file."""
        with _explained("locking"):
            handle = _made(self._path(name), os.O_RDWR | os.O_CREAT)
        close = os.close  # a lease that is held to the end outlives the names of modules
        try:
            if not _flock(handle, fcntl.LOCK_EX, patience=patience):
                raise LockedError(f"{self.uri}: another process holds {shown_name(name)}")
            yield
        finally:
            close(handle)

    def is_leased(self, name: str) -> bool:
        """See `Store.is_leased`."""
        with _explained("locking"):
            try:
                handle = os.open(self._path(name), os.O_RDONLY)  # so that it can be asked on a disk that is read-only
            except FileNotFoundError:
                return False
            try:
                return not _flock(handle, fcntl.LOCK_SH, patience=0)  # shared: two callers do not see each other
            finally:
                os.close(handle)

    def protect(self, folder: str) -> None:
        """Creates a folder that only its owner can read."""
        with _explained(f"making the folder {folder}"):
            self._path(folder).mkdir(parents=True, exist_ok=True)
            self._path(folder).chmod(0o700)

    def hide_times(self, folder: str) -> None:
        """Sets one fixed time on a release folder and everything in it; a killed process may have left other times."""
        with _explained(f"setting times in {folder}"):
            for path in [self._path(folder), *self._path(folder).rglob("*")]:
                os.utime(path, (_NO_TIME, _NO_TIME))

    def sweep_attempts(self, name: str | None = None) -> None:
        """Deletes the attempts of killed writers for a file; None: all attempts, also those of older versions."""
        if name is None:
            self.delete_all(PRIVATE_ATTEMPTS)
            self.delete_all(WORK_ATTEMPTS)
            return
        with _explained(f"deleting {shown_name(name)}"):
            attempts = self._path(_attempts_for(name))
            if attempts.is_dir():
                for path in attempts.glob(f"{_attempt_of(name)}*"):
                    path.unlink(missing_ok=True)
                _sync_folder(attempts)

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)

    def _held(self, name: str) -> _Kept | None:
        """Returns the current file of this name, open and locked; the caller must release it. None: no file."""
        while True:
            try:
                kept = self._opened(name, os.O_RDWR)
            except FileNotFoundError:
                return None
            if kept.acquire():
                return kept
            self._forget(name)  # the file was replaced or deleted after it was opened

    def _opened(self, name: str, flags: int) -> _Kept:
        kept = self._kept.get(name)
        if kept is None or kept.flags != flags:
            kept = _Kept(self._path(name), flags)
            with self._mutex:
                self._kept.pop(name, None)
                self._kept[name] = kept
                while len(self._kept) > _MOST_OPEN:
                    del self._kept[next(iter(self._kept))]
        return kept

    def _forget(self, name: str) -> None:
        with self._mutex:
            self._kept.pop(name, None)

    def _write(self, name: str, write: Write, *, replace: bool = False, mode: int | None = None) -> bool:
        """Writes an attempt and renames it to the file if there is none or `replace` is set; returns True if it did."""
        target = self._path(name)
        if name.startswith("private/"):
            self._root.mkdir(parents=True, exist_ok=True)
            (self._root / "private").mkdir(mode=0o700, exist_ok=True)
        attempts = self._path(_attempts_for(name))
        attempts.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=_attempt_of(name), dir=attempts)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(write) if isinstance(write, bytes) else write(file)
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode & 0o777)
                os.fsync(file.fileno())
            if name.startswith(_SHARED):
                os.utime(temporary, (_NO_TIME, _NO_TIME))
            if replace:
                Path(temporary).replace(target)
                won = True
            else:
                won = _link(temporary, target)
        finally:
            Path(temporary).unlink(missing_ok=True)
        if name.startswith(_SHARED):
            self._hide_times(target.parent)
        _sync_folder(target.parent)
        return won

    def _hide_times(self, folder: Path) -> None:
        """Sets the fixed time on a folder and its parents. Each writer calls it last, so that no other time remains."""
        while folder != self._root:
            os.utime(folder, (_NO_TIME, _NO_TIME))
            folder = folder.parent


class _Kept:
    """An open file. It is closed with its last reference. A forked process opens its own, so as not to share locks."""

    def __init__(self, path: Path, flags: int) -> None:
        self._path, self.flags = str(path), flags
        self.handle = _made(path, flags)
        found = os.fstat(self.handle)
        self._file = (os.getpid(), found.st_dev, found.st_ino)
        self._mutex = threading.Lock()
        self._close = os.close  # at the end of a process, names of modules are gone before the last of these is

    def is_current(self) -> bool:
        """Returns whether this is still the file of its name."""
        try:
            there = os.stat(self._path)  # noqa: PTH116 - half the time of Path.stat
        except FileNotFoundError:
            return False
        return self._file == (os.getpid(), there.st_dev, there.st_ino)

    def acquire(self) -> bool:
        """Locks the file against all threads and processes; returns False if it is no longer the file of its name."""
        if self._file[0] != os.getpid():
            return False
        self._mutex.acquire()  # a flock does not exclude threads that share a handle
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX)
            if self.is_current():
                return True
            fcntl.flock(self.handle, fcntl.LOCK_UN)
        except BaseException:
            self._mutex.release()
            raise
        self._mutex.release()
        return False

    def release(self) -> None:
        """Releases the lock."""
        fcntl.flock(self.handle, fcntl.LOCK_UN)
        self._mutex.release()

    def __del__(self) -> None:
        try:  # noqa: SIM105 - no name of a module may be used here
            self._close(self.handle)
        except (AttributeError, OSError):
            pass


def _missing_or_raise(error: OSError) -> None:
    """Ignores a missing folder, which has no files; raises any other error, such as missing rights."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _attempts_for(name: str) -> str:
    """Returns the folder for attempts at a file. That of a private file is private: a kill may leave attempts."""
    return PRIVATE_ATTEMPTS if name.startswith("private/") else WORK_ATTEMPTS


def _attempt_of(name: str) -> str:
    """Returns the prefix of the names of all attempts at a file."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-"


def _version(handle: int) -> str:
    found = os.fstat(handle)
    told = f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_ctime_ns}"
    # A file that is overwritten in place keeps its inode, and two writes may have the same time.
    small = found.st_size <= _IN_PLACE
    return f"{told}-{hashlib.sha256(_content(handle)).hexdigest()}" if small else told


def _content(handle: int) -> bytes:
    size = os.fstat(handle).st_size
    data = os.pread(handle, size, 0)
    while len(data) < size:
        data += os.pread(handle, size - len(data), len(data))
    return data


def _made(path: Path, flags: int) -> int:
    """Opens a file; with O_CREAT, creates its folder if necessary."""
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o600)


def _flock(handle: int, how: int, *, patience: float) -> bool:
    """Locks within `patience` seconds; returns False if the file is still locked or the file system has no locks."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) or time.monotonic() >= deadline:
                return False
        time.sleep(min(0.05, patience / 100))


def _is_here(device: int) -> bool:
    """Returns whether a file system is known to lie on this machine."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    name = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.rpartition(" - ")[2].split()[0] for line in mounts if line.split()[2] == name]
    return bool(kinds) and all(kind in _ON_THIS_MACHINE for kind in kinds)


def _sync_folder(folder: Path) -> None:
    """Writes the entries of a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _link(temporary: str, target: Path) -> bool:
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    return True
