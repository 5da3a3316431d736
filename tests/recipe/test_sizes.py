"""What `plan` says of vectors that are too long for a worker, from declared values alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan

WIDE: dict[str, Any] = {
    "name": "wide",
    "data": {
        "source": "csv",
        "path": "/nowhere.csv",
        "expected_records": 9000,
        "schema": {
            "columns": {
                "code": {"type": "categorical", "values": [f"c{i}" for i in range(15_000)]},
                "age": {"type": "integer", "min": 0, "max": 9},
            }
        },
    },
    "modality": "tabular",
    "generator": {"name": "tabular"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 1, "samples": 100, "threshold": 0, "final": "selected"},
    "privacy": {"epsilon": 1, "delta": 1e-6},
}


def _large(recipe: dict[str, Any]) -> list[str]:
    return [warning for warning in make_plan(parse_recipe(recipe)).warnings if "long vectors" in warning]


def test_a_plan_states_what_long_vectors_take() -> None:
    (said,) = _large(WIDE)
    # 8,192 rows of 15,001 float32 are 0.49 GB; 9,000 are 0.54 GB.
    assert said == (
        "long vectors: 15001 numbers a record take about 1.3 GB of a worker's memory, and 0.5 GB of the run "
        "directory's disk for data.expected_records (embedder.hashed makes those of columns of many values shorter)"
    )
    few = copy.deepcopy(WIDE)
    few["data"]["expected_records"] = 1000
    assert _large(few) == []
    del few["data"]["expected_records"]
    assert "disk" not in _large(few)[0]
    few["evolution"] |= {"population": 20_000, "samples": 100}
    assert "4.8 GB" in _large(few)[0]  # 20,000 candidates of 60 kB, four times


@pytest.mark.parametrize("hashed", [64, 1000])
def test_hashed_columns_need_no_warning(hashed: int) -> None:
    recipe = copy.deepcopy(WIDE)
    recipe["embedder"]["hashed"] = hashed
    assert _large(recipe) == []
