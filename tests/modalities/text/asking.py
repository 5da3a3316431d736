"""How tests ask a service that answers as they tell it, and what it took."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from pe_beam.keyed import keyed_rng
from pe_beam.modalities.text.llm import Llm


def make(generator: Llm, count: int = 12) -> list[str]:
    return make_table(generator, count)["text"].to_pylist()


def make_table(generator: Llm, count: int = 12) -> pa.Table:
    rngs = [keyed_rng(0, 0, i, "random") for i in range(count)]
    return generator.random(["a"] * count, rngs)


def spent(folder: Path) -> dict[str, int]:
    record = json.loads((folder / "llm/account.json").read_text())
    assert record["held"] == {}
    return record["spent"]
