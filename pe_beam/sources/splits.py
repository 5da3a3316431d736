"""Splits of a folder by the names of its files, as repositories of data sets on Hugging Face are laid out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pe_beam.errors import DataError
from pe_beam.sources import files, finding

_SAME = (
    ("train", "training"),
    ("validation", "valid", "val", "dev"),
    ("test", "testing", "eval", "evaluation"),
)
"""Words that mean one split."""
_PATH = re.compile(r"(.*[^/#])/?#(\w+)", re.DOTALL)
_EDGE = r"[-._ 0-9/]"


def split_path(path: str) -> tuple[str, str | None]:
    """Returns the path before a `#`, and the split after it; None: the path names no split.

    A local path that is there as it is written, with its `#`, names none.

    >>> split_path("/data/repository#train"), split_path("gs://bucket/a#b/x.parquet")
    (('/data/repository', 'train'), ('gs://bucket/a#b/x.parquet', None))
    """
    found = _PATH.fullmatch(path)
    if found is None or (files.is_local(path) and Path(path).exists()):
        return path, None
    return found.group(1), found.group(2)


def choose_split(found: Sequence[tuple[str, int]], path: str, split: str | None, key: str) -> list[tuple[str, int]]:
    """Returns the files of a split: those with its word in their name, or if no name has it, in a folder's name.

    Args:
      found: (file, bytes), in order.
      path: the folder or pattern by which they were found.
      split: its word; None: all files.
      key: the recipe key that messages name.

    Raises:
      DataError: files are there, but none is of the split.
    """
    if split is None or not found:
        return list(found)
    words = next((same for same in _SAME if split in same), (split,))
    wanted = re.compile(rf"(^|{_EDGE})({'|'.join(map(re.escape, words))})({_EDGE}|$)")
    by_name = [pair for pair in found if wanted.search(pair[0].rpartition("/")[2])]
    chosen = by_name or [pair for pair in found if wanted.search(finding.inside(pair[0], path).rpartition("/")[0])]
    if not chosen:
        raise DataError(
            f"{key}: no file there is of the split #{split}; its word in names of files or folders is wanted, such as "
            f"{split}-00000-of-00004.parquet or {split}/0000.parquet"
        )
    return chosen
