"""Marks recipe keys that are newer than existing recipes. At its default such a key does not change a recipe.

A run's id and the bytes of `recipe.json` follow from the resolved recipe. A key that a later release adds would change
both for every existing recipe. So the key is marked, and it is left out while it has its default:

    class Options(base.Options):
        device_map: Annotated[str | None, NEWER] = Field(None, description=...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel


class _Newer:
    """The mark of a newer key, in an `Annotated` around the whole type of a field."""

    def __repr__(self) -> str:
        return "NEWER"


NEWER: Final = _Newer()
"""The mark of a newer key, in an `Annotated` around the whole type of a field: at its default it changes no run id."""


def without_newer_defaults(model: BaseModel, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model as plain data without the newer keys that are at their default, at every depth.

    Args:
      model: the validated model.
      plain: the dump of the model, by alias or by name. Keys that the model does not have are passed through.

    >>> from pe_beam.recipe.sections.data import Split
    >>> without_newer_defaults(Split(), {"share": 0.3, "random_state": 0, "note": "passed through"})
    {'share': 0.3, 'random_state': 0, 'note': 'passed through'}
    """
    kept = dict(plain)
    for name, field in type(model).model_fields.items():
        key = field.alias if field.alias in kept else name
        if key not in kept:
            continue
        value = getattr(model, name)
        newer = any(isinstance(mark, _Newer) for mark in field.metadata)
        if newer and value == field.get_default(call_default_factory=True):
            del kept[key]
        else:
            kept[key] = _below(value, kept[key])
    return kept


def _below(value: Any, plain: Any) -> Any:
    if isinstance(value, BaseModel) and isinstance(plain, Mapping):
        return without_newer_defaults(value, plain)
    if isinstance(value, Sequence) and isinstance(plain, list) and not isinstance(value, str):
        return [_below(inner, dumped) for inner, dumped in zip(value, plain, strict=True)]
    if isinstance(value, Mapping) and isinstance(plain, Mapping) and len(value) == len(plain):
        pairs = zip(value.values(), plain.items(), strict=True)
        return {key: _below(inner, dumped) for inner, (key, dumped) in pairs}
    return plain
