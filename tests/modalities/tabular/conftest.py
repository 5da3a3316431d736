"""A schema with every kind of column."""

from __future__ import annotations

from typing import Any

import pytest

from pe_beam.modalities.tabular.schema import TableSchema

KINDS: dict[str, Any] = {
    "columns": {
        "age": {"type": "integer", "min": 0, "max": 99},
        "income": {"type": "float", "min": -10, "max": 1000.5, "missing": True},
        "city": {"type": "categorical", "values": ["Oslo", "Rome", "Lima"], "missing": True},
        "member": {"type": "boolean"},
        "size": {"type": "ordinal", "values": ["S", "M", "L", "XL"]},
        "joined": {"type": "date", "min": "2000-01-01", "max": "2020-12-31", "missing": True},
        "seen": {"type": "datetime", "min": "2020-01-01T00:00:00", "max": "2020-01-02T00:00:00"},
        "constant": {"type": "integer", "min": 7, "max": 7},
    }
}


@pytest.fixture
def kinds() -> TableSchema:
    return TableSchema.model_validate(KINDS)
