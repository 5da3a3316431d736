"""Lists and opens files by path or URI. Errors name no file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote

from pe_beam import names
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.storage import reading

CHUNK = 1 << 20
PACKED = (".gz", ".gzip", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".lz4", ".br", ".snappy", ".z", ".zip", ".7z")
"""Endings of compressed files."""
ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".rar")
MISSING_PART = "__HIVE_DEFAULT_PARTITION__"
"""The value that Hive and Spark write into the name of a folder whose rows have no value."""
_MARKERS = ("_success", "_metadata", "_common_metadata", "thumbs.db", "desktop.ini")


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
    """
    if is_local(path):
        return Path(path).open("rb")
    if reading.is_object(path):
        return reading.open_object(path, size)
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    return cast(BinaryIO, FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED))


def list_below(root: str) -> list[str]:
    """Returns the files below a folder at any depth, relative to it, without hidden ones, sorted by their bytes.

    Links to folders are followed, but not to a folder above the link. A folder that may not be listed is an error, not
    an empty folder.
    """
    return [name for name, _ in _sized_below(root)]


def _sized_below(root: str) -> list[tuple[str, int]]:
    found = [(name, -1) for name in _walk(root, "", frozenset())] if is_local(root) else _match_below(root)
    shown = [(p, size) for p, size in found if not any(part.startswith(".") for part in p.split("/"))]
    return sorted(shown, key=lambda pair: sort_key(pair[0]))


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
        pattern = str(Path(pattern).absolute()) if is_local(pattern) else pattern
        found = [(m.path, m.size_in_bytes) for m in FileSystems.match([pattern])[0].metadata_list]
    return sorted(found, key=lambda pair: sort_key(pair[0]))


def find(path: str, endings: tuple[str, ...]) -> list[str]:
    """Returns a file by name (any ending), the files of a folder with such an ending (any case), or those of a glob.

    A compressed file is included if its name without the last ending fits (`.csv.gz`), so that it is not left out
    silently. Hidden files and folders are left out. What Hive, Spark and Delta Lake write beside data is left out too:
    marker files (`_SUCCESS`, `_metadata`), and folders whose names begin with `_` and contain no `=` (`_delta_log`).
    """
    return [file for file, _ in _found(path, endings)]


def find_sized(path: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns what `find` returns, and the bytes of each file."""
    return [(file, size(file) if known < 0 else known) for file, known in _found(path, endings)]


def _found(path: str, endings: tuple[str, ...]) -> list[tuple[str, int]]:
    """Returns what `find` returns, and the bytes of each file; -1: they are not known yet."""
    whole = path
    path = path.rstrip("/") or "/"
    if is_local(path):
        if Path(path).is_file():
            return [(path, -1)]
        below = _sized_below(path) if Path(path).is_dir() else None
    elif has_magic(path):
        below = None
    elif not whole.endswith("/") and exists(path):
        return [(path, -1)]
    else:
        below = _sized_below(path)
    if below is None:
        named = frozenset(path.split("/"))
        found = match(path) if has_magic(path) else []
        return [(file, known) for file, known in found if _is_data(inside(file, path), named)]
    kept = [(name, known) for name, known in below if _ends(name, endings) and _is_data(name, frozenset())]
    return [(f"{path.rstrip('/')}/{name}", known) for name, known in kept]


def no_files(path: str, key: str, kind: str) -> DataError:
    """Returns the error for a path where `find` finds nothing.

    It is EmptyInputError for an empty folder, a glob or a URI. It is DataError for a local path that does not exist,
    and where compressed files are.
    """
    more = nothing(path)
    empty = not more and (has_magic(path) or not is_local(path) or Path(path).is_dir())
    error = EmptyInputError if empty else DataError
    return error(f"{key}: no {kind} files at {path}; a file, a folder or a glob is wanted{more}")


def nothing(path: str) -> str:
    """Returns what a message adds where `find` finds nothing: "" unless compressed files are there."""
    with contextlib.suppress(Exception):
        below = list_below(path) if not is_local(path) or Path(path).is_dir() else []
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
    if not has_magic(path):
        return file.rpartition("/")[2]
    pattern = str(Path(path).absolute()) if is_local(path) else path
    fixed = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)].rpartition("/")[0]
    return file.removeprefix(fixed + "/")


def partition(file: str, path: str) -> dict[str, str | None]:
    """Returns the columns that folder names below `path` give all rows of a file, as Hive and Spark do: `year=2026/`.

    >>> partition("/d/x/a%2Fb=c%20d/n=__HIVE_DEFAULT_PARTITION__/0.parquet", "/d")
    {'a/b': 'c d', 'n': None}
    """
    found: dict[str, str | None] = {}
    for part in inside(file, path).split("/")[:-1]:
        key, sign, value = printable(part).partition("=")
        if sign and key:
            found[unquote(key)] = None if value in ("", MISSING_PART) else unquote(value)
    return found


def given(file: str, path: str, wanted: Sequence[str]) -> dict[str, str | None]:
    """Returns those of the wanted columns that folder names give (`partition`)."""
    found = partition(file, path)
    keys = list(found)
    where = {column: names.locate(column, keys) for column in wanted} if keys else {}
    return {column: found[keys[places[0]]] for column, places in where.items() if places}


def given_digest(columns: Mapping[str, str | None], own: Sequence[str]) -> bytes:
    """Returns a digest of the columns that folder names give; empty if a file has them all itself, as most have."""
    used = sorted((key, value) for key, value in columns.items() if not names.locate(key, own))
    return hashlib.sha256(json.dumps(used).encode()).digest() if used else b""


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


def chunks(path: str) -> Iterator[bytes]:
    """Yields the bytes of a file, up to `CHUNK` at a time."""
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


def _match_below(root: str) -> list[tuple[str, int]]:
    prefix = root.rstrip("/") + "/"
    if reading.is_object(root):
        return [(path.removeprefix(prefix), known) for path, known in reading.list_objects(prefix)]
    from apache_beam.io.filesystems import FileSystems

    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in prefix)
    metadata = FileSystems.match([escaped + "**"])[0].metadata_list
    return [(m.path[len(prefix) :], m.size_in_bytes) for m in metadata if not m.path.endswith("/")]
