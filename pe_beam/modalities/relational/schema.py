"""The declared schema of two tables: columns of both, their keys, and how many children a parent has at most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.schema import RESERVED, TableSchema

MOST_CHILDREN = 100


class _Named(TableSchema):
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$", description="of the table; exports have it")
    key: str = Field(min_length=1, description="the column that names the client; it is private, and never released")

    @model_validator(mode="after")
    def _check_key(self) -> _Named:
        if self.key in self.columns:
            raise ValueError(f"key: {self.key!r} is among the columns; a key is no content, and is never released")
        return self


class ParentSchema(_Named):
    """The table with one row a client."""


class ChildSchema(_Named):
    """The table with any number of rows a client."""

    most: int = Field(
        ge=1, le=MOST_CHILDREN, description="largest number of rows of a client; of more, some are left out"
    )
    order: str | None = Field(
        None, description="the column by which a client's rows are in order; null: by all columns, the first one first"
    )
    keep: Literal["first", "last"] = Field("first", description="which rows of a client with more than most stay")

    @model_validator(mode="after")
    def _check_order(self) -> ChildSchema:
        if self.order is not None and (self.order not in self.columns or not self.columns[self.order].moves):
            raise ValueError(f"order: {self.order!r} is no declared column with an order (numbers, dates, ordinals)")
        return self

    @property
    def struct(self) -> pa.StructType:
        """The Arrow type of a row."""
        return pa.struct(list(self.payload))


class RelationalSchema(BaseModel):
    """Both tables. Constraints are of rows of one table each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: ParentSchema = Field(description="the table with one row a client")
    child: ChildSchema = Field(description="the table with any number of rows a client")

    @model_validator(mode="after")
    def _check(self) -> RelationalSchema:
        if self.parent.name == self.child.name:
            raise ValueError("child.name: the parent's name; another one is wanted")
        names = [*self.parent.columns, self.count, *self.columns_of_children]
        twice = sorted({name for name in [*names, self.child.name] if [*names, self.child.name].count(name) > 1})
        if twice or self.child.name in RESERVED:
            raise ValueError(
                f"child.name: {self.child.name!r} gives the name {(twice or [self.child.name])[0]!r} to two things; "
                "another name is wanted"
            )
        return self

    @property
    def payload(self) -> pa.Schema:
        """The Arrow fields of a record: the parent's columns, and a list of its children."""
        return self.parent.payload.append(pa.field(self.child.name, pa.list_(self.child.struct)))

    @property
    def count(self) -> str:
        """What the number of children is called among the columns."""
        return f"number of {self.child.name}"

    @property
    def columns_of_children(self) -> list[str]:
        """What the child's columns are called among the columns of both tables."""
        return [f"{self.child.name}.{name}" for name in self.child.columns]

    @property
    def parent_with_count(self) -> TableSchema:
        """The parent table with the number of children as its last column."""
        count = Column.model_validate({"type": "integer", "min": 0, "max": self.child.most})
        columns = {**self.parent.columns, self.count: count}
        return self.parent.model_copy(update={"columns": columns})


def as_schema(value: Any) -> RelationalSchema:
    """Returns the schema that a generator or an embedder was given, whatever the class of the given object is."""
    if isinstance(value, RelationalSchema):
        return value
    return RelationalSchema.model_validate(value if isinstance(value, Mapping) else value.model_dump())
