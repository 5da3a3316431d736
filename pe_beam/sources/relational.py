"""Two tables, parents and their children, read as one record a client: its parent row with all its child rows."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from pe_beam.contracts.families import FamilyContent
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import BATCH_ROWS, ROW, SOURCE, FilePart, Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.sources.csv_files import CsvSource
from pe_beam.sources.joined import CHILDREN, CLIENT, FAULT, LABEL, PARENT, SEEN, keys_of
from pe_beam.sources.jsonl import JsonlSource
from pe_beam.sources.parquet import ParquetSource
from pe_beam.sources.roles import client_facts

READERS: Mapping[str, type[Source]] = {"csv": CsvSource, "jsonl": JsonlSource, "parquet": ParquetSource}


class TableOptions(BaseModel):
    """One of the two tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["csv", "jsonl", "parquet"] = Field(description="what kind of files they are")
    file: str = Field(min_length=1, description="its file, a folder of files or a glob, below data.path")
    columns: dict[str, str] = Field(default_factory=dict, description="column of the schema -> column of the file")


class RelationalOptions(Options):
    """Where the two tables lie. Keys, order and the largest number of children are declared in data.schema."""

    parent: TableOptions = Field(description="the table with one row a client")
    child: TableOptions = Field(description="the table with any number of rows a client")


class RelationalSource(Source):
    """Clients of two tables that share a key: a row of the parent table, and the rows of the child table with its key.

    The tables are joined by a shuffle on the workers, so that memory grows with the largest number of kept rows of one
    client and not with the data. Of a client with more children than declared, the first or last in their order stay.
    Which ones follows from this client's rows alone.

    A client is a reject if its key comes twice in the parent table or not at all, or if one of its rows cannot be
    read. A row without a key is a reject of its own.
    """

    Options: ClassVar[type[Options]] = RelationalOptions
    takes = frozenset({"columns", "client", "separator"})  # not never_stop, which none of its readers of rows promises
    gathers = True

    @classmethod
    def open(cls, request: SourceRequest) -> RelationalSource:
        """See Source."""
        content = request.content
        if not isinstance(content, FamilyContent):
            raise RecipeError("data.source: relational is for modality relational, whose records have children")
        options = RelationalOptions.model_validate(request.options.model_dump())
        wrong = sorted(set(request.columns) - {LABEL})
        if wrong:
            raise RecipeError(
                f"data.columns: {wrong[0]!r} is not wanted with source relational; allowed: label. Other columns are "
                "named in data.options.parent.columns and data.options.child.columns"
            )
        parent = _table(request, "parent", options.parent, {**request.columns, CLIENT: content.parent_key})
        child = _table(request, "child", options.child, {CLIENT: content.child_key})
        return cls(content, (parent, child), request)

    def __init__(self, content: FamilyContent, tables: tuple[Source, Source], request: SourceRequest) -> None:
        """Takes the content of the families, the parent and the child table, and what was asked."""
        self._content, self._tables = content, tables
        self._path, self._records, self._key = request.path, request.records, request.key

    def transform(self) -> Any:
        """See Source."""
        from pe_beam.sources.joining import JoinTables

        return JoinTables(self._content, *self._tables, below=self._path)

    def files(self) -> list[FilePart]:
        """See Source. The tables are joined as a whole; files are listed where they are read."""
        for table in self._tables:
            table.files()
        return super().files()

    def check_pieces(self, pieces: Sequence[Piece]) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._key}: the tables there have no rows; one at least is wanted")

    def pieces(self) -> list[Piece]:
        """Raises DataError: the records are cut where they are joined."""
        raise DataError(f"{self._key}: tables of source relational are joined by a job; they cannot be cut apart")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        table = self._joined()
        for start in range(0, len(table), BATCH_ROWS):
            yield self._batch(table.slice(start, BATCH_ROWS))

    def _batch(self, table: pa.Table) -> SourceBatch:
        clients, found = table[CLIENT].to_pylist(), table[FAULT].to_pylist()
        faults = {row: Fault(*fault) for row, fault in enumerate(found) if fault is not None}
        seen = {fact for facts in table[SEEN].to_pylist() for fact in facts}
        return SourceBatch(
            self._content.unpack(table[PARENT].to_pylist(), table[CHILDREN].to_pylist()),
            table[LABEL].to_pylist(),
            clients,
            [f"{source}:{row}" for source, row in zip(table[SOURCE].to_pylist(), table[ROW].to_pylist(), strict=True)],
            faults,
            frozenset(seen) | frozenset(client_facts(clients)),
        )

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the joined records of the piece."""
        total = hashlib.sha256(b"pe_beam relational 1\0" + piece.file.encode("utf-8", "backslashreplace"))
        for row in self._joined().drop_columns([SOURCE, SEEN]).to_pylist():
            for value in _flat(row):
                raw = b"-" if value is None else b"+" + value
                total.update(struct.pack(">Q", len(raw)) + raw)
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        with keys_of("child"):
            self._tables[0].refuse(seen)

    def _joined(self) -> pa.Table:
        if self._records is None:
            self.pieces()
        return self._records


def _flat(row: Mapping[str, Any]) -> Iterator[bytes | None]:
    """Yields the values of a joined record as bytes, with the number of values before each list."""
    for name in (ROW, LABEL, CLIENT, PARENT, CHILDREN, FAULT):
        value = row[name]
        several = value if isinstance(value, list) else [value]
        yield struct.pack(">Q", len(several)) if isinstance(value, list) else b"one"
        for each in several:
            if isinstance(each, int):
                yield struct.pack(">q", each)
            else:
                yield each.encode("utf-8", "backslashreplace") if isinstance(each, str) else each


def _table(
    request: SourceRequest, name: str, options: TableOptions, columns: Mapping[str, str | Sequence[str]]
) -> Source:
    """Opens one of the two tables. Its client ids are its keys; only the parent has labels.

    Args:
      request: of both tables together.
      name: parent or child.
      options: of this table.
      columns: the roles client, and label if the recipe names its columns.
    """
    content = request.content
    assert isinstance(content, FamilyContent)
    labelled = request.labelled and name == "parent"
    asked = SourceRequest(
        path=f"{request.path.rstrip('/')}/{options.file}",
        content=getattr(content, name),
        columns={**options.columns, **columns},
        labelled=labelled,
        client=True,
        key=f"data.options.{name}.file",
        labels=request.labels if labelled else None,
        separator=request.separator,
    )
    with keys_of(name):
        return READERS[options.source].open(asked)
