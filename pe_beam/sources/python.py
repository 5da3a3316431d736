"""Records of a Beam pipeline of the user's own: any transform that yields Arrow batches."""

from __future__ import annotations

import hashlib
import importlib
import json
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.source import BATCH_BYTES, BATCH_ROWS, ROW, SOURCE, Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import DataError, RecipeError
from pe_beam.sources.layout import Layout
from pe_beam.sources.roles import Roles


class PythonOptions(Options):
    """What the function is called with."""

    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")


class PythonSource(Source):
    """Records that `package.module:function` yields. The function returns a transform of a pipeline's root.

    Its elements are Arrow RecordBatches with the columns that `data.columns` names, and besides `source` (text) and
    `row` (whole numbers from 0 on), which together name a record. A shard is `SHARD_ROWS` rows of one source, so that
    neither bundles nor workers change it. All records of a shard are in memory at once.

    Records are read by ingest, again by a resume, which compares their digests, and by an evaluation.
    """

    Options: ClassVar[type[Options]] = PythonOptions
    takes = frozenset({"columns", "client"})  # not never_stop: a record may stop the user's own code

    @classmethod
    def on_disk(cls, path: str) -> bool:
        """See Source: the path is a name."""
        return False

    @classmethod
    def open(cls, request: SourceRequest) -> PythonSource:
        """See Source."""
        module, sign, function = request.path.partition(":")
        if not sign or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
            raise RecipeError(f"{request.key}: package.module:function is wanted for source python")
        options = PythonOptions.model_validate(request.options.model_dump())
        return cls(request.path, Roles.asked(request), options, request.records)

    def __init__(self, path: str, roles: Roles, options: PythonOptions, records: pa.Table | None) -> None:
        self._path = path
        self._roles = roles
        self._key = roles.key
        self._arguments = options.arguments
        self._records = records

    def transform(self, opened: Callable[[], Source]) -> Any:
        """See Source.

        Raises:
          RecipeError: the function cannot be imported or called, raises, or returns no transform.
        """
        from apache_beam import PTransform

        name, _, function = self._path.partition(":")
        try:
            found: Any = importlib.import_module(name)
            for part in function.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise RecipeError(f"{self._key}: {self._path} cannot be imported ({type(error).__name__})") from None
        try:
            made = found(**self._arguments)
        except TypeError as error:
            raise RecipeError(f"data.options.arguments: {self._path} does not take them ({error})") from None
        except Exception as error:  # its text may hold what it has read
            raise RecipeError(f"{self._key}: {self._path} raised {type(error).__name__} when it was called") from None
        if not isinstance(made, PTransform):
            raise RecipeError(f"{self._key}: {self._path} returns no PTransform; a transform of a root is wanted")
        return made

    def pieces(self) -> list[Piece]:
        """Raises DataError: the records are cut where they arrive."""
        raise DataError(f"{self._key}: records of source python are cut where they arrive, which is in a job alone")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        table = self._table()
        layout = Layout(table.schema, self._roles.columns(), {}, chat=False)
        self._roles.check(layout.schema())
        size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, table.nbytes // max(1, len(table)))))
        for start in range(0, len(table), size):
            part = table.slice(start, size).combine_chunks()
            (batch,) = part.to_batches() or [pa.RecordBatch.from_pylist([], schema=part.schema)]
            values, faults = layout.table(batch)
            yield self._roles.batch(values, [f"{piece.file}:{row}" for row in batch[ROW].to_pylist()], faults)

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over the source, and the row and the wanted columns of each record."""
        table = self._table()
        total = hashlib.sha256(b"pe_beam python 1\0" + piece.file.encode("utf-8", "backslashreplace"))
        for row in table[ROW].to_pylist():
            total.update(struct.pack(">q", row))
        for name in sorted({name.partition(".")[0] for name in self._roles.columns()} | set(self._roles.columns())):
            if name in table.column_names and name not in (SOURCE, ROW):
                total.update(f"\0{name}\0{table[name].type}\0".encode())
                for value in table[name].to_pylist():
                    raw = (
                        value if isinstance(value, bytes) else json.dumps(value, default=repr, sort_keys=True).encode()
                    )
                    total.update(struct.pack(">Q", len(raw)) + raw)
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._roles.refuse(seen)

    def _table(self) -> pa.Table:
        if self._records is None:
            self.pieces()
        return self._records
