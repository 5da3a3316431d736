"""Lists and opens files by path or URI. Errors name no file."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, TypeVar, cast

from pe_beam.contracts.cutting import THREADS
from pe_beam.errors import DataError, RecipeError
from pe_beam.storage import reading

CHUNK = 1 << 20
Item = TypeVar("Item")
Read = TypeVar("Read")


def is_local(path: str) -> bool:
    """Returns whether a path has no URI scheme."""
    return "://" not in path


def has_magic(path: str) -> bool:
    """Returns whether a path is a glob pattern."""
    return any(c in path for c in "*?[")


def sort_key(path: str) -> bytes:
    """Returns the bytes of a path, for an order that does not depend on the locale."""
    return os.fsencode(path)


def printable(text: str) -> str:
    """Returns a file name as text that can be encoded, whatever its bytes are."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def explained(key: str, path: str) -> Iterator[None]:
    """Turns exceptions of file systems into DataError or RecipeError, which name the recipe key and no file."""
    from apache_beam.io.filesystem import BeamIOError

    try:
        yield
    except reading.UnreadableError as error:
        raise error.kind(f"{key}: {error}") from None
    except FileNotFoundError:
        raise DataError(
            f"{key}: a file that was listed is gone; the data must stay as it is while a run lasts"
        ) from None
    except PermissionError:
        raise DataError(f"{key}: a file or folder there may not be read; readable files are wanted") from None
    except (OSError, BeamIOError):
        raise DataError(f"{key}: a file or folder there cannot be read (input/output error)") from None
    except ValueError:
        if is_local(path) or reading.is_object(path):
            raise
        scheme = path.split("://", 1)[0]
        raise RecipeError(
            f"{key}: no file system for {scheme}://; allowed: a local path, gs://, s3://, az://, or a scheme of an "
            "installed file system of Beam"
        ) from None


def open_file(path: str, size: int = 0) -> BinaryIO:
    """Opens a file for reading. Its bytes are never decompressed.

    Args:
      path: of the file.
      size: its bytes, if they are known. An object store is then not asked for them.

    Raises:
      OSError: it cannot be opened, or is no file: a device or a pipe, to which a link may lead, might never end.
    """
    if is_local(path):
        if not S_ISREG(Path(path).stat().st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return Path(path).open("rb")
    if reading.is_object(path):
        return reading.open_object(path, size)
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def below(path: str, root: str) -> str:
    """Returns a file's name relative to the path by which it was found, as text. Only for `private/rejects/`."""
    return printable(path.removeprefix(root.rstrip("/") + "/"))


def exists(path: str) -> bool:
    """Returns whether there is a file of that name (for a local path also a folder)."""
    if is_local(path):
        return Path(path).exists()
    if reading.is_object(path):
        return reading.find_object(path) is not None
    from apache_beam.io.filesystems import FileSystems

    return bool(FileSystems.exists(path))


def stamp(path: str) -> tuple[str, int, float, int | str]:
    """Returns path, size in bytes, time of change, and inode or version. They are equal while a file is unchanged."""
    if is_local(path):
        stat = Path(path).stat()
        return str(Path(path).absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino
    if reading.is_object(path):
        head = reading.find_object(path)
        if head is None:
            raise FileNotFoundError
        return path, head.size, head.modified, head.tag
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([path])[0].metadata_list
    if not found:
        raise FileNotFoundError
    return path, found[0].size_in_bytes, found[0].last_updated_in_seconds or 0.0, 0


def size(path: str) -> int:
    """Returns the size of a file in bytes."""
    return stamp(path)[1]


def read_file(path: str, most: int) -> bytes:
    """Returns the first `most` bytes of a file, or all if it has fewer. An object store is asked once."""
    if reading.is_object(path):
        return reading.read_object(path, most)
    with open_file(path) as handle:
        return handle.read(most)


def ahead(read: Callable[[Item], Read], items: Iterable[Item], path: str) -> Iterator[Read]:
    """Yields what is read of each item, in order; several at a time where a path is not local."""
    if is_local(path):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Read]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) == THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def chunks(path: str) -> Iterator[bytes]:
    """Yields the bytes of a file, up to `CHUNK` at a time, or up to `reading.MOST`."""
    if reading.is_object(path):
        first = reading.read_object(path, reading.MOST)
        if len(first) < reading.MOST:
            yield first
            return
    with open_file(path) as handle:
        while chunk := handle.read(CHUNK):
            yield chunk
