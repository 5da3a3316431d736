"""Finds the files of a path: a file, a folder or a glob, on a disk or in an object store."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pe_beam.errors import DataError, EmptyInputError, MissingDataError
from pe_beam.sources import files
from pe_beam.storage import reading

PACKED = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4", ".br", ".snappy", ".z", ".zip", ".7z")
"""Endings of compressed files."""
ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".rar")
_MARKERS = ("_success", "_metadata", "_common_metadata", "thumbs.db", "desktop.ini")


def list_below(root: str) -> list[str]:
    """Returns the files below a folder at any depth, relative to it, without hidden ones, sorted by their bytes.

    Links to folders are followed, but not to a folder above the link. A folder that may not be listed is an error, not
    an empty folder.
    """
    return [name for name, _ in _sized_below(root)]


def _sized_below(root: str) -> list[tuple[str, int]]:
    found = [(name, -1) for name in _walk(root, "", frozenset())] if files.is_local(root) else _match_below(root)
    shown = [(p, size) for p, size in found if not any(part.startswith(".") for part in p.split("/"))]
    return sorted(shown, key=lambda pair: files.sort_key(pair[0]))


def match(pattern: str) -> list[tuple[str, int]]:
    """Returns (path, bytes) of the files that match a pattern, sorted by the bytes of their paths.

    `*` and `?` match no slash, and `**` does.
    """
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.filesystems import FileSystems

    if reading.is_object(pattern):
        fixed = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)].rpartition("/")[0]
        wanted = re.compile(FileSystem.translate_pattern(pattern))
        found = [pair for pair in reading.list_objects(fixed + "/") if wanted.match(pair[0])]
    else:
        pattern = str(Path(pattern).absolute()) if files.is_local(pattern) else pattern
        found = [(m.path, m.size_in_bytes) for m in FileSystems.match([pattern])[0].metadata_list]
    return sorted(found, key=lambda pair: files.sort_key(pair[0]))


def find(path: str, endings: tuple[str, ...]) -> list[str]:
    """Returns a file by name (any ending), the files of a folder with such an ending (any case), or those of a glob.

    A compressed file is included if its name without the last ending fits (`.csv.gz`), so that it is not left out
    silently. Hidden files and folders are left out. What Hive, Spark and Delta Lake write beside data is left out too:
    marker files (`_SUCCESS`, `_metadata`), and folders whose names begin with `_` and contain no `=` (`_delta_log`).
    """
    return [file for file, _ in _found(path, endings)]


def find_sized(path: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns what `find` returns, and the bytes of each file."""
    return [(file, files.size(file) if known < 0 else known) for file, known in _found(path, endings)]


def find_there(path: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns what `find` returns, without links that lead to no file, and the bytes of each file; -1: not known."""
    return [pair for pair in _found(path, endings) if is_there(pair[0])]


def is_there(file: str) -> bool:
    """Returns False for a link on a disk that leads to no file: nowhere, or to a device or a pipe."""
    return not files.is_local(file) or not Path(file).is_symlink() or Path(file).is_file()


def _found(path: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns what `find` returns, and the bytes of each file; -1: they are not known yet."""
    whole = path
    path = path.rstrip("/") or "/"
    if files.is_local(path):
        if Path(path).is_file():
            return [(path, -1)]
        below = _sized_below(path) if Path(path).is_dir() else None
    elif files.has_magic(path):
        below = None
    elif not whole.endswith("/") and files.exists(path):
        return [(path, -1)]
    else:
        below = _sized_below(path)
    if below is None:
        named = frozenset(path.split("/"))
        found = match(path) if files.has_magic(path) else []
        return [(file, known) for file, known in found if _is_data(inside(file, path), named)]
    kept = [(name, known) for name, known in below if _ends(name, endings) and _is_data(name, frozenset())]
    return [(f"{path.rstrip('/')}/{name}", known) for name, known in kept]


def no_files(path: str, key: str, kind: str) -> DataError:
    """Returns the error for a path where `find` finds nothing.

    It is EmptyInputError for an empty folder, a glob or a URI. It is MissingDataError for a local path that does not
    exist, and DataError where compressed files are.
    """
    more = nothing(path)
    empty = files.has_magic(path) or not files.is_local(path) or Path(path).is_dir()
    error = DataError if more else EmptyInputError if empty else MissingDataError
    return error(f"{key}: no {kind} files at {path}; a file, a folder or a glob is wanted{more}")


def nothing(path: str) -> str:
    """Returns what a message adds where `find` finds nothing: "" unless compressed files are there."""
    with contextlib.suppress(Exception):
        below = list_below(path) if not files.is_local(path) or Path(path).is_dir() else []
        if any(name.lower().endswith(PACKED + ARCHIVES) for name in below):
            return "; what is compressed there has to be unpacked first"
    return ""


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    name = name.lower()
    if name.endswith(endings):
        return True
    stem, dot, last = name.rpartition(".")
    return dot + last in PACKED and stem.endswith(endings)


def _is_data(name: str, named: frozenset[str]) -> bool:
    *folders, file = name.split("/")
    aside = (part for part in folders if part.startswith(".") or (part.startswith("_") and "=" not in part))
    return not (set(aside) - named or file.startswith(".") or file.lower() in _MARKERS)


def inside(file: str, path: str) -> str:
    """Returns a file's name relative to the folder, or to the fixed start of the pattern, by which it was found."""
    root = path.rstrip("/") + "/"
    if file.startswith(root):
        return file.removeprefix(root)
    if not files.has_magic(path):
        return file.rpartition("/")[2]
    return file.removeprefix(above(path) + "/")


def above(path: str) -> str:
    """Returns the folder of a file, or the fixed start of a pattern.

    >>> above("gs://bucket/visits/*/a.csv"), above("gs://bucket/visits.csv")
    ('gs://bucket/visits', 'gs://bucket')
    """
    pattern = str(Path(path).absolute()) if files.is_local(path) else path
    stop = min((pattern.index(sign) for sign in "*?[" if sign in pattern), default=len(pattern))
    return pattern[:stop].rpartition("/")[0]


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
        if _is_folder(entry):
            yield from _walk(root, name, above | {identity})
        elif entry.is_symlink() or entry.is_file():
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself leads nowhere, as one that dangles
            return False
        raise


def _match_below(root: str) -> list[tuple[str, int]]:
    prefix = root.rstrip("/") + "/"
    if reading.is_object(root):
        return [(path.removeprefix(prefix), known) for path, known in reading.list_objects(prefix)]
    from apache_beam.io.filesystems import FileSystems

    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in prefix)
    metadata = FileSystems.match([escaped + "**"])[0].metadata_list
    return [(m.path[len(prefix) :], m.size_in_bytes) for m in metadata if not m.path.endswith("/")]
