"""Counts rejected answers by the states of candidates."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa


def summary(made: pa.Table) -> dict[str, Any]:
    """Returns rejected answers by kind, and the number of candidates that are stand-ins.

    Args:
      made: new candidates with the column `state`: null, or JSON with `rejected` (a list of kinds) and `stand_in`.

    >>> summary(pa.table({"state": ['{"rejected": ["empty"]}', None]}))
    {'rejected_answers': {'empty': 1}, 'stand_ins': 0}
    """
    rejected: Counter[str] = Counter()
    stand_ins = 0
    for state in made["state"].to_pylist():
        found = json.loads(state) if state else {}
        rejected.update(found.get("rejected", []))
        stand_ins += bool(found.get("stand_in"))
    return {"rejected_answers": dict(sorted(rejected.items())), "stand_ins": stand_ins}
