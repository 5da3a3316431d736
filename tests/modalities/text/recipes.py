"""A small recipe on texts, answered by a server of its own, that runs in seconds."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from tests.modalities.text.server import WORDS, Served

KEY = "sk-a-key-that-nobody-may-see"


TEXTS: dict[str, Any] = {
    "name": "texts",
    "data": {
        "source": "csv",
        "path": "",
        "columns": {"text": "text", "label": "kind"},
        "labels": ["good", "bad"],
        "expected_records": 60,
    },
    "modality": "text",
    "generator": {
        "name": "llm",
        "model": "tiny",
        "variables": {"tone": ["calm", "loud"], "thing": {"by": "label", "values": {"good": ["soup"], "bad": ["fog"]}}},
        "random": {
            "system": "You write.",
            "user": "Write a {label} text on {thing}, {tone}.",
            "sampling": {"max_tokens": 40},
        },
        "vary": {"user": "Fill in, {tone}: {masked}", "mask_share": 0.5, "sampling": {"max_tokens": 60}},
    },
    "embedder": {"name": "hashed-words", "dimension": 64},
    "evolution": {"iterations": 2, "samples": 24},
    "privacy": {"epsilon": 2, "delta": 1e-3},
    "execution": {"llm": {"concurrency": 8, "timeout": 30}},
}


def write_texts(path: Path, rows: int = 60) -> Path:
    """A CSV file of private texts with columns text and kind."""
    rng = random.Random(3)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind"])
        for row in range(rows):
            kind = "good" if row % 2 else "bad"
            words = ["soup" if row % 2 else "fog", *(rng.choice(WORDS) for _ in range(8))]
            writer.writerow([" ".join(words), kind])
    return path


def serve(recipe: dict[str, Any], *served: Served) -> dict[str, Any]:
    """The recipe with the addresses of servers."""
    recipe["execution"]["llm"]["endpoints"] = [{"base_url": s.url, "key_env": "PE_BEAM_TEST_KEY"} for s in served]
    return recipe
