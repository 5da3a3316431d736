"""Sources whose records are clients with all their rows, and the transform that gathers these by a shuffle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pe_beam.contracts import cutting
from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import (
    BATCH_ROWS,
    ROW,
    SOURCE,
    FileCut,
    FilePart,
    Piece,
    Source,
    SourceBatch,
    SourceRequest,
)
from pe_beam.errors import DataError
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.gathering import (
    CLIENT,
    FAULT,
    FILE,
    LABEL,
    NUMBER,
    OWNER,
    PAYLOAD,
    SEEN,
    WHERE,
    gathered,
    owned,
    prefix_of,
    trimmed,
)
from pe_beam.sources.jsonl import JsonlSource
from pe_beam.sources.parquet import ParquetSource
from pe_beam.transforms.group_rows import GroupRows
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.spread import Spread

READERS: Mapping[str, type[Source]] = {"csv": CsvSource, "jsonl": JsonlSource, "parquet": ParquetSource}
BUCKET_BYTES = 4 << 20
"""Bytes of files whose clients are gathered together. It is part of the format of `events`: another value cuts other
shards."""


class ClientSource(Source):
    """Clients with all their rows of one or several tables, whatever files and order these lie in.

    A job gathers them by a shuffle, in buckets by a digest of the clients' ids, so that a worker has one bucket in
    memory. Each table is read once.

    A client is a reject as a whole if one of its rows cannot be read, or if they make no record together. A row whose
    client cannot be known is a reject of its own.
    """

    gathers = True
    takes = frozenset({"columns", "client", "separator", "encoding"})
    # Not never_stop: a damaged file loses rows of its clients.
    in_buckets: ClassVar[bool] = True
    """Whether records lie in shards bucket by bucket, or else where the first row of each client lies."""

    def __init__(
        self, content: ClientContent, tables: Mapping[str, Source], request: SourceRequest, *, below: str
    ) -> None:
        """Takes what makes records, the tables by name, what was asked, and the folder that holds all files."""
        self.content, self.tables = content, tables
        self._below, self._records, self._key = below, request.records, request.key

    @contextlib.contextmanager
    def keys_of(self, table: str) -> Iterator[None]:
        """Names the recipe's keys of a table, where a source of single tables names its own."""
        yield

    def transform(self, opened: Callable[[], Source]) -> Any:
        """See Source."""
        sizes = {part.file: max(part.size, 0) for part in self.files()}
        return GatherClients(opened, buckets=max(1, -(-sum(sizes.values()) // BUCKET_BYTES)))

    def files(self) -> list[FilePart]:
        """See Source."""
        found = []
        for name, table in self.tables.items():
            with self.keys_of(name):
                found += table.files()
        return found

    def pieces(self) -> list[Piece]:
        """Raises DataError: the records are cut where they are gathered."""
        raise DataError(f"{self._key}: clients are gathered by a job; they cannot be cut apart")

    def rows(self, name: str, piece: Piece) -> pa.Table:
        """Returns the rows of a piece of a table that can matter, with the columns of our own."""
        found = [owned(self.content, name, batch, self._below) for batch in self.tables[name].read(piece)]
        return trimmed(self.content, pa.concat_tables(found))

    def gathered(self, rows: pa.Table, bucket: str) -> pa.RecordBatch:
        """Returns the records of all rows of a bucket, with the columns `SOURCE` and `ROW`."""
        found = gathered(self.content, rows)
        first = (pa.array([bucket] * len(found)), pa.array(np.arange(len(found)))) if self.in_buckets else None
        source, row = first or (found[FILE], found[NUMBER])
        found = found.drop_columns([FILE, NUMBER]).append_column(SOURCE, source).append_column(ROW, row)
        [batch] = found.combine_chunks().to_batches()
        return batch

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        table = self._records_of_piece()
        for start in range(0, len(table), BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS).combine_chunks()
            found = part[FAULT].to_pylist()
            yield SourceBatch(
                pa.table(part[PAYLOAD].combine_chunks().flatten(), schema=self.content.payload),
                part[LABEL].to_pylist(),
                part[CLIENT].to_pylist(),
                part[WHERE].to_pylist(),
                {row: Fault(*fault) for row, fault in enumerate(found) if fault is not None},
                frozenset(fact for facts in part[SEEN].to_pylist() for fact in facts or ()),
            )

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the records of the piece, which the order of rows in their files does not change."""
        total = hashlib.sha256(b"pe_beam clients 1\0" + piece.file.encode("utf-8", "backslashreplace"))
        for record in self._records_of_piece().select([PAYLOAD, CLIENT, LABEL, FAULT]).to_pylist():
            raw = json.dumps(list(record.values()), default=str).encode()
            total.update(struct.pack(">Q", len(raw)) + raw)
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source. Ids of clients are compared over all tables."""
        every: set[str] = set()
        for name, table in self.tables.items():
            prefix = prefix_of(self.content, name)
            own = {fact.removeprefix(prefix) for fact in seen if fact.startswith(prefix)}
            every |= own
            with self.keys_of(name):
                table.refuse(own)
                table.refuse(every)

    def _records_of_piece(self) -> pa.Table:
        if self._records is None:
            self.pieces()
        return self._records


class GatherClients(beam.PTransform):
    """A pipeline's root -> `PCollection[pa.RecordBatch]`: one record a client, with the columns `SOURCE` and `ROW`.

    `--client_shuffle_key` encrypts rows and their clients where they are shuffled.

    Args:
      opened: opens the `ClientSource` on a worker. The graph holds no more of it.
      buckets: number of buckets.
    """

    def __init__(self, opened: Callable[[], Source], *, buckets: int) -> None:
        super().__init__()
        self._opened, self._buckets = opened, buckets

    def expand(self, root: Any) -> beam.PCollection:  # noqa: D102
        return (
            root
            | "Start" >> beam.Create([0])
            | "ListFiles" >> beam.ParDo(_ListFilesFn(self._opened))  # (table, parts of files)
            | "SpreadFiles" >> Spread()
            | "CutFiles" >> beam.ParDo(_CutFilesFn(self._opened))  # ((table, file), cut of a part)
            | "GatherCuts" >> beam.GroupByKey()
            | "JoinCuts" >> beam.ParDo(_JoinCutsFn(self._opened))  # (table, piece)
            | "SpreadPieces" >> Spread()
            | "ReadRows" >> beam.ParDo(_ReadRowsFn(self._opened))
            | "GroupRows" >> GroupRows(OWNER, buckets=self._buckets)
            | "GatherRows" >> beam.ParDo(_GatherRowsFn(self._opened, self._buckets))
        )


class _ClientFn(PlainFn):
    def __init__(self, opened: Callable[[], Source]) -> None:
        self._opened = opened
        self._source: ClientSource | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}

    def source(self) -> ClientSource:
        if self._source is None:
            found = self._opened()
            assert isinstance(found, ClientSource)
            self._source = found
        return self._source

    @contextlib.contextmanager
    def guarded(self, stage: str, table: str) -> Iterator[ClientSource]:
        """Gives the source for work on a table, whose errors name its keys and nothing private."""
        with guarded(None, stage), self.source().keys_of(table):
            yield self.source()


class _ListFilesFn(_ClientFn):
    def process(self, _: int) -> Iterator[tuple[str, tuple[FilePart, ...]]]:
        with guarded(None, "ListFiles"):
            names = list(self.source().tables)
        for name in names:
            with self.guarded("ListFiles", name) as source:
                groups = cutting.group_parts(source.tables[name].files())
            for group in groups:
                yield name, group


class _CutFilesFn(_ClientFn):
    def process(self, named: tuple[str, tuple[FilePart, ...]]) -> Iterator[tuple[tuple[str, int], FileCut]]:
        name, parts = named
        with self.guarded("CutFiles", name) as source:
            cuts = cutting.cut_parts(source.tables[name], parts)
        for cut in cuts:
            yield (name, cut.part.file_index), cut


class _JoinCutsFn(_ClientFn):
    def process(self, keyed: tuple[tuple[str, int], Iterable[FileCut]]) -> Iterator[tuple[str, Piece]]:
        (name, _), cuts = keyed
        with self.guarded("JoinCuts", name) as source:
            pieces = cutting.join_file(source.tables[name], cuts)
        for piece in pieces:
            yield name, piece


class _ReadRowsFn(_ClientFn):
    def process(self, named: tuple[str, Piece]) -> Iterator[pa.Table]:
        name, piece = named
        with self.guarded("ReadRows", name) as source:
            rows = source.rows(name, piece)
        yield rows


class _GatherRowsFn(_ClientFn):
    def __init__(self, opened: Callable[[], Source], buckets: int) -> None:
        super().__init__(opened)
        self._buckets = buckets

    def process(self, keyed: tuple[int, pa.Table]) -> Iterator[pa.RecordBatch]:
        with guarded(None, "GatherRows"):
            batch = self.source().gathered(keyed[1], f"clients {keyed[0]} of {self._buckets}")
        yield batch
