"""What files this process has open, by name: other tests of the process may open and close theirs at any time."""

from __future__ import annotations

import collections
import contextlib
from pathlib import Path


def open_files() -> collections.Counter[str]:
    """The names of what is open; a socket or a pipe has a number of its own."""
    found = collections.Counter[str]()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile, as that of the listing
            found[str(each.readlink())] += 1
    return found


def open_below(folder: Path) -> int:
    """How many files of a folder are open."""
    return sum(name.startswith(f"{folder}/") for name in open_files().elements())
