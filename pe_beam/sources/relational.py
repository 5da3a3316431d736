"""Two tables, parents and their children, read as one record a client: its parent row with all its child rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.options import Options
from pe_beam.contracts.source import Source, SourceRequest
from pe_beam.errors import PeBeamError, RecipeError
from pe_beam.sources.clients import READERS, ClientSource

_NAMES = ("parent", "child")


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


class RelationalSource(ClientSource):
    """Clients of two tables that share a key: a row of the parent table, and the rows of the child table with its key.

    Of a client with more children than declared, the first or last in their order stay. A client is a reject if its
    key comes twice in the parent table or not at all.
    """

    Options: ClassVar[type[Options]] = RelationalOptions
    in_buckets = False

    @classmethod
    def open(cls, request: SourceRequest) -> RelationalSource:
        """See Source."""
        content = request.content
        if not isinstance(content, ClientContent) or tuple(content.tables) != _NAMES:
            raise RecipeError("data.source: relational is for modality relational, whose records have children")
        options = RelationalOptions.model_validate(request.options.model_dump())
        wrong = sorted(set(request.columns) - {"label"})
        if wrong:
            raise RecipeError(
                f"data.columns: {wrong[0]!r} is not wanted with source relational; allowed: label. Other columns are "
                "named in data.options.parent.columns and data.options.child.columns"
            )
        tables = {name: _table(request, content, name, getattr(options, name)) for name in _NAMES}
        return cls(content, tables, request, below=request.path)

    @contextlib.contextmanager
    def keys_of(self, table: str) -> Iterator[None]:
        """See ClientSource."""
        with _keys_of(table):
            yield


@contextlib.contextmanager
def _keys_of(table: str) -> Iterator[None]:
    """Names the recipe's keys of a table. Raises PeBeamError as it was raised inside, with those keys."""
    try:
        yield
    except PeBeamError as error:
        told = str(error).replace("data.columns.client", f"data.schema.{table}.key")
        raise type(error)(told.replace("data.columns", f"data.options.{table}.columns")) from None


def _table(request: SourceRequest, content: ClientContent, name: str, options: TableOptions) -> Source:
    """Opens one of the two tables. Its client ids are its keys; only the parent has labels."""
    table, labelled = content.tables[name], request.labelled and name == "parent"
    assert table.client is not None
    for role in sorted({"client", "label"} & set(options.columns)):
        instead = f"data.schema.{name}.key" if role == "client" else "data.columns.label"
        raise RecipeError(f"data.options.{name}.columns: {role!r} is not wanted there; {instead} names its column")
    label = {"label": request.columns["label"]} if name == "parent" and "label" in request.columns else {}
    asked = SourceRequest(
        path=f"{request.path.rstrip('/')}/{options.file}",
        content=table.rows,
        columns={**options.columns, **label, "client": table.client},
        labelled=labelled,
        client=True,
        key=f"data.options.{name}.file" if request.key == "data.path" else f"{request.key}: data.options.{name}.file",
        labels=request.labels if labelled else None,
        separator=request.separator,
        encoding=request.encoding,
    )
    with _keys_of(name):
        return READERS[options.source].open(asked)
