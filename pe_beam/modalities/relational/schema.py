"""The declared schema of two tables: columns of both, their keys, and how many children a parent has at most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import Constraint, check_each
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
    """Both tables. Constraints of a table are of its rows alone; those beside both are of a child and its parent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: ParentSchema = Field(description="the table with one row a client")
    child: ChildSchema = Field(description="the table with any number of rows a client")
    constraints: Annotated[tuple[Constraint, ...], NEWER] = Field(
        (),
        description="what every row of the child table obeys beside its parent's: less_or_equal, or if with then. The "
        "parent's columns have their own names, the child's are called table.column",
    )

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
        check_each(self.constraints, self._check_across)
        return self

    def _check_across(self, constraint: Constraint) -> None:
        """Raises ValueError for a constraint that a child cannot meet whatever its parent is, or that has no child."""
        columns, own = self.all_columns, set(self.columns_of_children)
        concerned = {*(constraint.less_or_equal or ()), *(constraint.when or {}), *(constraint.then or {})}
        constraint.check(columns)
        if constraint.sum:
            raise ValueError("sum is of one table, and is declared there")
        if set(constraint.then or {}) - own or (constraint.less_or_equal and len(concerned & own) != 1):
            raise ValueError(
                f"then is wanted of columns of {self.child.name}, and less_or_equal of one column of each "
                "table; what one table has to obey is declared there"
            )
        if constraint.less_or_equal:
            a, b = constraint.less_or_equal
            if a in own and columns[a].low > columns[b].low:
                raise ValueError(f"{a} is at least its min, so the min of {b} may not be below that")
            if b in own and columns[b].high < columns[a].high:
                raise ValueError(f"{b} is at most its max, so the max of {a} may not be above that")
            far = math.inf if constraint.within is None else constraint.within
            if b in own and columns[b].low > columns[a].low + far:
                raise ValueError(f"{b} is at least its min, so the min of {a} may not be so far below that")
            if a in own and columns[a].high < columns[b].high - far:
                raise ValueError(f"{a} is at most its max, so the max of {b} may not be so far above that")

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
    def all_columns(self) -> dict[str, Column]:
        """The columns of both tables: the parent's, the number of children, the child's."""
        return {
            **self.parent_with_count.columns,
            **dict(zip(self.columns_of_children, self.child.columns.values(), strict=True)),
        }

    @property
    def constraints_of_children(self) -> list[Constraint]:
        """What a child obeys, alone and beside its parent, with columns as `all_columns` names them."""
        names = dict(zip(self.child.columns, self.columns_of_children, strict=True))
        return [*(constraint.renamed(names) for constraint in self.child.constraints), *self.constraints]

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
