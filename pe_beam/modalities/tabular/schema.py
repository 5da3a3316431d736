"""The declared schema of a table: types, bounds, categories, missing values, constraints. No data are read for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.modalities.tabular.columns import NUMBERS, Column
from pe_beam.modalities.tabular.constraints import Constraint, check_each
from pe_beam.modalities.tabular.forms import EPOCHS, DateFormat, Forms, check_numbers, check_words

RESERVED = ("candidate_id", "parent_id", "label", "origin", "state", "client", "noisy_votes", "iteration")
"""Names of our own columns and roles. A column of the schema may not have such a name; a column of a file may."""
MAX_COLUMNS = 2000


class _Table(BaseModel):
    """What a table holds. A base of its own, so that these keys come before those of `Forms`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, Column] = Field(min_length=1, description="name -> type, bounds, categories")
    bins: int | None = Field(None, ge=1, le=10_000, description="bins of measured marginals where a column says none")
    constraints: tuple[Constraint, ...] = Field((), description="what every candidate obeys")
    date_format: Annotated[str | None, NEWER] = Field(None, description="`format` of date columns that say none")
    datetime_format: Annotated[str | None, NEWER] = Field(
        None, description="`format` of datetime columns that say none"
    )


class TableSchema(Forms, _Table):
    """All columns but label and client, in the order in which they are released, and what candidates have to obey.

    Forms of texts (`nulls` and those after it) are for all columns that they fit and that do not say their own.
    """

    @field_validator("columns", mode="before")
    @classmethod
    def _few(cls, columns: Any) -> Any:
        """Counts columns before they are validated, because a million would take minutes and gigabytes."""
        if isinstance(columns, Mapping) and len(columns) > MAX_COLUMNS:
            raise ValueError(f"more than {MAX_COLUMNS}; declare those that matter")
        return columns

    @model_validator(mode="after")
    def _check(self) -> TableSchema:
        for name in self.columns:
            if name in RESERVED or not name.strip():
                raise ValueError(
                    f"columns: {name!r} is the name of a column of our own; declare it under another name and say "
                    "in data.columns which column it is"
                )
        check_each(self.constraints, lambda constraint: constraint.check(self.columns))
        if self.bins is not None:
            own = {name: column for name, column in self.columns.items() if column.type in NUMBERS}
            cut = {name: column.model_copy(update={"bins": column.bins or self.bins}) for name, column in own.items()}
            object.__setattr__(self, "columns", self.columns | cut)
        check_numbers(self)
        check_words(self)
        for key, value in (("date_format", self.date_format), ("datetime_format", self.datetime_format)):
            if value is not None and value not in EPOCHS:
                try:
                    DateFormat.of(value)
                except ValueError as error:
                    raise ValueError(f"{key}: {str(error).removeprefix('format: ')}") from None
        object.__setattr__(self, "columns", {name: self._inherited(name) for name in self.columns})
        return self

    def _inherited(self, name: str) -> Column:
        try:
            formats = {"date": self.date_format, "datetime": self.datetime_format}
            return self.columns[name].inheriting(self, formats)
        except ValueError as error:
            raise ValueError(f"columns.{name}: with what the table declares, {error}") from None

    @property
    def payload(self) -> pa.Schema:
        """The Arrow fields of a record."""
        return pa.schema([pa.field(name, column.arrow) for name, column in self.columns.items()])


def as_schema(value: Any) -> TableSchema:
    """Returns the schema that a generator or an embedder was given, whatever the class of the given object is."""
    if isinstance(value, TableSchema):
        return value
    return TableSchema.model_validate(value if isinstance(value, Mapping) else value.model_dump())
