"""The shop of docs/examples, small."""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import yaml

from pe_beam.contracts.source import SourceBatch
from pe_beam.modalities.relational.codec import RelationalContent
from pe_beam.modalities.relational.schema import RelationalSchema, as_schema
from pe_beam.sources.gathering import FAULT, PAYLOAD, gathered, owned
from tests.whole_runs import ROOT

EXAMPLE = ROOT / "docs/examples/shop"


@cache
def maker() -> ModuleType:
    """The program that makes the shop up."""
    spec = importlib.util.spec_from_file_location("shop", EXAMPLE / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recipe(folder: Path | str, **changes: Any) -> dict[str, Any]:
    """The example's recipe for tables in a folder."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLE / "shop.yaml").read_text(encoding="utf-8"))
    found["data"]["path"] = str(folder)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        found[section][name] = value
    return found


def schema(**child: Any) -> RelationalSchema:
    """The example's schema, with changes to the child."""
    declared = copy.deepcopy(recipe("")["data"]["schema"])
    declared["child"] |= child
    return as_schema(declared)


def families(count: int, seed: int = 0, own: RelationalSchema | None = None) -> pa.Table:
    """The payload of made-up customers with their orders."""
    own = own or schema()
    content = RelationalContent(own)
    customers, orders = maker().make(count, seed)

    def batch(name: str, rows: list[dict[str, Any]]) -> SourceBatch:
        part = content.tables[name].rows
        texts = {name: pa.array([str(row[name]) for row in rows], pa.string()) for name in part.payload.names}
        found, faults = part.convert(pa.table(texts))
        places = [f"{name}:{at}" for at in range(len(rows))]
        return SourceBatch(found, [None] * len(rows), [row["customer_id"] for row in rows], places, faults)

    rows = [owned(content, name, batch(name, own), "") for name, own in (("parent", customers), ("child", orders))]
    found = gathered(content, pa.concat_tables(rows))
    assert not found[FAULT].drop_null()
    return pa.table(found[PAYLOAD].combine_chunks().flatten(), schema=content.payload)
