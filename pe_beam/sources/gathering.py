"""What all rows of a client say together: rows as they come, those that can matter, and one record a client.

What a record is follows from its client's rows alone: no bundle, no worker, no order of rows and no other client can
change it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import TOLD, UNREAD, SourceBatch
from pe_beam.sources import files
from pe_beam.sources.roles import NO_WHOLE, ROUNDED

OWNER, CLIENT, LABEL, FAULT, SEEN = "-owner", "-client", "-label", "-fault", "-seen"
"""Columns of rows: whose row it is, client, label, [kind, detail, variety, place] of a fault, facts about its batch."""
FILE, NUMBER = "-file", "-number"
"""Columns of rows: where a row lies. A row's content is in the column of its table, which is null for other rows."""
PAYLOAD, WHERE = "-payload", "-where"
"""Columns of records: the content, and where to look for it, for `private/rejects/`."""
NO_CLIENT = Fault("missing client id")
SEVERAL_LABELS = Fault("rows of one client with different labels")


def prefix_of(content: ClientContent, name: str) -> str:
    """Returns what stands before places and facts of a table, if there are several."""
    return f"{name}:" if len(content.tables) > 1 else ""


def owned(content: ClientContent, name: str, batch: SourceBatch, below: str) -> pa.Table:
    """Returns the rows of a batch of a table with the columns of our own.

    A row whose client cannot be known is its own owner. Places are the same wherever the data lie: `data.path` may
    change on a resume.

    Args:
      content: makes records of rows.
      name: the table.
      batch: its rows.
      below: the folder of all tables.
    """
    prefix = prefix_of(content, name)
    told = prefix and f"{name} row: "
    places = [where.rpartition(":")[::2] for where in batch.rows]
    found = [prefix + files.below(file, below) for file, _ in places]
    owners, clients = [], []
    faults: list[list[str] | None] = []
    for row, client in enumerate(batch.clients):
        fault, where = batch.faults.get(row), f"{found[row]}:{places[row][1]}"
        known = client is not None and fault not in (ROUNDED, NO_WHOLE)
        fault = fault if known else fault or NO_CLIENT
        owners.append(f"client {client}" if known else f"row {where}")
        clients.append(client if known else None)
        faults.append(None if fault is None else [told + fault.kind, fault.detail, fault.variety, where])
    rows = len(owners)
    columns = {
        OWNER: pa.array(owners, pa.string()),
        CLIENT: pa.array(clients, pa.string()),
        LABEL: pa.array(batch.labels, pa.string()),
        FAULT: pa.array(faults, pa.list_(pa.string())),
        SEEN: _on_the_first({fact if fact.startswith((UNREAD, TOLD)) else prefix + fact for fact in batch.seen}, rows),
        FILE: pa.array(found, pa.string()),
        NUMBER: pa.array([int(number) for _, number in places], pa.int64()),
    }
    for other, table in content.tables.items():
        kind = pa.struct(table.rows.payload)
        columns[other] = _struct(batch.payload, kind) if other == name else pa.nulls(rows, kind)
    return pa.table(columns)


def trimmed(content: ClientContent, rows: pa.Table) -> pa.Table:
    """Returns the rows that a client's record can depend on, if these are some of its rows: a bounded number.

    They are the first `most` of each table and one more, which shows that there are more, one of each label, the one
    with the least fault, and the first by place. Trimming parts changes no record.
    """
    found = _Rows(content, rows)
    keep = rows[SEEN].is_valid().to_numpy()
    for name, table in content.tables.items():
        at, rank = found.ranked(name)
        keep[at[(rank <= table.most) & ~found.faulty[at]]] = True
        keep[found.first_places(at)] = True
    keep[np.unique(found.owners * (found.labels.max() + 2) + found.labels, return_index=True)[1]] = True
    keep[list(found.least_faults().values())] = True
    return rows.take(pa.array(np.flatnonzero(keep)))


def gathered(content: ClientContent, rows: pa.Table) -> pa.Table:
    """Returns one record for each owner, in the order of their names: the payload and the columns of our own.

    A client is a fault if one of its rows is, if its rows have different labels, or if their numbers make no record.
    `FILE` and `NUMBER` are the place of its first row, in the first table where it has one.
    """
    found = _Rows(content, rows)
    ranked = {name: found.ranked(name) for name in content.tables}
    counts = {name: np.bincount(found.owners[at], minlength=found.count) for name, (at, _) in ranked.items()}
    firsts = np.full(found.count, -1)
    for at, _ in ranked.values():
        own = found.first_places(at)
        own = own[firsts[found.owners[own]] < 0]
        firsts[found.owners[own]] = own
    faults = _faults(content, found, counts)
    fine = np.array([fault is None for fault in faults])
    kept, ends = {}, {}
    seen = {fact for facts in rows[SEEN].to_pylist() for fact in facts or ()}
    for name, table in content.tables.items():
        at, rank = ranked[name]
        at = at[(rank < table.most) & (fine[found.owners[at]] | (rank == 0))]
        kept[name] = found.contents(name, at)
        ends[name] = np.cumsum(np.bincount(found.owners[at], minlength=found.count))
        if table.most_key is not None and (counts[name] > table.most).any():
            seen.add(f"{TOLD}clients have more rows than {table.most_key}; of each, so many by their order are read")
    first = rows.take(pa.array(firsts))
    places = zip(first[FILE].to_pylist(), first[NUMBER].to_pylist(), strict=True)
    where = [f"{file}:{number}" for file, number in places]
    return pa.table(
        {
            PAYLOAD: _struct(content.gather(kept, ends), pa.struct(content.payload)),
            **{name: first[name] for name in (CLIENT, LABEL, FILE, NUMBER)},
            FAULT: pa.array([fault and fault[:3] for fault in faults], pa.list_(pa.string())),
            WHERE: pa.array([[*fault, at][3] if fault else at for fault, at in zip(faults, where, strict=True)]),
            SEEN: _on_the_first(seen, found.count),
        }
    )


def _faults(content: ClientContent, found: _Rows, counts: dict[str, np.ndarray]) -> list[list[str] | None]:
    """Returns what is wrong with each client, first of all with one of its rows."""
    faults: list[list[str] | None] = [None] * found.count
    main = found.of_table(next(iter(content.tables)))
    pairs = np.unique(np.stack([found.owners[main], found.labels[main]]), axis=1)
    for owner in np.flatnonzero(np.bincount(pairs[0], minlength=found.count) > 1).tolist():
        faults[owner] = _written(SEVERAL_LABELS)
    for owner, fault in content.misfits(counts).items():
        faults[owner] = _written(fault)
    for owner, row in found.least_faults().items():
        faults[owner] = found.rows[FAULT][row].as_py()
    return faults


def _written(fault: Fault) -> list[str]:
    return [fault.kind, fault.detail, fault.variety]


class _Rows:
    """Rows of clients.

    Attributes:
      rows: the rows.
      count: number of owners.
      owners: int64 (n,), the owner of each row, by the order of their names.
      labels: int64 (n,), a number of each label; -1: none.
      faulty: bool (n,), whether a row could not be read.
    """

    def __init__(self, content: ClientContent, rows: pa.Table) -> None:
        self._content, self.rows = content, rows
        self.owners, self.count = _coded(rows[OWNER])
        self.labels, _ = _coded(rows[LABEL])
        self.faulty = rows[FAULT].is_valid().to_numpy()
        self._files, _ = _coded(rows[FILE])

    def of_table(self, name: str) -> np.ndarray:
        """Returns the positions of a table's rows."""
        return np.flatnonzero(self.rows[name].is_valid().to_numpy())

    def contents(self, name: str, at: np.ndarray) -> pa.Table:
        """Returns the contents of rows of a table."""
        schema = self._content.tables[name].rows.payload
        return pa.table(_whole(self.rows[name].take(pa.array(at))).flatten(), schema=schema)

    def ranked(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions of a table's rows, client after client and each one's in order, and their ranks."""
        at = self.of_table(name)
        keys = self._content.order(name, self.contents(name, at))
        at = at[np.lexsort([*reversed(keys.T), self.owners[at]])]
        return at, np.arange(len(at)) - np.searchsorted(self.owners[at], self.owners[at])

    def first_places(self, at: np.ndarray) -> np.ndarray:
        """Returns the first row by place of each owner among some rows."""
        numbers = self.rows[NUMBER].to_numpy()
        order = at[np.lexsort([numbers[at], self._files[at], self.owners[at]])]
        return order[np.flatnonzero(np.diff(self.owners[order], prepend=-1))]

    def least_faults(self) -> dict[int, int]:
        """Returns owner -> its faulty row whose fault is least, in an order that no other owner changes."""
        least: dict[int, tuple[list[str], int]] = {}
        rows = np.flatnonzero(self.faulty).tolist()
        for row, fault in zip(rows, self.rows[FAULT].take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
            owner = int(self.owners[row])
            if owner not in least or (fault, row) < least[owner]:
                least[owner] = (fault, row)
        return {owner: row for owner, (_, row) in least.items()}


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """Returns the place of each text among all of them in order, int64 (n,), -1 for a null; and how many there are."""
    codes = _whole(column).dictionary_encode()
    names = np.array([*codes.dictionary.to_pylist(), None], dtype=object)
    places = np.full(len(names), -1, dtype=np.int64)
    places[np.argsort(names[:-1])] = np.arange(len(names) - 1)
    return places[codes.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)], len(names) - 1


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _struct(table: pa.Table, kind: pa.DataType) -> pa.Array:
    """Returns the rows of a table as one column."""
    columns = [_whole(column) for column in table.columns]
    return pa.StructArray.from_arrays(columns, fields=list(kind)) if len(table) else pa.array([], kind)


def _on_the_first(facts: Collection[str], rows: int) -> pa.Array:
    """Returns a column that holds the facts in the first of so many rows."""
    return pa.array([sorted(facts), *([None] * (rows - 1))][:rows], pa.list_(pa.string()))
