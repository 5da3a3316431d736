"""Explains the faults of a recipe: turns a validation error of pydantic into a plain sentence for each key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_Fault = tuple[tuple[int | str, ...], Mapping[str, Any]]
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", tuple: "a list"}

_ELSEWHERE = {
    "nullable": ["missing"],
    "places": ["decimals"],
    "precision": ["decimals"],
    "categories": ["values"],
    "minimum": ["min"],
    "maximum": ["max"],
}
"""What other programs call a key: ours, where the section has it."""


def explain(error: ValidationError, raw: Any, model: type[BaseModel], prefix: str = "") -> str:
    """Returns one line for each key that is wrong.

    Args:
      error: the error that `model` raised.
      raw: the data that `model` was given.
      model: the model of `raw`.
      prefix: the dotted key of `raw` in the recipe.
    """
    faults: list[_Fault] = [(fault["loc"], fault) for fault in error.errors(include_url=False)]
    return "\n".join(dict.fromkeys(_lines(faults, model, prefix, raw)))


def _lines(faults: Sequence[_Fault], kind: Any, path: str, value: Any) -> list[str]:
    """Returns sentences about one value of this kind. The locations of the faults are relative to the value."""
    kind, choices = _bare(kind)
    if len(choices) > 1:
        return _of_union(faults, choices, path, value)
    lines: list[str] = []
    for key in dict.fromkeys(loc[0] for loc, _ in faults if loc):
        below = [(loc[1:], fault) for loc, fault in faults if loc and loc[0] == key]
        where = path if key == "[key]" else f"{path}.{key}" if path else str(key)
        if len(below) == 1 and below[0][1]["type"] == "extra_forbidden" and not below[0][0]:
            lines.append(f"{where}: unknown key{_nearest(str(key), kind)}")
        else:
            lines += _lines(below, _inner(kind, key), where, _at(value, key))
    return lines + [_sentence(path, fault) for loc, fault in faults if not loc]


def _of_union(faults: Sequence[_Fault], choices: Sequence[Any], path: str, value: Any) -> list[str]:
    """Explains a value of a union by the kind that has its shape. Pydantic reports faults for all kinds."""
    tags = list(dict.fromkeys(loc[0] for loc, _ in faults if loc))
    shape = [_shape(choice) for choice in choices]
    own = "mapping" if isinstance(value, Mapping) else "list" if isinstance(value, list | tuple) else ""
    if own and shape.count(own) == 1 and len(tags) == len(choices):
        place = shape.index(own)
        below = [(loc[1:], fault) for loc, fault in faults if loc and loc[0] == tags[place]]
        return _lines(below, choices[place], path, value)
    told = {fault["msg"] for _, fault in faults if fault["type"] == "value_error"}
    if len(told) == 1:  # the package's own check gives a better message than a list of kinds
        return [_sentence(path, next(fault for _, fault in faults if fault["type"] == "value_error"))]
    shown = f" {value!r}" if isinstance(value, str | int | float) else ""
    return [f"{path}:{shown} is not allowed; wanted: {', or '.join(dict.fromkeys(map(_word, choices)))}"]


def _bare(kind: Any) -> tuple[Any, list[Any]]:
    """Returns a kind without Annotated, and the kinds that a union allows, without null."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, [kind]
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    return _bare(choices[0]) if len(choices) == 1 else (kind, choices)


def _shape(kind: Any) -> str:
    kind = _bare(kind)[0]
    kind = get_origin(kind) or kind
    if not isinstance(kind, type):
        return ""
    return "mapping" if issubclass(kind, BaseModel | Mapping) else "list" if issubclass(kind, list | tuple) else ""


def _word(kind: Any) -> str:
    kind = _bare(kind)[0]
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"a mapping with {', '.join(_keys(kind))}"
    kind = get_origin(kind) or kind
    return _WORDS.get(kind, "a mapping" if _shape(kind) == "mapping" else "another value")


def _inner(kind: Any, key: int | str) -> Any:
    """Returns the kind of the value under a key, or Any if it is not known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if key in (name, info.alias):
                return info.annotation
        return Any
    shape, inner = _shape(kind), get_args(kind)
    if shape == "mapping" and len(inner) > 1:
        return inner[0] if key == "[key]" else inner[1]
    return inner[0] if shape == "list" and inner else Any


def _at(value: Any, key: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    inside = isinstance(value, list | tuple) and isinstance(key, int) and key < len(value)
    return value[key] if inside else None


def _sentence(path: str, fault: Mapping[str, Any]) -> str:
    reason = fault["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    reason = reason.replace("valid dictionary", "valid mapping").replace("Dictionary should", "Mapping should")
    value = fault.get("input")
    shown = f" {value!r}" if isinstance(value, str | int | float) else ""
    return f"{path or 'recipe'}:{shown} {reason[0].lower()}{reason[1:]}"


def _nearest(key: str, kind: Any) -> str:
    model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    known = [] if model is None else _keys(model)
    near = _inside(key, model) or [each for each in _ELSEWHERE.get(key, []) if each in known]
    near = near or difflib.get_close_matches(key, known, 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f" (allowed: {', '.join(known)})" if known else ""


def _inside(key: str, model: type[BaseModel] | None) -> list[str]:
    """Returns the places of a key that stands one section too high."""
    fields = {} if model is None else model.model_fields
    sections = [
        (info.alias or name, choice)
        for name, info in fields.items()
        for choice in _bare(info.annotation)[1]
        if isinstance(choice, type) and issubclass(choice, BaseModel)
    ]
    return [f"{name}.{key}" for name, choice in sections if key in _keys(choice)]


def _keys(model: type[BaseModel]) -> list[str]:
    return sorted(info.alias or name for name, info in model.model_fields.items())
