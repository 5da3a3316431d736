"""The files that are members of a window of a stream, and whether they are still as they were when it was closed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import DataError, RecipeError
from pe_beam.sources import files
from pe_beam.sources.splits import split_path
from pe_beam.storage import reading


class Members:
    """Files by path, each with its bytes and its digest.

    Args:
      found: `SourceRequest.members` of a stream of files.
      key: the recipe key that messages name.
    """

    def __init__(self, found: Mapping[str, Any], key: str) -> None:
        self._files = {str(entry["file"]): entry for entry in found["files"]}
        self._key = key

    def listed(self) -> list[tuple[str, int]]:
        """Returns (file, bytes) of the members, sorted by the bytes of their paths."""
        return [(file, int(self._files[file]["bytes"])) for file in sorted(self._files, key=files.sort_key)]

    def check(self, file: str) -> None:
        """Raises DataError unless a file has the bytes that it had when the window was closed."""
        with files.explained(self._key, file):
            if file_digest(file) != self._files[file]["digest"]:
                raise DataError(
                    f"{self._key}: a file has changed after its window was closed; files of a stream have to stay as "
                    "they are until the window is published. Put it back as it was"
                )


def members_of(request: SourceRequest) -> Members | None:
    """Returns the members of a request; None: all of its path may be read."""
    return None if request.members is None else Members(request.members, request.key)


def demand_folder(path: str, key: str) -> None:
    """Checks the path of a stream of files: what it names does not depend on a working directory, or on other files.

    Raises:
      RecipeError: it is relative, or names a split.
      DataError: the folder, or that in which a pattern begins, is not there: nothing is not the same as no files.
    """
    if split_path(path)[1] is not None:
        raise RecipeError(f"{key}: a split is refused for a stream: which files are of it, others may decide")
    if not files.is_local(path):
        return
    if not Path(path).is_absolute():
        raise RecipeError(f"{key}: {path}: an absolute path is wanted for a stream, or the URL of a store")
    folder = path
    if files.has_magic(path) and not Path(path).exists():
        folder = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0] or "/"
    if not Path(folder).exists():
        raise DataError(f"{key}: {folder} is not there; make it, or see whether its disk is mounted")


def entries(found: Sequence[str], sizes: Sequence[int], stamps: Sequence[str], path: str) -> list[dict[str, Any]]:
    """Returns the entries of a manifest: file, bytes, stamp, and what shows whether the file has changed."""
    digests = files.ahead(file_digest, found, path)
    columns = zip(found, sizes, stamps, digests, strict=True)
    return [{"file": f, "bytes": size, "stamp": stamp, "digest": digest} for f, size, stamp, digest in columns]


def file_digest(file: str) -> str:
    """Returns the SHA-256 (hex) of a file on a disk. Of an object: its version there, since objects never change."""
    stamp = files.stamp(file)
    return f"version {stamp[3]}" if reading.is_object(file) else _digest(file, stamp)


@functools.lru_cache(maxsize=4096)
def _digest(file: str, _: tuple[str, int, float, int | str]) -> str:
    total = hashlib.sha256()
    for chunk in files.chunks(file):
        total.update(chunk)
    return total.hexdigest()
