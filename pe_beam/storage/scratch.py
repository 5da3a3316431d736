"""A large file of a store, brought to this machine's disk and memory-mapped.

The copy is a temporary file without a name, one for a process: what a kill leaves is nothing, nobody else can read or
change it, and no process takes another's half for a whole. It lies where `TMPDIR` says.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
from collections.abc import Callable
from typing import BinaryIO

_LOG = logging.getLogger(__name__)


class _NoRoomError(Exception):
    """The disk does not take what is written. It is no OSError, which would be taken for a fault of the network."""


def map_copy(fetch: Callable[[Callable[[], None], Callable[[bytes], object]], None]) -> memoryview | None:
    """Maps a copy of a file into memory.

    Args:
      fetch: calls its first argument whenever it begins, and its second one with each piece.

    Returns:
      All bytes, read-only; None if there is no room on the disk, and that is logged.
    """
    try:
        with _opened() as file:
            fetch(lambda: _written(file, None), lambda piece: _written(file, piece))
            file.flush()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except _NoRoomError as error:
        _LOG.warning("TMPDIR: no room for a copy of a candidate matrix (%s); it is held in memory", error)
        return None


def _opened() -> BinaryIO:
    try:
        return tempfile.TemporaryFile(prefix="pe_beam-", buffering=0)
    except OSError as error:
        raise _NoRoomError(error.strerror) from None


def _written(file: BinaryIO, piece: bytes | None) -> None:
    try:
        if piece is None:
            file.seek(0)
            file.truncate()
            return
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _NoRoomError(error.strerror) from None
