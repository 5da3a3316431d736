"""Finds where records end in byte ranges of one text file, and joins what was found into the pieces of that file.

Ranges are scanned in parallel, each as if a record began at the first line that begins in it. That is always so where
every line end ends a record. Where quotes may hold line ends it may be wrong. So the join compares: it goes from range
to range, and where the last record of a range did not end at the place where the scan of the next one began, it reads
on from there until both agree on the end of a record. What follows is then the same, because a record depends on
nothing before it. The result is what one pass over the file finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

MOST_MARKS = 4096
"""Ends of records that a scan keeps. So a boundary between two pieces is near one of them."""
_BLOCK = 4 << 20
_NEWLINE = 10
_WHITE = np.isin(np.arange(256), list(b" \t\n\r\x0b\x0c"))


@dataclass(frozen=True)
class Blanks:
    """Which lines are no records: those of certain bytes alone.

    Attributes:
      signs: these bytes, all of them white space.
      most: only so many bytes of a line are looked at.
    """

    signs: bytes
    most: int

    def fill(self, line: bytes) -> bool:
        """Returns whether a line is a record."""
        return bool(line[: self.most].strip(self.signs))


@dataclass
class Scan:
    """The records that begin in a byte range. It is private.

    Attributes:
      begin: the byte at which the scan began: the first line that begins in the range; -1: no line does.
      end: the byte after the last record or blank line that begins in the range.
      records: their number.
      last: the byte after the last record.
      step: the end of every `step`-th record is kept.
      marks: these ends, int64, ascending.
    """

    begin: int
    end: int = 0
    records: int = 0
    last: int = 0
    step: int = 1
    marks: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, ends: np.ndarray) -> None:
        """Adds the ends of the records that follow, int64."""
        if len(ends):
            first = -(self.records + 1) % self.step
            self.marks = np.concatenate([self.marks, ends[first :: self.step]])
            self.records, self.last = self.records + len(ends), int(ends[-1])
        while len(self.marks) > 2 * MOST_MARKS:
            self.marks, self.step = self.marks[1::2], 2 * self.step

    def after(self, mark: int) -> Scan:
        """Returns the records after a mark, given by its position in `marks`."""
        done = (mark + 1) * self.step
        return Scan(int(self.marks[mark]), self.end, self.records - done, self.last, self.step, self.marks[mark + 1 :])


def first_line(file: BinaryIO, start: int, stop: int) -> int:
    """Returns the first byte at which a line begins, from `start` to below `stop`; -1: no line begins there."""
    if start == 0:
        return 0
    file.seek(start - 1)
    position = start - 1
    while position < stop - 1 and (block := file.read(min(1 << 16, stop - 1 - position))):
        at = block.find(b"\n")
        if at >= 0:
            return position + at + 1
        position += len(block)
    return -1


def scan_lines(file: BinaryIO, begin: int, stop: int, blanks: Blanks) -> Scan:
    """Returns the lines that begin before `stop`, where every line end ends a record.

    Args:
      file: seekable; is read from `begin` on.
      begin: the byte at which a line begins.
      stop: a line that begins here or later is not wanted.
      blanks: the lines that are no records.
    """
    found = Scan(begin)
    file.seek(begin)
    position, rest = begin, b""
    while position < stop:
        chunk = file.read(_BLOCK)
        block = rest + chunk
        if not block:
            break
        stops = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1
        if not chunk and (not len(stops) or stops[-1] < len(block)):
            stops = np.append(stops, len(block))  # the last line has no end
        if not len(stops) and len(block) > blanks.most:
            position, rest = _skip_long(file, position, block, blanks, found)
            continue
        starts = np.concatenate([[0], stops[:-1]]).astype(np.int64)[: len(stops)]
        keep = position + starts < stop
        starts, ends = starts[keep], stops[keep]
        found.add(position + ends[_filled(block, starts, ends, blanks)])
        if len(ends) < len(stops):
            position += int(ends[-1]) if len(ends) else 0
            break
        used = int(stops[-1]) if len(stops) else 0
        position, rest = position + used, block[used:]
        if not chunk:
            break
    found.end = position
    return found


def _filled(block: bytes, starts: np.ndarray, ends: np.ndarray, blanks: Blanks) -> np.ndarray:
    """Returns which lines are not blank. Few begin with a blank, and only these are looked at."""
    filled = np.ones(len(starts), bool)
    first = np.frombuffer(block, np.uint8)[starts]
    for i in np.flatnonzero(_WHITE[first]).tolist():
        filled[i] = blanks.fill(block[starts[i] : min(ends[i], starts[i] + blanks.most)])
    return filled


def _skip_long(file: BinaryIO, position: int, block: bytes, blanks: Blanks, found: Scan) -> tuple[int, bytes]:
    """Reads a line that is longer than what is kept of one. Returns the byte after it, and what was read behind it."""
    filled = blanks.fill(block)
    read = len(block)
    while chunk := file.read(_BLOCK):
        at = chunk.find(b"\n") + 1
        if at:
            found.add(np.array([position + read + at] * filled, np.int64))
            return position + read + at, chunk[at:]
        read += len(chunk)
    found.add(np.array([position + read] * filled, np.int64))
    return position + read, b""


def join_scans(
    scans: Iterable[tuple[int, Scan]], begin: int, ends_from: Callable[[int], Iterator[tuple[int, bool]]]
) -> list[Scan]:
    """Returns scans that follow each other without a gap: the whole file.

    Args:
      scans: of each range (the byte after the range, what was found), in order.
      begin: the byte at which the first record may begin.
      ends_from: from a byte at which a record begins -> the byte after each record or blank line, and whether it is a
        record.
    """
    joined: list[Scan] = []
    position = begin
    for stop, scan in scans:
        if position >= stop:
            continue  # a record of an earlier range goes on to its end
        if scan.begin != position:
            again, mark = _read_again(scan, position, stop, ends_from)
            joined.append(again)
            position = again.end
            if mark is None:
                continue
            joined.append(scan.after(mark))
        else:
            joined.append(scan)
        position = scan.end
    return joined


def _read_again(
    scan: Scan, position: int, stop: int, ends_from: Callable[[int], Iterator[tuple[int, bool]]]
) -> tuple[Scan, int | None]:
    """Reads from the true beginning of a record until a mark of the scan, or to the end of its range.

    Returns:
      what was read, and which mark it has reached; None: it has reached none.
    """
    again = Scan(position, position)
    marks = {int(mark): i for i, mark in enumerate(scan.marks)}
    for end, is_record in ends_from(position):
        if is_record:
            again.add(np.array([end], np.int64))
        again.end = end
        if end in marks:
            return again, marks[end]
        if end >= stop:
            break
    return again, None


def boundaries(scans: Sequence[Scan], rows: int) -> list[tuple[int, int]]:
    """Returns where every `rows`-th record of a file ends: (byte after an earlier record, records from there on).

    The number of records is 0 where the byte is the wanted one.
    """
    found: list[tuple[int, int]] = []
    before, wanted = 0, rows
    for scan in scans:
        while wanted <= before + scan.records:
            local = wanted - before
            mark = min(local // scan.step, len(scan.marks))
            place = int(scan.marks[mark - 1]) if mark else scan.begin
            found.append((place, local - mark * scan.step))
            wanted += rows
        before += scan.records
    return found
