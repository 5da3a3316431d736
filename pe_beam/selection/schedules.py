"""Reads settings that may change with the iteration: a number, a list, or a named decay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pe_beam.errors import RecipeError

_ALLOWED = (
    "a number, a list of {length} numbers, or {{from, to, decay: linear|geometric|cosine|polynomial|tab-pe, power}}"
)


def resolve_schedule(value: Any, length: int, *, name: str) -> list[float]:
    """Returns the setting of each of `length` iterations.

    Args:
      value: a number (the same for all iterations), a list of `length` numbers, or a mapping with from, to, decay and,
        for polynomial and tab-pe, power. The first iteration gets `from`, the last one `to`. The decay tab-pe is the
        published one of Tab-PE (arXiv 2606.08259). Its list is longer than the number of iterations, so the last
        iteration does not reach `to`: from - (from - to) ((t - 1) / (length + 1))^power, with power 0.2 by default.
      length: the number of iterations, at least 1.
      name: the recipe key, for messages.

    Raises:
      RecipeError: the value is anything else, or contains NaN or infinity.

    >>> resolve_schedule({"from": 0.5, "to": 0.1, "decay": "linear"}, 3, name="degree")
    [0.5, 0.3, 0.1]
    """
    if isinstance(value, Mapping):
        return _decay(value, length, name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != length:
            raise _refusal(value, length, name)
        return [_number(item, value, length, name) for item in value]
    return [_number(value, value, length, name)] * length


def _refusal(value: Any, length: int, name: str) -> RecipeError:
    return RecipeError(f"{name}: {value!r} is not allowed; {_ALLOWED.format(length=length)} is wanted")


def _number(item: Any, value: Any, length: int, name: str) -> float:
    try:
        number = float(item)
    except (TypeError, ValueError):
        raise _refusal(value, length, name) from None
    if isinstance(item, bool) or not math.isfinite(number):
        raise _refusal(value, length, name)
    return number


def _decay(value: Mapping[str, Any], length: int, name: str) -> list[float]:
    if not {"from", "to"} <= set(value) <= {"from", "to", "decay", "power"}:
        raise _refusal(value, length, name)
    kind = value.get("decay", "linear")
    usual = 0.2 if kind == "tab-pe" else 1
    first, last, power = (_number(value.get(key, usual), value, length, name) for key in ("from", "to", "power"))
    if kind == "geometric" and not (first > 0 and last > 0):
        raise RecipeError(f"{name}: {value!r} is not allowed; a geometric decay goes between numbers above 0")
    if kind not in ("linear", "geometric", "cosine", "polynomial", "tab-pe") or power <= 0:
        raise _refusal(value, length, name)
    values = []
    for t in range(length):
        if kind == "tab-pe":
            values.append(round(first - (first - last) * (t / (length + 1)) ** power, 12))
            continue
        x = t / (length - 1) if length > 1 else 0.0
        if kind == "geometric":
            values.append(first * (last / first) ** x)
            continue
        left = {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "polynomial": (1 - x) ** power}[kind]
        values.append(round(last + (first - last) * left, 12))
    return values
