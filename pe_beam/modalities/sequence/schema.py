"""The declared schema of event sequences: kinds of events, bins of gaps, attributes, greatest length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pe_beam.modalities.tabular.columns import NUMBERS, Column
from pe_beam.modalities.tabular.schema import RESERVED, TableSchema

TIME, KIND, GAP, EVENTS = "time", "kind", "gap", "events"
_OWN = (*RESERVED, TIME, KIND, GAP, EVENTS, "sequence", "position", "length", "transition")
_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
MAX_KINDS = 100
MOST_EVENTS = 500
MAX_ATTRIBUTES = 20


class Gaps(BaseModel):
    """The bins of the time between an event and the one before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...] = Field(
        min_length=2,
        max_length=101,
        description="edges of the bins, from 0 on, ascending; a longer gap is in the last bin",
    )
    unit: Literal["seconds", "minutes", "hours", "days", "weeks", "number"] = Field(
        "days", description="unit of the edges; number: that of a column time of numbers"
    )

    @model_validator(mode="after")
    def _check(self) -> Gaps:
        if self.edges[0] != 0 or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges: 0 first, then ascending numbers are wanted")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bins, as records have them.

        >>> Gaps(edges=(0, 1, 7, 30)).names
        ('0-1', '1-7', '7-30')
        """
        return tuple(f"{a:g}-{b:g}" for a, b in zip(self.edges, self.edges[1:], strict=False))

    @property
    def middles(self) -> tuple[float, ...]:
        """The middle of each bin, in `unit`."""
        return tuple((a + b) / 2 for a, b in zip(self.edges, self.edges[1:], strict=False))


class SequenceSchema(BaseModel):
    """What a client's sequence of events holds. No data are read for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most: int = Field(
        ge=1, le=MOST_EVENTS, description="greatest length: events of a client; further ones are left out"
    )
    keep: Literal["first", "last"] = Field("first", description="which events stay of a client that has more")
    time: Column = Field(description="the column of the events' order: a number or a date with bounds")
    kind: Column = Field(description="the column of the kinds of events: {values: [...]}")
    gaps: Gaps = Field(description="bins of the time since the event before")
    attributes: dict[str, Column] = Field(
        default_factory=dict, max_length=MAX_ATTRIBUTES, description="further columns of an event"
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _categorical(cls, kind: Any) -> Any:
        return {"type": "categorical", **kind} if isinstance(kind, Mapping) else kind

    @model_validator(mode="after")
    def _check(self) -> SequenceSchema:
        if self.time.type not in NUMBERS or self.time.missing:
            raise ValueError(f"time: one of {', '.join(NUMBERS)} is wanted, none missing")
        if self.kind.type != "categorical" or self.kind.missing:
            raise ValueError("kind: categorical is wanted, none missing")
        if len(self.kind.choices) > MAX_KINDS:
            raise ValueError(f"kind.values: more than {MAX_KINDS}; put rare kinds together")
        if (self.gaps.unit == "number") != (self.time.type in ("integer", "float")):
            raise ValueError("gaps.unit: number is wanted for a time of numbers, and for no other")
        for name in self.attributes:
            if name in _OWN or not name.strip():
                raise ValueError(f"attributes: {name!r} is a name of our own; declare it under another name")
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """The declared kinds of events."""
        return self.kind.choices

    @property
    def event_fields(self) -> list[pa.Field]:
        """The Arrow fields of an event: kind, gap (the name of a bin; null for the first event) and attributes."""
        own = [pa.field(name, column.arrow) for name, column in self.attributes.items()]
        return [pa.field(KIND, pa.string()), pa.field(GAP, pa.string()), *own]

    @property
    def payload(self) -> pa.Schema:
        """The Arrow fields of a record: its events, in order."""
        return pa.schema([pa.field(EVENTS, pa.list_(pa.struct(self.event_fields)))])

    def rows(self) -> TableSchema:
        """Returns the schema of the rows of a file, an event each: time, kind, attributes."""
        return TableSchema(columns={TIME: self.time, KIND: self.kind, **self.attributes})

    def attribute_table(self) -> TableSchema | None:
        """Returns the schema of the attributes alone, or None if there are none."""
        return TableSchema(columns=dict(self.attributes)) if self.attributes else None

    def attribute_bins(self) -> dict[str, int]:
        """Returns gap and attributes -> number of bins; an attribute that may be missing has one more."""
        own = {name: column.marginal_bins + int(column.missing) for name, column in self.attributes.items()}
        return {GAP: len(self.gaps.names), **own}

    def gap_bins(self, steps: np.ndarray) -> np.ndarray:
        """Maps steps of the column time, float64 (n,), 0 or more, to bins of gaps, int64 (n,)."""
        own = 86_400 if self.time.type == "date" else 1
        scaled = steps * own / _SECONDS.get(self.gaps.unit, 1)
        found = np.searchsorted(np.array(self.gaps.edges), scaled, side="right") - 1
        return np.clip(found, 0, len(self.gaps.names) - 1).astype(np.int64)


def as_schema(value: Any) -> SequenceSchema:
    """Returns the schema that a generator or an embedder was given, whatever the class of the given object is."""
    if isinstance(value, SequenceSchema):
        return value
    return SequenceSchema.model_validate(value if isinstance(value, Mapping) else value.model_dump())
