"""The rows that two joined tables become: a client each, with its packed rows."""

from __future__ import annotations

import pyarrow as pa

from pe_beam.contracts.source import ROW, SOURCE

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
