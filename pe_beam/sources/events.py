"""Rows of events, read as one record a client: a patient's visits, an account's transactions."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import BATCH_ROWS, Piece, Source, SourceBatch, SourceRequest, cut
from pe_beam.errors import EmptyInputError, RecipeError
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.gathering import CLIENT, FAULT, LABEL, OWNER, SEEN, GatherClients, gathered, owned, trimmed
from pe_beam.sources.jsonl import JsonlSource
from pe_beam.sources.parquet import ParquetSource
from pe_beam.transforms.group_rows import buckets_of

READERS: Mapping[str, type[Source]] = {"csv": CsvSource, "jsonl": JsonlSource, "parquet": ParquetSource}
BUCKET_BYTES = 4 << 20
"""Bytes of files whose clients are gathered together. It is part of the format: another value cuts other shards."""


class EventsOptions(Options):
    """What kind of files the rows lie in."""

    rows: Literal["csv", "jsonl", "parquet"] = Field(
        "parquet", description="kind of the files at data.path; a row is an event", json_schema_extra={"public": True}
    )


class EventsSource(Source):
    """Clients with all their rows, whatever files and order these lie in. A row names its client in the column client.

    Clients are gathered in buckets by a digest of their ids. A job gathers them by a shuffle, so that a worker has one
    bucket in memory. `read` without that reads all rows once for each bucket.

    A client is a reject if one of its rows cannot be read or its rows have different labels. A row without a client id
    is a reject of its own.
    """

    Options: ClassVar[type[Options]] = EventsOptions
    gathers = True
    takes = frozenset({"columns", "client", "separator"})  # not never_stop: a damaged file loses rows of its clients

    @classmethod
    def open(cls, request: SourceRequest) -> EventsSource:
        """See Source."""
        content = request.content
        if not isinstance(content, ClientContent):
            raise RecipeError("data.source: events is for modality sequence, whose records are clients with their rows")
        options = EventsOptions.model_validate(request.options.model_dump())
        reader = READERS[options.rows]
        asked = replace(request, content=content.rows, client=True, options=reader.Options(), records=None)
        return cls(content, reader.open(asked), request.records, request.key)

    def __init__(self, content: ClientContent, rows: Source, records: pa.Table | None, key: str) -> None:
        self._content, self._rows, self._records, self._key = content, rows, records, key
        self._held: tuple[str, pa.Table] | None = None

    def transform(self) -> Any:
        """See Source."""
        return GatherClients(self._content, self._rows, self._buckets())

    def listed(self) -> list[tuple[str, int]]:
        """See Source."""
        return self._rows.listed()

    def pieces(self) -> list[Piece]:
        """See Source. It reads all rows once to count the clients."""
        names = self._buckets()
        owners: list[set[str]] = [set() for _ in names]
        for table in self._read_all():
            places = buckets_of(table[OWNER], len(names))
            for owner, bucket in zip(table[OWNER].to_pylist(), places.tolist(), strict=True):
                owners[bucket].add(owner)
        found = [
            Piece(name, int.from_bytes(hashlib.sha256(name.encode()).digest()[:16]), start, stop)
            for name, members in zip(names, owners, strict=True)
            for start, stop in cut(len(members))
        ]
        self.check_pieces(found)
        return found

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: there are no rows of events; one at least is wanted")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        table = self._table(piece)
        for start in range(0, len(table), BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS).combine_chunks()
            found = part[FAULT].to_pylist()
            yield SourceBatch(
                part.select(self._content.payload.names),
                part[LABEL].to_pylist(),
                part[CLIENT].to_pylist(),
                part[OWNER].to_pylist(),
                {row: Fault(*fault) for row, fault in enumerate(found) if fault is not None},
                frozenset(fact for facts in part[SEEN].to_pylist() for fact in facts or ()),
            )

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the records of the piece, which the order of rows does not change."""
        total = hashlib.sha256(b"pe_beam events 1\0" + piece.file.encode())
        for record in self._table(piece).select([*self._content.payload.names, CLIENT, LABEL, FAULT]).to_pylist():
            raw = json.dumps(list(record.values()), default=str).encode()
            total.update(struct.pack(">Q", len(raw)) + raw)
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._rows.refuse(seen)

    def _buckets(self) -> list[str]:
        """Returns the name of each bucket. It uses only listings."""
        size = sum({part.file: max(part.size, 0) for part in self._rows.files()}.values())
        count = max(1, -(-size // BUCKET_BYTES))
        return [f"clients {bucket} of {count}" for bucket in range(count)]

    def _read_all(self) -> Iterator[pa.Table]:
        for piece in self._rows.pieces():
            for batch in self._rows.read(piece):
                yield owned(batch)

    def _table(self, piece: Piece) -> pa.Table:
        """Returns the records of a piece: those that were given, or gathered from all rows."""
        if self._records is not None:
            return self._records
        if self._held is None or self._held[0] != piece.file:
            self._held = (piece.file, self._gathered(piece.file))
        return self._held[1].slice(piece.start, piece.stop - piece.start)

    def _gathered(self, name: str) -> pa.Table:
        bucket, count = (int(word) for word in name.split()[1::2])
        mine = []
        for table in self._read_all():
            places = buckets_of(table[OWNER], count)
            mine.append(trimmed(self._content, table.filter(pa.array(places == bucket))))
        return gathered(self._content, pa.concat_tables(mine))
