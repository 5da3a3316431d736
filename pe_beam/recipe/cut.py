"""One side of a cut of any source: the records that are set aside for `evaluate`, or the records that vote."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa

from pe_beam import names
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch
from pe_beam.recipe.around import SourceAround


class CutSource(SourceAround):
    """The records of one side. A record's side depends on no other record, so one record more moves no other.

    The hash input is the random state with the client's id, or without clients with the record's content except its
    label. A record is set aside if its hash is in the lowest `share` of all hashes. So all records of a client are on
    one side, as are all records with equal content. Each label is cut by the share in expectation, not exactly. Records
    that cannot be read have no content: they stay with the voting records, where rejects are counted.
    """

    def __init__(self, source: Source, part: str, share: float, random_state: int) -> None:
        super().__init__(source)
        self._aside = part == "test"
        self._bound = int(share * 2.0**64)
        self._key = hashlib.sha256(b"pe_beam cut 1\0" + str(random_state).encode()).digest()

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """Yields the rows of this side, in order."""
        seen: frozenset[str] = frozenset()
        for batch in self._source.read(piece):
            seen |= batch.seen
            rows = [row for row, aside in enumerate(self._sides(batch)) if aside == self._aside]
            if rows:
                yield replace(_only(batch, rows), seen=seen)

    def _sides(self, batch: SourceBatch) -> list[bool]:
        """Returns for each row whether it is set aside."""
        values = [column.to_pylist() for column in batch.payload.columns]
        return [
            row not in batch.faults and self._is_aside(batch.clients[row], [column[row] for column in values])
            for row in range(len(batch.labels))
        ]

    def _is_aside(self, client: str | None, content: Sequence[Any]) -> bool:
        total = hashlib.sha256(self._key)
        if client is not None:
            total.update(b"client" + client.encode())
        else:
            total.update(b"record" + b"".join(_canonical(value) for value in content))
        return int.from_bytes(total.digest()[:8]) < self._bound


def _canonical(value: Any) -> bytes:
    """Encodes a value as bytes. They are the same on every machine and for every file format."""
    if isinstance(value, bytes):
        kind, raw = b"x", value
    elif isinstance(value, str):
        kind, raw = b"s", names.plain(value).encode()
    elif isinstance(value, float):
        kind, raw = b"f", struct.pack(">d", value + 0.0)  # no negative zero
    elif value is None or isinstance(value, bool | int | date):
        kind, raw = b"v", str(value).encode()
    else:
        kind, raw = b"j", json.dumps(value, sort_keys=True, default=str).encode()
    return kind + struct.pack(">Q", len(raw)) + raw


def _only(batch: SourceBatch, rows: list[int]) -> SourceBatch:
    faults: dict[int, Fault] = {at: batch.faults[row] for at, row in enumerate(rows) if row in batch.faults}
    return SourceBatch(
        batch.payload.take(pa.array(rows, pa.int64())),
        [batch.labels[row] for row in rows],
        [batch.clients[row] for row in rows],
        [batch.rows[row] for row in rows],
        faults,
    )
