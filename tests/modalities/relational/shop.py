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

from pe_beam.modalities.relational.codec import RelationalContent
from pe_beam.modalities.relational.schema import RelationalSchema, as_schema
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

    def packed(rows: list[dict[str, Any]], part: Any, pack: Any) -> list[bytes]:
        names = part.payload.names
        texts = pa.table({name: pa.array([str(row[name]) for row in rows], pa.string()) for name in names})
        found, faults = part.convert(texts)
        assert not faults
        made: list[bytes] = pack(found)
        return made

    by_key: dict[str, list[bytes]] = {row["customer_id"]: [] for row in customers}
    for row, raw in zip(orders, packed(orders, content.child, content.pack_children), strict=True):
        by_key[row["customer_id"]].append(raw)
    kept = [sorted(raws)[: own.child.most] for raws in by_key.values()]
    return content.unpack(packed(customers, content.parent, content.pack_parents), kept)
