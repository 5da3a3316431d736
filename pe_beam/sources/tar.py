"""Finds the members of a tar file by their byte offsets. Nothing is unpacked to disk, and damage is always an error.

The standard library parses each header. This module walks from one header to the next, because the standard library's
reader takes a damaged header in the middle for the end of the archive, and keeps all members in memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = 1 << 16
_LONGEST_PAX = 1 << 20
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_EMPTY = (*(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE),)
"""Types whose header may give a size although no content follows."""
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class TarError(Exception):
    """A tar file is damaged or cut short. The message says how, and shows nothing of its content."""


@dataclass(frozen=True)
class Member:
    """A member of a tar file that is not a folder.

    Attributes:
      name: its path as stored; nothing is ever written to this path.
      start: the byte at which its headers begin.
      offset: the byte at which its content begins.
      size: bytes of its content.
      stop: the byte after its content and padding.
      plain: whether it is an ordinary file; else it is a link, a device or a sparse file, whose content is not read.
    """

    name: str
    start: int
    offset: int
    size: int
    stop: int
    plain: bool


@dataclass
class _Said:
    """What the headers before a member say about it."""

    start: int | None = None
    name: str | None = None
    size: int | None = None
    sparse: bool = False


def members(file: BinaryIO, size: int, start: int = 0, stop: int | None = None) -> Iterator[Member]:
    """Yields the members from one byte offset to another.

    Args:
      file: opened for reading; the caller may read elsewhere in it between two members.
      size: bytes of the whole file.
      start: the byte at which a member's headers begin.
      stop: the byte at which another member's headers begin; None: the end of the archive, whose mark is required.

    Raises:
      TarError: the file is not a tar file, is damaged or cut short, or has content after its end.
    """
    position, said = start, _Said()
    while stop is None or position < stop:
        file.seek(position)
        block = file.read(BLOCK)
        if stop is None and len(block) == BLOCK and not any(block):
            _check_end(file)
            return
        found = _header(block)
        begin = position
        content = 0 if found.type in _EMPTY else found.size if said.size is None else said.size
        position = begin + BLOCK + _GNU_EXTRA.get(found.type, _none)(file, block)
        after = position + -(-content // BLOCK) * BLOCK
        if content < 0 or after > size:
            raise TarError("it is cut short: a member is longer than what is left of it")
        said.start = begin if said.start is None else said.start
        if found.type in _LONG or found.type in _PAX:
            _note(said, found, _small(file, content, found.type))
        else:
            name = said.name if said.name is not None else found.name
            plain = found.type in _PLAIN and not said.sparse
            if found.type != tarfile.DIRTYPE:
                yield Member(name, said.start, position, content, after, plain)
            said = _Said()
        position = after


def _header(block: bytes) -> tarfile.TarInfo:
    if len(block) < BLOCK:
        raise TarError("it is cut short: the end of the archive is missing")
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise TarError("it is no tar file, or one of its headers is damaged") from None


def _check_end(file: BinaryIO) -> None:
    """Raises TarError if content follows the mark of the end. A second archive there would be left out silently."""
    while chunk := file.read(1 << 20):
        if any(chunk):
            raise TarError("more follows after its end; archives that are put together are not read")


def _small(file: BinaryIO, size: int, kind: bytes) -> bytes:
    if size > (_LONGEST_NAME if kind in _LONG else _LONGEST_PAX):
        raise TarError("one of its headers is damaged: it is far too long")
    return file.read(size)


def _note(said: _Said, found: tarfile.TarInfo, data: bytes) -> None:
    """Stores the name and size that an extended header gives the next member."""
    if found.type == tarfile.GNUTYPE_LONGNAME:
        said.name = data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    for key, value in _pax(data) if found.type in _PAX else ():
        sparse = key.startswith("GNU.sparse.")
        if found.type == tarfile.XGLTYPE and (sparse or key in ("path", "size")):
            raise TarError("a header for all of its members gives them one name or size")
        if key in ("path", "GNU.sparse.name"):
            said.name = value
        elif key == "size":
            said.size = _whole(value)
        said.sparse |= sparse


def _pax(data: bytes) -> Iterator[tuple[str, str]]:
    """Yields the key and value of each record "length key=value newline"."""
    data = data.rstrip(b"\0")
    while data:
        digits, sign, _ = data.partition(b" ")
        length = _whole(digits.decode("ascii", "replace")) if sign else 0
        key, equals, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not equals or data[length - 1 : length] != b"\n":
            raise TarError("one of its extended headers is damaged")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        data = data[length:]


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise TarError("one of its extended headers is damaged")
    return int(text)


def _none(file: BinaryIO, block: bytes) -> int:
    return 0


def _sparse_blocks(file: BinaryIO, block: bytes) -> int:
    """Returns the bytes of the further maps that follow an old GNU header of a sparse file."""
    extra, more = 0, block[482]
    while more:
        further = file.read(BLOCK)
        if len(further) < BLOCK:
            raise TarError("it is cut short: the end of the archive is missing")
        extra, more = extra + BLOCK, further[504]
    return extra


_GNU_EXTRA = {tarfile.GNUTYPE_SPARSE: _sparse_blocks}
