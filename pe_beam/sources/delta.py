"""Delta Lake tables at one version, read as the Parquet files that this version lists."""

from __future__ import annotations

import functools
import os
from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import DataError, MissingExtraError
from pe_beam.sources import files
from pe_beam.sources.roles import Roles
from pe_beam.sources.tables import TableFile, TableSource, Version

_PLAIN = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "variantType"})
"""Features of a table that leave its files plain Parquet."""
_HTTP = ("AWS_ENDPOINT_URL", "AZURE_STORAGE_ENDPOINT")


class DeltaOptions(Options):
    """Which version is read."""

    version: int = Field(ge=0, description="version of the table; a table may change between two starts of a run")


class DeltaSource(TableSource):
    """Rows of one version of a Delta Lake table. Tables with deletion vectors or column mapping are refused."""

    Options: ClassVar[type[Options]] = DeltaOptions

    @classmethod
    def open(cls, request: SourceRequest) -> DeltaSource:
        """See Source."""
        options = DeltaOptions.model_validate(request.options.model_dump())
        return cls(request.path, Roles.asked(request), options.version, chat=request.chat)

    def __init__(self, path: str, roles: Roles, number: int, *, chat: bool = False) -> None:
        super().__init__(path.rstrip("/") or "/", roles, chat=chat)
        self._number = number

    def _version(self) -> Version:
        with files.explained(self._key, self._path):
            return _version(self._path, self._number, self._key)


@functools.lru_cache(maxsize=8)
def _version(path: str, number: int, key: str) -> Version:
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError:
        raise MissingExtraError("data.source: delta needs the package deltalake; install pe_beam[delta]") from None
    http = any(os.environ.get(name, "").startswith("http://") for name in _HTTP)
    try:
        table = DeltaTable(path, version=number, storage_options={"allow_http": "true"} if http else None)
        # Not the message: it names files.
    except (DeltaError, OSError, ValueError):
        raise DataError(
            f"{key}: there is no Delta table, or not its version {number} (data.options.version), or it cannot be read"
        ) from None
    features = set(table.protocol().reader_features or ()) - _PLAIN
    mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    if features or mapped or table.protocol().min_reader_version == 2:
        named = ", ".join(sorted(features)) or "columnMapping"
        raise DataError(
            f"{key}: the table has features by which its files are more than plain Parquet ({named}); a table without "
            "them is wanted: drop the features (ALTER TABLE ... DROP FEATURE), or export the version to Parquet"
        )
    return Version(
        pa.schema(table.schema().to_arrow()),
        _files(path, pa.table(table.get_add_actions(flatten=False))),
        frozenset(table.metadata().partition_columns),
    )


def _files(root: str, actions: pa.Table) -> dict[str, TableFile]:
    """Returns the files that a version lists. Paths are relative and percent-encoded, or whole URLs."""
    names = actions.schema.names
    partition = actions["partition"].combine_chunks() if "partition" in names else None
    values: dict[str, list[str | None]] = {}
    for at in partition.type if partition is not None else ():
        values[at.name] = pc.struct_field(partition, [at.name]).cast(pa.string()).to_pylist()
    found = {}
    for row, (path, size) in enumerate(
        zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True)
    ):
        name = unquote(path)
        whole = name if "://" in name or name.startswith("/") else f"{root.rstrip('/')}/{name}"
        found[whole] = TableFile(size, {column: texts[row] for column, texts in values.items()})
    return found
