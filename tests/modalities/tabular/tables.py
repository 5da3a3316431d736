"""A table of two groups, and a recipe on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA: dict[str, Any] = {
    "columns": {
        "age": {"type": "integer", "min": 0, "max": 99, "bins": 10},
        "income": {"type": "float", "min": 0, "max": 1000, "missing": True, "outside": "clip", "bins": 4},
        "city": {"type": "categorical", "values": ["Oslo", "Rome", "Lima"]},
        "zero": {"type": "integer", "min": 0, "max": 0},
    }
}


TABLE: dict[str, Any] = {
    "name": "table",
    "data": {
        "source": "csv",
        "path": "",
        "columns": {"label": "group", "client": "who", "income": "income in dollars"},
        "labels": ["x", "y", "never seen"],
        "schema": SCHEMA,
        "max_rejects": 0.2,
    },
    "modality": "tabular",
    "generator": {"name": "tabular", "steps": "redraw"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 1, "samples": 30},
    "privacy": {"epsilon": 1, "delta": 1e-5, "marginals": {"budget": 0.4}},
}


def rows(count: int = 600, seed: int = 0) -> pa.Table:
    """Records of two groups that differ, and some that are to be rejected."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["x", "y"], count, p=[0.7, 0.3])
    income = np.where(group == "x", 100, 900) + rng.normal(0, 60, count)
    age = rng.integers(0, 99, count)
    age[:5] = 777
    return pa.table(
        {
            "who": [f"client {i % 50}" for i in range(count)],
            "group": group,
            "age": age,
            "income in dollars": pa.array(income, mask=rng.random(count) < 0.1),
            "city": np.where(age % 2 == 0, "Oslo", "Lima"),
            "zero": np.zeros(count, np.int64),
        }
    )
