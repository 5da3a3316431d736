"""Iceberg tables at one snapshot, read as the Parquet files that this snapshot lists."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, ClassVar

from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import DataError, MissingExtraError
from pe_beam.sources import files
from pe_beam.sources.roles import Roles
from pe_beam.sources.tables import TableFile, TableSource, Version

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az"}
# What PyIceberg's reader of Avro raises over bytes that are not what they should be.
_OF_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, SystemError, zlib.error)
_IO = "pe_beam.sources.iceberg_files.ReadingFileIO"


class IcebergOptions(Options):
    """Which snapshot is read, and how the table is found."""

    snapshot: int = Field(description="id of the snapshot; a table may change between two starts of a run")
    catalog: str | None = Field(
        None,
        description="a catalog of ~/.pyiceberg.yaml: data.path is namespace.table; null: it is a file of metadata",
    )


class IcebergSource(TableSource):
    """Rows of one snapshot of an Iceberg table. Delete files, and files from before a column was renamed, are refused.

    The path is a metadata file (`.../metadata/00012-....metadata.json`), or with `catalog` the name of the table.
    """

    Options: ClassVar[type[Options]] = IcebergOptions

    @classmethod
    def on_disk(cls, path: str) -> bool:
        """See Source: the path may be the name of a table in a catalog."""
        return "/" in path and super().on_disk(path)

    @classmethod
    def open(cls, request: SourceRequest) -> IcebergSource:
        """See Source."""
        options = IcebergOptions.model_validate(request.options.model_dump())
        return cls(request.path, Roles.asked(request), options, chat=request.chat)

    def __init__(self, path: str, roles: Roles, options: IcebergOptions, *, chat: bool = False) -> None:
        super().__init__(path, roles, chat=chat)
        self._catalog, self._snapshot = options.catalog, options.snapshot

    def _version(self) -> Version:
        with files.explained(self._key, self._path):
            return _version(self._path, self._catalog, self._snapshot, self._key)


@functools.lru_cache(maxsize=8)
def _version(path: str, catalog: str | None, number: int, key: str) -> Version:
    try:
        from pyiceberg.io.pyarrow import schema_to_pyarrow
    except ImportError:
        raise MissingExtraError("data.source: iceberg needs the package pyiceberg; install pe_beam[iceberg]") from None
    table = _table(path, catalog, key)
    snapshot = table.snapshot_by_id(number)
    if snapshot is None:
        raise DataError(f"data.options.snapshot: {number} is no snapshot of the table of {key}")
    schema = table.schemas()[table.metadata.current_schema_id if snapshot.schema_id is None else snapshot.schema_id]
    tasks = _tasks(table, number, key)
    if tasks is None or any(task.delete_files for task in tasks):
        raise DataError(
            f"{key}: the snapshot has delete files, so that its files have rows that are no longer there; a snapshot "
            "without them is wanted: rewrite the data files (CALL ... rewrite_data_files), or export it to Parquet"
        )
    if any(task.file.file_format.value != "PARQUET" for task in tasks):
        raise DataError(f"{key}: the snapshot has files of another format; Parquet alone is read")
    specs, found, partitioned = table.specs(), {}, set()
    for task in tasks:
        values = _identities(schema, specs[task.file.spec_id], task.file.partition)
        partitioned |= set(values)
        found[_here(task.file.file_path)] = TableFile(task.file.file_size_in_bytes, _texts(values))
    return Version(schema_to_pyarrow(schema), found, frozenset(partitioned), by_id=True)


def _table(path: str, catalog: str | None, key: str) -> Any:
    """Returns the table, by a file of metadata or by a catalog."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError, ValidationError
    from pyiceberg.table import StaticTable

    try:
        if catalog is None:
            return StaticTable.from_metadata(_here(path), {"py-io-impl": _IO})
        return load_catalog(catalog, **{"py-io-impl": _IO}).load_table(path)
    except (NoSuchTableError, FileNotFoundError):
        raise DataError(f"{key}: there is no such Iceberg table; a metadata file, or the name in a catalog") from None
    except (ValueError, ValidationError):
        where = "data.options.catalog: it is not in ~/.pyiceberg.yaml, or" if catalog else f"{key}:"
        raise DataError(f"{where} what is there is no metadata of an Iceberg table") from None


def _tasks(table: Any, number: int, key: str) -> list[Any] | None:
    """Returns the files that a snapshot lists, with their delete files; None: these are refused by PyIceberg itself."""
    try:
        return list(table.scan(snapshot_id=number).plan_files())
    except _OF_DAMAGE as error:
        if "equality deletes" in str(error):
            return None
        raise DataError(
            f"{key}: a manifest of the snapshot, or the list of them, is damaged; whole ones are wanted: put them back "
            "as they were, or name another snapshot (data.options.snapshot)"
        ) from None


def _identities(schema: Any, spec: Any, partition: Any) -> dict[str, Any]:
    """Returns the columns that a file's partition gives as they are, and their values."""
    from pyiceberg.transforms import IdentityTransform

    found = {}
    for place, part in enumerate(spec.fields):
        if isinstance(part.transform, IdentityTransform) and schema.find_column_name(part.source_id):
            found[schema.find_column_name(part.source_id)] = (schema.find_type(part.source_id), partition[place])
    return found


def _texts(values: dict[str, Any]) -> dict[str, str | None]:
    """Returns the values that have one plain text. A file has to have the other columns itself."""
    from pyiceberg import types

    found: dict[str, str | None] = {}
    for column, (kind, value) in values.items():
        if value is None:
            found[column] = None
        elif isinstance(kind, types.DateType) and isinstance(value, int):
            found[column] = str(date(1970, 1, 1) + timedelta(days=value))
        elif isinstance(kind, types.BooleanType):
            found[column] = str(value).lower()
        elif _is_one_of(kind, (types.StringType, types.IntegerType, types.LongType, types.DateType)):
            found[column] = str(value)
    return found


def _is_one_of(kind: Any, kinds: Iterable[type]) -> bool:
    return any(isinstance(kind, each) for each in kinds)


def _here(location: str) -> str:
    """Returns a location as our file layer names it: a plain path, or a URL of gs, s3 or az.

    >>> _here("file:///w/t.parquet"), _here("abfss://box@x.dfs.core.windows.net/t.parquet"), _here("s3a://b/t.parquet")
    ('/w/t.parquet', 'az://box/t.parquet', 's3://b/t.parquet')
    """
    scheme, sign, rest = location.partition("://")
    if not sign:
        return re.sub(r"^file:/*/", "/", location)
    if scheme == "file":
        return "/" + rest.lstrip("/")
    place, _, name = rest.partition("/")
    return f"{_SCHEMES.get(scheme, scheme)}://{place.partition('@')[0]}/{name}"
