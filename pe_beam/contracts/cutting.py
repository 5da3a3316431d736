"""Cuts a source: part by part on workers (`engine/graphs/cutting.py`), or all of it in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter

from pe_beam.contracts.source import FileCut, FilePart, Piece, Source

THREADS = 16
"""Parts that a process cuts at the same time: most of the time it waits for a disk or an object store."""
CHEAP = 1 << 20
"""Bytes that cutting may read of a part which is cut together with others."""
_GROUPS = 64  # wanted of cheap parts, so that many workers have some
_MOST = 32  # parts in a group, so that no group takes long


def group_parts(parts: Sequence[FilePart]) -> list[tuple[FilePart, ...]]:
    """Returns the parts in groups that are cut in one place, in order: several cheap ones, or one.

    >>> [len(group) for group in group_parts([FilePart("x", i) for i in range(100)])][:3]
    [2, 2, 2]
    """
    cheap = [part for part in parts if part.cost <= CHEAP]
    step = max(1, min(_MOST, -(-len(cheap) // _GROUPS)))
    together = [tuple(cheap[at : at + step]) for at in range(0, len(cheap), step)]
    return together + [(part,) for part in parts if part.cost > CHEAP]


def cut_parts(source: Source, parts: Sequence[FilePart]) -> list[FileCut]:
    """Returns the cuts of parts, in order. Threads overlap the waiting.

    Raises:
      DataError: as `Source.cut_file`; of several faults that of the first part.
    """
    if len(parts) == 1:
        return [source.cut_file(parts[0])]
    with ThreadPoolExecutor(min(THREADS, max(1, len(parts)))) as pool:
        return list(pool.map(source.cut_file, parts))


def join_file(source: Source, cuts: Iterable[FileCut]) -> list[Piece]:
    """Returns the pieces of one file from the cuts of its parts, which come in any order."""
    return source.join_cuts(sorted(cuts, key=lambda cut: cut.part.start))


def in_order(source: Source, pieces: Iterable[Piece]) -> list[Piece]:
    """Returns the pieces of all files in order, checked by the source.

    Raises:
      DataError: as `Source.check_pieces`.
    """
    found = sorted(pieces, key=attrgetter("name"))
    source.check_pieces(found)
    return found


def cut_here(source: Source) -> list[Piece]:
    """Returns all pieces, cut in this process: what `Source.pieces` returns for a source that overrides `files`."""
    cuts = cut_parts(source, source.files())
    by_file = groupby(cuts, key=lambda cut: cut.part.file_index)
    return in_order(source, (piece for _, group in by_file for piece in join_file(source, group)))
