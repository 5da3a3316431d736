"""All rows of a client as one record: what a client's rows say together, and the transform that gathers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import ROW, SOURCE, Source, SourceBatch
from pe_beam.transforms.group_rows import GroupRows
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.spread import Spread

OWNER, CLIENT, LABEL, FAULT, SEEN = "-owner", "-client", "-label", "-fault", "-seen"
"""Columns of our own beside a payload: whose row it is, client, label, [kind, detail, variety] of a fault, facts."""
NO_CLIENT = Fault("missing client id")
SEVERAL_LABELS = Fault("rows of one client with different labels")


def owned(batch: SourceBatch) -> pa.Table:
    """Returns the rows of a batch with the columns of our own. A row without a client id is its own owner."""
    faults: list[list[str] | None] = [None] * len(batch.rows)
    for row, client in enumerate(batch.clients):
        if client is None:
            faults[row] = _written(NO_CLIENT)
    for row, fault in batch.faults.items():
        faults[row] = _written(fault)
    pairs = zip(batch.clients, batch.rows, strict=True)
    owners = [f"row {where}" if client is None else f"client {client}" for client, where in pairs]
    seen = [sorted(batch.seen), *([None] * (len(owners) - 1))][: len(owners)]
    own = {
        OWNER: pa.array(owners, pa.string()),
        CLIENT: pa.array(batch.clients, pa.string()),
        LABEL: pa.array(batch.labels, pa.string()),
        FAULT: pa.array(faults, pa.list_(pa.string())),
        SEEN: pa.array(seen, pa.list_(pa.string())),
    }
    table = batch.payload
    for name, column in own.items():
        table = table.append_column(name, column)
    return table


def _written(fault: Fault) -> list[str]:
    return [fault.kind, fault.detail, fault.variety]


class _Arranged:
    """Rows sorted by owner and then as the content orders them.

    Attributes:
      table: the rows.
      starts: int64 (owners,), the first row of each owner.
      owners: int64 (n,), the owner of each row, by the order of their names.
      rank: int64 (n,), the place of each row among its owner's.
      faulty: bool (n,), whether a row could not be read.
    """

    def __init__(self, content: ClientContent, table: pa.Table) -> None:
        codes = table[OWNER].combine_chunks().dictionary_encode()
        names = np.array(codes.dictionary.to_pylist(), dtype=object)
        alphabetic = np.empty(len(names), dtype=np.int64)
        alphabetic[np.argsort(names)] = np.arange(len(names))
        owners = alphabetic[codes.indices.to_numpy()]
        keys = content.order(table.select(content.rows.payload.names))
        order = np.lexsort([*reversed(keys.T), owners])
        self.table = table.take(pa.array(order)).combine_chunks()
        owners = owners[order]
        self.starts = np.flatnonzero(np.diff(owners, prepend=-1))
        self.owners = np.cumsum(np.diff(owners, prepend=-1) > 0) - 1
        self.rank = np.arange(len(owners)) - self.starts[self.owners]
        self.faulty = self.table[FAULT].is_valid().to_numpy()


def trimmed(content: ClientContent, table: pa.Table) -> pa.Table:
    """Returns the rows that a client's record can depend on, if these are some of its rows: a bounded number.

    They are the first `most`, one of each label, and the least faulty one. Trimming parts changes no record.
    """
    if not table.num_rows:
        return table
    found = _Arranged(content, table)
    keep = (found.rank < content.most) & ~found.faulty
    labels = found.table[LABEL].to_pylist()
    _, first = np.unique(
        [f"{owner} {label!r}" for owner, label in zip(found.owners.tolist(), labels, strict=True)], return_index=True
    )
    keep[first] = True
    keep[list(_least_faults(found).values())] = True
    keep |= found.table[SEEN].is_valid().to_numpy()
    return found.table.take(pa.array(np.flatnonzero(keep)))


def _least_faults(found: _Arranged) -> dict[int, int]:
    """Returns owner -> its faulty row whose fault is least, in an order that no other owner changes."""
    least: dict[int, tuple[list[str], int]] = {}
    rows = np.flatnonzero(found.faulty).tolist()
    for row, fault in zip(rows, found.table[FAULT].take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
        owner = int(found.owners[row])
        if owner not in least or (fault, row) < least[owner]:
            least[owner] = (fault, row)
    return {owner: row for owner, (_, row) in least.items()}


def gathered(content: ClientContent, table: pa.Table) -> pa.Table:
    """Returns one record for each owner, in the order of their names: the payload and the columns of our own.

    A client is a fault if one of its rows is, or if its rows have different labels. What a record is follows from its
    owner's rows alone, in whatever order they come.
    """
    if not table.num_rows:
        return _records(content, content.gather(content.rows.payload.empty_table(), np.zeros(0, np.int64)), {}, [])
    found = _Arranged(content, table)
    faults: list[list[str] | None] = [None] * len(found.starts)
    labels = found.table[LABEL].to_pylist()
    for row, owner in enumerate(found.owners.tolist()):
        if labels[row] != labels[int(found.starts[owner])]:
            faults[owner] = _written(SEVERAL_LABELS)
    for owner, row in _least_faults(found).items():
        faults[owner] = found.table[FAULT][row].as_py()
    fine = np.array([fault is None for fault in faults])
    kept = np.flatnonzero((found.rank < content.most) & (fine[found.owners] | (found.rank == 0)))
    ends = np.cumsum(np.bincount(found.owners[kept], minlength=len(faults)))
    rows = found.table.select(content.rows.payload.names).take(pa.array(kept))
    firsts = found.table.take(pa.array(found.starts))
    own = {OWNER: firsts[OWNER], CLIENT: firsts[CLIENT], LABEL: firsts[LABEL]}
    seen = sorted({fact for facts in found.table[SEEN].to_pylist() for fact in facts or ()})
    return _records(content, content.gather(rows, ends), own | {FAULT: pa.array(faults, pa.list_(pa.string()))}, seen)


def _records(content: ClientContent, payload: pa.Table, own: dict[str, Any], seen: list[str]) -> pa.Table:
    count = payload.num_rows
    kinds = {OWNER: pa.string(), CLIENT: pa.string(), LABEL: pa.string(), FAULT: pa.list_(pa.string())}
    for name, kind in kinds.items():
        payload = payload.append_column(name, own.get(name, pa.array([], kind)))
    facts = [seen, *([None] * (count - 1))][:count]
    return payload.append_column(SEEN, pa.array(facts, pa.list_(pa.string())))


class GatherClients(beam.PTransform):
    """A pipeline's root -> `PCollection[pa.RecordBatch]`: one record a client, with the columns `SOURCE` and `ROW`.

    Args:
      content: makes records of rows.
      rows: the source of the rows.
      sources: the name of each bucket's records.
    """

    def __init__(self, content: ClientContent, rows: Source, sources: list[str]) -> None:
        super().__init__()
        self._content, self._rows, self._sources = content, rows, sources

    def expand(self, root: Any) -> beam.PCollection:  # noqa: D102
        return (
            root
            | "Start" >> beam.Create([0])
            | "CutRows" >> beam.ParDo(_CutRowsFn(self._rows))
            | "SpreadRows" >> Spread()
            | "ReadRows" >> beam.ParDo(_ReadRowsFn(self._content, self._rows))
            | "GroupRows" >> GroupRows(OWNER, buckets=len(self._sources))
            | "GatherRows" >> beam.ParDo(_GatherRowsFn(self._content, self._sources))
        )


class _CutRowsFn(PlainFn):
    def __init__(self, rows: Source) -> None:
        self._rows = rows

    def process(self, _: int) -> Iterator[Any]:
        with guarded(None, "CutRows"):
            pieces = self._rows.pieces()
        yield from pieces


class _ReadRowsFn(PlainFn):
    def __init__(self, content: ClientContent, rows: Source) -> None:
        self._content, self._rows = content, rows

    def process(self, piece: Any) -> Iterator[pa.Table]:
        with guarded(None, "ReadRows"):
            parts = [owned(batch) for batch in self._rows.read(piece)]
            table = trimmed(self._content, pa.concat_tables(parts)) if parts else None
        if table is not None:
            yield table


class _GatherRowsFn(PlainFn):
    def __init__(self, content: ClientContent, sources: list[str]) -> None:
        self._content, self._sources = content, sources

    def process(self, keyed: tuple[int, pa.Table]) -> Iterator[pa.RecordBatch]:
        with guarded(None, "GatherRows"):
            records = gathered(self._content, keyed[1])
            records = records.append_column(SOURCE, pa.array([self._sources[keyed[0]]] * len(records), pa.string()))
            records = records.append_column(ROW, pa.array(np.arange(len(records)), pa.int64()))
            [batch] = records.combine_chunks().to_batches()
        yield batch
