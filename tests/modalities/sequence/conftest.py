"""A small schema of events, and made-up rows of clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.modalities.sequence import SequenceSchema
from pe_beam.modalities.sequence.events import SequenceContent

SCHEMA: dict[str, Any] = {
    "most": 4,
    "time": {"type": "date", "min": "2020-01-01", "max": "2026-12-31"},
    "kind": {"values": ["admission", "surgery", "therapy", "discharge"]},
    "gaps": {"unit": "days", "edges": [0, 1, 7, 30]},
    "attributes": {
        "ward": {"type": "categorical", "values": ["a", "b"], "missing": True},
        "cost": {"type": "float", "min": 0, "max": 100, "bins": 4},
    },
}
RECIPE: dict[str, Any] = {
    "name": "visits",
    "modality": "sequence",
    "data": {
        "source": "events",
        "options": {"rows": "csv"},
        "columns": {"client": "patient", "time": "day", "kind": "visit"},
        "schema": SCHEMA,
        "max_rejects": 0.5,
    },
    "generator": {"name": "sequence"},
    "embedder": {"name": "sequence"},
    "evolution": {"iterations": 1, "samples": 40, "threshold": 0, "degree": 0.2},
    "privacy": {"epsilon": 8, "delta": 1e-4, "unit": "client", "marginals": {"budget": 0.5}},
}


@pytest.fixture(scope="session")
def schema() -> SequenceSchema:
    return SequenceSchema.model_validate(SCHEMA)


@pytest.fixture(scope="session")
def content(schema: SequenceSchema) -> SequenceContent:
    return SequenceContent(schema)


def visits(clients: int, seed: int = 0) -> pa.Table:
    """Rows of clients whose visits follow each other as at a hospital, in no order."""
    rng = np.random.default_rng(seed)
    rows = []
    for client in range(clients):
        kinds = ["admission", *(["surgery"] if client % 2 else []), "discharge", *["therapy"] * (client % 3)]
        day = int(rng.integers(100))
        for kind in kinds:
            day += int(rng.integers(10))
            rows.append(
                (f"p{client}", f"2020-{1 + day // 28:02d}-{1 + day % 28:02d}", kind, "ab"[client % 2], client % 90)
            )
    order = rng.permutation(len(rows))
    names = ["patient", "day", "visit", "ward", "cost"]
    return pa.table({name: [rows[i][at] for i in order] for at, name in enumerate(names)})
