"""A modality: a kind of record and what goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from pe_beam.contracts.asking import Asker, Seen
from pe_beam.contracts.content import Content, FieldContent, Preparation
from pe_beam.contracts.metric import Metric
from pe_beam.contracts.view import View


@dataclass(frozen=True)
class Modality:
    """A kind of record.

    Attributes:
      name: as the recipe says it.
      payload: the Arrow fields of a record's content.
      preview: samples table -> PNG bytes of a picture of them, or None where there is none.
      content: how a file's columns become the payload; None: as they are (`FieldContent`).
      preparation: the typed model of `data.prepare`, which a recipe may give; None: it may not.
      schema_model: the typed model of `data.schema`, which the recipe then has to give; None: it may not.
      with_schema: a validated `schema_model` -> this modality with the payload and content that it declares.
      view: makes the View that draws one report; None: the report shows the payload's values as plain text.
      metrics: what `evaluate` measures of this kind of record besides what it measures of embeddings.
      metric_rows: rows of a `Comparison` table at most.
      metric_options: name -> what it is, of what `pe-beam evaluate --set NAME=VALUE` may tell the metrics.
      read_metric_options: checks what was told, on the driver, before anything is read, and gives what the metrics are
        told instead: files of options have been read. It raises InputError. None: each metric reads them as they are.
      start: what `pe-beam init` asks of this kind of record: (who answers, what a look has shown, the section `data`
        so far) -> the sections `generator` and `embedder`, and what it wants in `evolution` and `data` (a schema).
        None: only the names of generator and embedder are asked for.
    """

    name: str
    payload: pa.Schema
    preview: Callable[[pa.Table, str | None], bytes] | None = None
    content: Content | None = None
    preparation: type[Preparation] | None = None
    schema_model: type[BaseModel] | None = None
    with_schema: Callable[[Any], Modality] | None = None
    view: Callable[[], View] | None = None
    metrics: Sequence[Metric] = ()
    metric_rows: int = 10_000
    metric_options: Mapping[str, str] = field(default_factory=dict)
    read_metric_options: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None
    start: Callable[[Asker, Seen, Mapping[str, Any]], Mapping[str, Any]] | None = None

    def reader(self) -> Content:
        """How a file's columns become this payload."""
        return self.content or FieldContent(self.payload)
