"""Listing and opening files by path or URI, with errors that name no file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from pe_beam.errors import DataError, RecipeError

CHUNK = 1 << 20


def is_local(path: str) -> bool:
    """Whether a path has no URI scheme."""
    return "://" not in path


def has_magic(path: str) -> bool:
    """Whether a path is a pattern."""
    return any(c in path for c in "*?[")


def sort_key(path: str) -> bytes:
    """Bytes of a path, for an order that no locale changes."""
    return os.fsencode(path)


def printable(text: str) -> str:
    """A file name as text that can be encoded, whatever its bytes are."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def explained(key: str, path: str) -> Iterator[None]:
    """Turns what file systems raise into errors that name the recipe key alone."""
    from apache_beam.io.filesystem import BeamIOError

    try:
        yield
    except FileNotFoundError:
        raise DataError(
            f"{key}: a file that was listed is gone; the data must stay as it is while a run lasts"
        ) from None
    except PermissionError:
        raise DataError(f"{key}: a file or folder there may not be read; readable files are wanted") from None
    except (OSError, BeamIOError):
        raise DataError(f"{key}: a file or folder there cannot be read (input/output error)") from None
    except ValueError:
        if is_local(path):
            raise
        scheme = path.split("://", 1)[0]
        raise RecipeError(
            f"{key}: no file system for {scheme}://; allowed: a local path, or a scheme whose Beam extra "
            "is installed (apache-beam[gcp] for gs://, apache-beam[aws] for s3://)"
        ) from None


def open_file(path: str) -> BinaryIO:
    """Opens a file for reading, its bytes as they are (never decompressed)."""
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def list_below(root: str) -> list[str]:
    """Files below a folder at any depth, relative to it, hidden ones left out, sorted by their bytes.

    Links to folders are followed, but not round in a circle. A folder that may not be listed is an error, not
    an empty one.
    """
    found = list(_walk(root, "", frozenset())) if is_local(root) else _match_below(root)
    shown = [p for p in found if not any(part.startswith(".") for part in p.split("/"))]
    return sorted(shown, key=sort_key)


def match(pattern: str) -> list[str]:
    """Files that fit a pattern, sorted by their bytes."""
    from apache_beam.io.filesystems import FileSystems

    if is_local(pattern):
        pattern = str(Path(pattern).absolute())
    metadata = FileSystems.match([pattern])[0].metadata_list
    return sorted((m.path for m in metadata), key=sort_key)


def find(path: str, endings: tuple[str, ...]) -> list[str]:
    """A file by name whatever its ending, the files of a folder that end so (any case), or those of a glob."""
    whole = path
    path = path.rstrip("/") or "/"
    if is_local(path):
        if Path(path).is_file():
            return [path]
        below = list_below(path) if Path(path).is_dir() else None
    elif has_magic(path):
        below = None
    elif not whole.endswith("/") and exists(path):
        return [path]
    else:
        below = list_below(path)
    if below is None:
        return match(path) if has_magic(path) else []
    return [f"{path.rstrip('/')}/{name}" for name in below if name.lower().endswith(endings)]


def below(path: str, root: str) -> str:
    """A file's name below the path it was found by, as text, for `private/rejects/` alone."""
    return printable(path.removeprefix(root.rstrip("/") + "/"))


def exists(path: str) -> bool:
    """Whether there is a file of that name (locally: or a folder)."""
    from apache_beam.io.filesystems import FileSystems

    return bool(FileSystems.exists(path))


def stamp(path: str) -> tuple[str, int, float, int]:
    """Path, size, time of change and inode: equal as long as a file was not touched."""
    if is_local(path):
        stat = Path(path).stat()
        return str(Path(path).absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ino
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([path])[0].metadata_list
    if not found:
        raise FileNotFoundError
    return path, found[0].size_in_bytes, found[0].last_updated_in_seconds or 0.0, 0


def chunks(path: str) -> Iterator[bytes]:
    """The bytes of a file, `CHUNK` at a time."""
    with open_file(path) as handle:
        while chunk := handle.read(CHUNK):
            yield chunk


def _walk(root: str, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    here = Path(root, below)
    stat = here.stat()
    identity = (stat.st_dev, stat.st_ino)
    if identity in above:
        return
    with os.scandir(here) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir():
            yield from _walk(root, name, above | {identity})
        elif entry.is_file() or entry.is_symlink():
            yield name


def _match_below(root: str) -> list[str]:
    from apache_beam.io.filesystems import FileSystems

    prefix = root.rstrip("/") + "/"
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in prefix)
    metadata = FileSystems.match([escaped + "**"])[0].metadata_list
    return [m.path[len(prefix) :] for m in metadata if not m.path.endswith("/")]
