"""Numbers of a recipe: whatever Python's `float()` reads, but for NaN and for true and false."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    if isinstance(value, str):
        value = float(value)  # YAML reads 1e-5 and inf as strings
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("a number is wanted, not NaN")
    return value


Real = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]


def json_number(value: float) -> float | str:
    """A number as JSON has it: infinity is the string "inf"."""
    return "inf" if value == math.inf else value
