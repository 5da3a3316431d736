"""The contract of a modality: a kind of record and everything that belongs to it."""

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
      name: the name in the recipe.
      payload: the Arrow fields of a record's content.
      preview: (samples table, note to print or None) -> PNG bytes of a picture of them; None: there is no preview.
      content: turns a file's columns into the payload; None: `FieldContent`, which takes them unchanged.
      preparation: the typed model of `data.prepare`, which is optional in a recipe; None: it is not allowed there.
      schema_model: the typed model of `data.schema`, which the recipe must then contain; None: it is not allowed there.
      adopt_schema: (plain data of `data.schema`, `data.columns`) -> the same in the form of `schema_model`, for schemas
        of other programs, which it knows by their keys. It raises RecipeError, which names all that such a schema does
        not say. None: there is one form.
      propose_schema: (a .csv, .parquet or .jsonl file, public=True: its values may be known, label and client: their
        columns, encoding: of a .csv that is not UTF-8) -> what such a file declares: `schema`, `columns` and `labels`
        of `data`, and words on what is left out (`dropped` and `notes` by column, `rows`). It raises InputError. None:
        no schema is read off a file.
      with_schema: a validated `schema_model` -> this modality with the payload and content that the schema declares.
      view: makes the View that draws one report; None: the report shows the payload's values as plain text.
      metrics: the metrics of this kind of record, which `evaluate` measures in addition to those of embeddings.
      metric_rows: largest number of rows of a `Comparison` table.
      metric_options: name -> description of the options that `pe-beam evaluate --set NAME=VALUE` gives to the metrics.
      read_metric_options: checks the given options on the driver, before other input is read, and returns the options
        that the metrics get, in which the contents of files replace their names. It raises InputError. None: the
        metrics get the options as they were given.
      unfold: (payload and label columns of samples, `data.columns`) -> name -> table, for records that `export` writes
        as several rows, of one or several tables. One table is one file; several are a file each. None: a record is a
        row.
      by_client: whether a record is all rows of a client. The privacy unit has to be the client then.
      votes_by_record: whether such a record counts in votes and measurements as a record does, within a norm that is
        the same for all. Then nothing has to be gathered by client and scaled. Only with `by_client`.
      by_tables: whether a record is of several tables, in files below `data.path`. Then `start` asks for the files and
        their columns and labels, and looks at them.
      start: asks the questions of `pe-beam init` for this kind of record: (Asker, Seen, the section `data` so far) ->
        the sections `generator` and `embedder`, and its additions to `evolution` and `data` (a schema).
        None: only the names of generator and embedder are asked for.
    """

    name: str
    payload: pa.Schema
    preview: Callable[[pa.Table, str | None], bytes] | None = None
    content: Content | None = None
    preparation: type[Preparation] | None = None
    schema_model: type[BaseModel] | None = None
    adopt_schema: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] | None = None
    propose_schema: Callable[..., Mapping[str, Any]] | None = None
    with_schema: Callable[[Any], Modality] | None = None
    view: Callable[[], View] | None = None
    metrics: Sequence[Metric] = ()
    metric_rows: int = 10_000
    metric_options: Mapping[str, str] = field(default_factory=dict)
    read_metric_options: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None
    unfold: Callable[[pa.Table, Mapping[str, Any]], Mapping[str, pa.Table]] | None = None
    by_client: bool = False
    votes_by_record: bool = False
    by_tables: bool = False
    start: Callable[[Asker, Seen, Mapping[str, Any]], Mapping[str, Any]] | None = None

    def reader(self) -> Content:
        """Returns the Content that turns a file's columns into this payload."""
        return self.content or FieldContent(self.payload)
