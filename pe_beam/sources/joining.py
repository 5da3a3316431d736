"""Joins the rows of two tables by their key, as a Beam transform: one element of a batch is a client with all its rows.

What is kept of a client follows from this client's rows alone: the packed children are sorted as bytes, and the first
or last ones stay. So no bundle, no worker and no other client can change it. Keys and rows are in the shuffle only.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pe_beam.contracts import cutting
from pe_beam.contracts.families import FamilyContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import BATCH_ROWS, TOLD, FileCut, FilePart, Piece, Source, SourceBatch
from pe_beam.sources import files
from pe_beam.sources.joined import FAMILIES, keys_of
from pe_beam.sources.roles import NO_WHOLE, ROUNDED
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.spread import Spread
from pe_beam.transforms.vote import ShuffleOptions

NO_PARENT = Fault("child rows whose key is in no row of the parent table")
TWO_PARENTS = Fault("key that comes more than once in the parent table")
NO_KEY = Fault("row without a key")
CUT = f"{TOLD}clients have more rows than data.schema.child.most; of each, so many by their order are read"
_KEYLESS = "\0"
"""What stands before the place of a row without a key, in place of the key. A key does not begin with it."""

Place = tuple[str, int]
"""Which table and file a row lies in, and its number there."""
Told = tuple[str, str, str]
"""Kind, detail and variety of a fault."""
Parent = tuple[Place, str | None, bytes]
"""Where a row of the parent table lies, its label, and the packed row."""
Rows = tuple[list[Parent], list[bytes], Place | None, Told | None, list[str]]
"""Some rows of a client: parents (two at most, for two are a fault), packed children, the place of the first child,
the first fault, and facts about the batches that the rows came from."""


class JoinTables(beam.PTransform):
    """A pipeline's root -> batches of `FAMILIES`, one row a client. It reads each table once.

    Two shuffles hold pieces of files, and one the rows by their keys, which `--client_shuffle_key` encrypts.
    """

    def __init__(self, content: FamilyContent, parent: Source, child: Source, *, below: str) -> None:
        """Takes the content of the families, the two tables, whose client ids are the keys, and where both lie."""
        super().__init__()
        self._content, self._below = content, below
        self._sources = {"parent": parent, "child": child}

    def expand(self, root: Any) -> beam.PCollection:  # noqa: D102
        rows = [
            root | f"Read {name}" >> _ReadTable(source, name, self._content, self._below)
            for name, source in self._sources.items()
        ]
        both = rows | "BothTables" >> beam.Flatten()
        return _joined(both, JoinCombineFn(self._content.most, keeps_last=self._content.keeps_last)) | (
            "Families" >> beam.ParDo(_FamiliesFn())
        )


def _joined(rows: beam.PCollection, combine: beam.CombineFn) -> beam.PCollection:
    """Joins the rows of each key. As for votes of clients, the keys are encrypted if the pipeline has a key for it."""
    key = rows.pipeline.options.view_as(ShuffleOptions).client_shuffle_key
    if not key:
        return rows | "JoinClients" >> beam.CombinePerKey(combine)
    from apache_beam.transforms.util import GroupByEncryptedKey, Secret

    hidden = rows | "HideClients" >> GroupByEncryptedKey(Secret.parse_secret_option(key))
    return hidden | "JoinClients" >> beam.CombineValues(combine)


class _ReadTable(beam.PTransform):
    """A pipeline's root -> (key, `Rows`) of all rows of a table. A file is cut and read where its parts arrive."""

    def __init__(self, source: Source, name: str, content: FamilyContent, below: str) -> None:
        super().__init__()
        self._source, self._name, self._content, self._below = source, name, content, below

    def expand(self, root: Any) -> beam.PCollection:
        return (
            root
            | "Start" >> beam.Create([0])
            | "ListFiles" >> beam.ParDo(_ListFilesFn(self._source, self._name))
            | "SpreadFiles" >> Spread()
            | "CutFiles" >> beam.ParDo(_CutFilesFn(self._source, self._name))  # (file, cut of a part)
            | "GatherCuts" >> beam.GroupByKey()
            | "JoinCuts" >> beam.ParDo(_JoinCutsFn(self._source, self._name))
            | "SpreadPieces" >> Spread()
            | "ReadRows" >> beam.ParDo(_ReadRowsFn(self._source, self._name, self._content, self._below))
        )


class _SourceFn(PlainFn):
    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name


class _ListFilesFn(_SourceFn):
    def process(self, _: Any) -> Iterator[tuple[FilePart, ...]]:
        with guarded(None, "ListFiles"), keys_of(self._name):
            groups = cutting.group_parts(self._source.files())
        yield from groups


class _CutFilesFn(_SourceFn):
    def process(self, parts: tuple[FilePart, ...]) -> Iterator[tuple[int, FileCut]]:
        with guarded(None, "CutFiles"), keys_of(self._name):
            cuts = cutting.cut_parts(self._source, parts)
        for cut in cuts:
            yield cut.part.file_index, cut


class _JoinCutsFn(_SourceFn):
    def process(self, keyed: tuple[int, Iterable[FileCut]]) -> Iterator[Piece]:
        with guarded(None, "JoinCuts"), keys_of(self._name):
            pieces = cutting.join_file(self._source, keyed[1])
        yield from pieces


class _ReadRowsFn(_SourceFn):
    """Piece -> (key, `Rows`), already joined within a batch: a client with many children is small from here on."""

    def __init__(self, source: Source, name: str, content: FamilyContent, below: str) -> None:
        super().__init__(source, name)
        self._content, self._below = content, below

    def process(self, piece: Piece) -> Iterator[tuple[str, Rows]]:
        batches = self._source.read(piece)
        while True:
            with guarded(None, "ReadRows"), keys_of(self._name):
                batch = next(batches, None)
                found = {} if batch is None else self._keyed(batch)
            if batch is None:
                return
            yield from found.items()

    def _keyed(self, batch: SourceBatch) -> dict[str, Rows]:
        is_parent = self._name == "parent"
        packed = (self._content.pack_parents if is_parent else self._content.pack_children)(batch.payload)
        combine = JoinCombineFn(self._content.most, keeps_last=self._content.keeps_last)
        found: dict[str, Rows] = {}
        for row, content in enumerate(packed):
            place, fault = self._place(batch.rows[row]), batch.faults.get(row)
            key = batch.clients[row]
            if key is None or fault in (ROUNDED, NO_WHOLE):
                key, fault = f"{_KEYLESS}{place[0]}:{place[1]}", fault or NO_KEY
            told = None if fault is None else (f"{self._name} row: {fault.kind}", fault.detail, fault.variety)
            own: Rows = (
                ([(place, batch.labels[row], content)], [], None, told, [])
                if is_parent
                else ([], [content], place, told, [])
            )
            found[key] = combine.add_input(found[key], own) if key in found else own
        if found and batch.seen:
            first = next(iter(found))
            found[first] = (*found[first][:4], sorted({*found[first][4], *batch.seen}))
        return found

    def _place(self, locator: str) -> Place:
        """Returns where a row lies. It is the same wherever both tables lie: `data.path` may change on a resume."""
        file, _, row = locator.rpartition(":")
        return f"{self._name}:{files.below(file, self._below)}", int(row)


class JoinCombineFn(beam.CombineFn):
    """Joins rows of one client. The result is the same in any order of merging."""

    def __init__(self, most: int, *, keeps_last: bool) -> None:
        """Takes the largest number of children to keep, and whether the last in their order are kept or the first."""
        super().__init__()
        self._most = most
        self._select = heapq.nlargest if keeps_last else heapq.nsmallest

    def create_accumulator(self) -> Rows:  # noqa: D102
        return [], [], None, None, []

    def add_input(self, some: Rows, other: Rows) -> Rows:  # noqa: D102
        children, facts = some[1] + other[1], {*some[4], *other[4]}
        if len(children) > self._most:
            children = self._select(self._most, children)
            facts.add(CUT)
        return (
            sorted(some[0] + other[0], key=lambda parent: parent[0])[:2],
            children,
            _least(some[2], other[2]),
            _least(some[3], other[3]),
            sorted(facts),
        )

    def merge_accumulators(self, several: Iterable[Rows]) -> Rows:  # noqa: D102
        merged = self.create_accumulator()
        for rows in several:
            merged = self.add_input(merged, rows)
        return merged

    def extract_output(self, rows: Rows) -> Rows:  # noqa: D102
        return rows


def _least(one: Any, other: Any) -> Any:
    return min((each for each in (one, other) if each is not None), default=None)


class _FamiliesFn(PlainFn):
    """(key, all rows of it) -> batches of `FAMILIES`."""

    def start_bundle(self) -> None:
        self._held: list[dict[str, Any]] = []

    def process(self, keyed: tuple[str, Rows]) -> Iterator[pa.RecordBatch]:
        self._held.append(family(*keyed))
        if len(self._held) == BATCH_ROWS:
            yield self._batch()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._held:
            yield WindowedValue(self._batch(), MIN_TIMESTAMP, [GlobalWindow()])

    def _batch(self) -> pa.RecordBatch:
        made = pa.RecordBatch.from_pylist(self._held, FAMILIES)
        self._held = []
        return made


def family(key: str, rows: Rows) -> dict[str, Any]:
    """Returns a row of `FAMILIES`: a client with its children in order, or why it cannot be used."""
    parents, children, first, told, seen = rows
    keyless = key.startswith(_KEYLESS)
    if told is None and len(parents) > 1:
        told = (TWO_PARENTS.kind, "", "")
    elif told is None and not parents:
        told = (NO_PARENT.kind, "", "")
    place = parents[0][0] if parents else first
    assert place is not None, "no row"
    fine = told is None
    return {
        "source": place[0],
        "row": place[1],
        "label": parents[0][1] if parents else None,
        "client": None if keyless else key,
        "parent": parents[0][2] if fine else None,
        "children": sorted(children) if fine else [],
        "fault": None if told is None else list(told),
        "seen": seen,
    }
