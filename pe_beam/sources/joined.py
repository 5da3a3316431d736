"""The rows that two joined tables become: a client each, with its packed rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from pe_beam.contracts.source import ROW, SOURCE
from pe_beam.errors import PeBeamError

LABEL, CLIENT, PARENT, CHILDREN, FAULT, SEEN = "label", "client", "parent", "children", "fault", "seen"
FAMILIES = pa.schema(
    [
        (SOURCE, pa.string()),
        (ROW, pa.int64()),
        (LABEL, pa.string()),
        (CLIENT, pa.string()),
        (PARENT, pa.binary()),
        (CHILDREN, pa.list_(pa.binary())),
        (FAULT, pa.list_(pa.string())),
        (SEEN, pa.list_(pa.string())),
    ]
)
"""A client of the joined tables: where its first row lies, packed rows, and kind, detail and variety of its fault."""


@contextlib.contextmanager
def keys_of(table: str) -> Iterator[None]:
    """Names the recipe's keys of a table, parent or child, where a source of single tables names its own.

    Raises:
      PeBeamError: as it was raised inside, with those keys.
    """
    try:
        yield
    except PeBeamError as error:
        told = str(error).replace("data.columns.client", f"data.schema.{table}.key")
        raise type(error)(told.replace("data.columns", f"data.options.{table}.columns")) from None
