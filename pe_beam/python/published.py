"""Reads a table's declarations off records that the caller says are public: other records than the private ones."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pe_beam import registry
from pe_beam.errors import InputError
from pe_beam.python.landing import as_columns, as_table
from pe_beam.python.warning import warn


@dataclass(frozen=True)
class Published:
    """What public records declare.

    Attributes:
      schema: `data.schema`.
      columns: `data.columns`: the roles of label and client, and columns that are declared under another name.
      labels: the values of the label's column; None: there is none.
    """

    schema: dict[str, Any]
    columns: dict[str, Any]
    labels: list[str] | None


def read_off(public: Any, label: str | None, client: str | None) -> Published:
    """Returns what public records declare, and warns of what is left out of it.

    Args:
      public: what holds records in memory, or a .csv, .parquet or .jsonl file.
      label: the column of labels; None: the column `label`, if there is one in memory.
      client: the column of client ids, which is no part of the schema.

    Raises:
      InputError: the records cannot be read, or none of their columns can be part of a table.
    """
    propose = registry.find("modalities", "tabular", key="modality").propose_schema
    with _as_file(public) as (path, names):
        roles = {"label": label or ("label" if "label" in names else None), "client": client}
        roles = {role: name for role, name in roles.items() if name is not None and (not names or name in names)}
        try:
            found = propose(path, public=True, **roles)
        except InputError as error:
            raise InputError(f"public: {str(error).removeprefix(f'{path}: ')}") from None
    for name, why in found["dropped"].items():
        warn(f"public: column {name!r} is left out of the schema: {why}")
    for name, note in found["notes"].items():
        warn(f"public: column {name!r}: {note}")
    for note in found["rows"]:
        warn(f"public: {note}")
    return Published(found["schema"], found["columns"], found["labels"])


@contextmanager
def _as_file(public: Any) -> Iterator[tuple[Path, list[str]]]:
    """Yields the file that has them, and the names of their columns; of a file that was given, none."""
    if isinstance(public, str | Path):
        yield Path(public), []
        return
    columns: Mapping[str, Any] = as_columns(public)
    with tempfile.TemporaryDirectory(prefix="pe-beam-public-") as folder:
        path = Path(folder) / "public.parquet"
        pq.write_table(as_table(columns, list(columns)), path)
        yield path, list(columns)
