"""Numbers of a recipe: everything that Python's `float()` reads, except NaN, true and false."""

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
    """Returns a number for JSON. Infinity becomes the string "inf"."""
    return "inf" if value == math.inf else value
