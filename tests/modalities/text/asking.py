"""How tests ask a service that answers as they tell it, and what it took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pe_beam.keyed import keyed_rng
from pe_beam.modalities.text.llm import Llm
from pe_beam.modalities.text.openai_client import import_openai


def make(generator: Llm, count: int = 12) -> list[str]:
    rngs = [keyed_rng(0, 0, i, "random") for i in range(count)]
    return generator.random(["a"] * count, rngs)["text"].to_pylist()


def spent(folder: Path) -> dict[str, int]:
    record = json.loads((folder / "llm/account.json").read_text())
    assert record["held"] == {}
    return record["spent"]


@pytest.fixture(autouse=True)
def key_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PE_BEAM_TEST_KEY", "sk-secret")
    import_openai()  # seconds on a busy machine, and not while a test measures time
