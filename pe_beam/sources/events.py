"""Rows of events, read as one record a client: a patient's visits, an account's transactions."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from pe_beam.contracts.gathering import ClientContent
from pe_beam.contracts.options import Options
from pe_beam.contracts.source import SourceRequest
from pe_beam.errors import RecipeError
from pe_beam.sources.clients import READERS, ClientSource
from pe_beam.sources.finding import above


class EventsOptions(Options):
    """What kind of files the rows lie in."""

    rows: Literal["csv", "jsonl", "parquet"] = Field(
        "parquet", description="kind of the files at data.path; a row is an event", json_schema_extra={"public": True}
    )


class EventsSource(ClientSource):
    """Clients with all their rows of one table. A row names its client in the column client."""

    Options: ClassVar[type[Options]] = EventsOptions

    @classmethod
    def open(cls, request: SourceRequest) -> EventsSource:
        """See Source."""
        content = request.content
        if not isinstance(content, ClientContent) or len(content.tables) > 1:
            raise RecipeError("data.source: events is for modality sequence, whose records are clients with their rows")
        options = EventsOptions.model_validate(request.options.model_dump())
        reader = READERS[options.rows]
        [(name, table)] = content.tables.items()
        asked = replace(request, content=table.rows, client=True, options=reader.Options(), records=None)
        return cls(content, {name: reader.open(asked)}, request, below=above(request.path))
