"""What sources of versioned tables share: the Parquet files that a version lists, and the columns that it declares."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pe_beam.contracts.source import FilePart
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.sources import files
from pe_beam.sources.layout import Layout, paths_of
from pe_beam.sources.parquet import ParquetSource

FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class TableFile:
    """A data file of a table.

    Attributes:
      size: bytes.
      values: partition column -> its value in all rows of the file, as text; None: the value is missing.
    """

    size: int
    values: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """One version of a table.

    Attributes:
      schema: its columns, partition columns included.
      files: path or URL -> the file.
      partitioned: the partition columns. A file that has no such column has its value in `TableFile.values`.
      by_id: whether columns are told apart by field ids, so that a file may have one under another name.
    """

    schema: pa.Schema
    files: Mapping[str, TableFile]
    partitioned: frozenset[str] = frozenset()
    by_id: bool = False


class TableSource(ParquetSource):
    """Rows of one version of a table, in its Parquet files, sorted by the bytes of their paths.

    Partition columns have the values that the table declares, whatever folders are called. A column that the table has
    and an older file has not is null. Columns that a file has under another name are refused.
    """

    takes = ParquetSource.takes - {"members"}  # which rows came when is the table's own history

    @abc.abstractmethod
    def _version(self) -> Version:
        """Returns the version that the recipe names. A process reads it once.

        Raises:
          DataError: it is not there, or it cannot be read as plain Parquet.
        """

    def files(self) -> list[FilePart]:
        """See Source."""
        found = sorted(self._version().files.items(), key=lambda pair: files.sort_key(pair[0]))
        if not found:
            raise EmptyInputError(f"{self._key}: that version of the table at {self._path} has no rows")
        return [FilePart(file, index, size=about.size) for index, (file, about) in enumerate(found)]

    def _given(self, file: str) -> dict[str, str | None]:
        version = self._version()
        about = version.files.get(file)
        if about is None:
            raise DataError(f"{self._key}: the table is not what it was when it was listed")
        given: dict[str, str | None] = {}
        for column in self._roles.columns():
            if column in about.values:
                given[column] = about.values[column]
            elif column not in version.partitioned and paths_of(column, version.schema):
                given[column] = None
        return given

    def _layout(self, schema: pa.Schema, file: str) -> Layout:
        version = self._version()
        for role, columns in self._roles.by_role().items():
            for column in columns:
                if not paths_of(column, version.schema):
                    raise DataError(
                        f"data.columns.{role}: {column!r}: no column of that name in the table of {self._key}"
                    )
                if version.by_id and not _is_same(column, version.schema, schema):
                    raise DataError(
                        f"data.columns.{role}: {column!r}: a file of {self._key} has that column under another name, "
                        "or another column under that name; columns that were never renamed are wanted: rewrite the "
                        "data files"
                    )
        return super()._layout(schema, file)


def _is_same(column: str, table: pa.Schema, file: pa.Schema) -> bool:
    """Returns whether a column of a file is that of the table, by the ids of its fields."""
    wanted = _ids(table, paths_of(column, table)[0])
    paths = paths_of(column, file)
    if paths:
        return _ids(file, paths[0]) == wanted
    return wanted[-1] not in _every_id(file)


def _ids(schema: pa.Schema, path: tuple[int, ...]) -> list[bytes | None]:
    at = schema.field(path[0])
    found = [_id(at)]
    for place in path[1:]:
        at = at.type.field(place)
        found.append(_id(at))
    return found


def _every_id(fields: pa.Schema | pa.StructType) -> set[bytes | None]:
    found: set[bytes | None] = set()
    every = [fields.field(i) for i in range(len(fields.names))] if isinstance(fields, pa.Schema) else list(fields)
    for at in every:
        found.add(_id(at))
        if pa.types.is_struct(at.type):
            found |= _every_id(at.type)
    return found - {None}


def _id(at: pa.Field) -> bytes | None:
    found: bytes | None = (at.metadata or {}).get(FIELD_ID)
    return found
