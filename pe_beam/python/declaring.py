"""Turns declarations of a table's columns into `data.schema`: a Pydantic model, or whatever a recipe takes.

No record is looked at. What a declaration leaves open, the bounds of numbers and the categories, has to be declared
beside it (`domain`).
"""

from __future__ import annotations

import enum
import types
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pe_beam import registry
from pe_beam.errors import InputError
from pe_beam.recipe.files import RecipeFolder
from pe_beam.recipe.schemas import merged, whole_schema


def declared(schema: Any, domain: Mapping[str, Any], roles: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `data.schema` in the form of a recipe. Forms of other programs are read as in a recipe (docs/tables.md).

    Args:
      schema: a Pydantic model; a mapping, or a YAML or JSON file: `data.schema` as in a recipe, metadata of SDV (also
        their object) or of DPSDA.
      domain: column -> keys of its declaration that `schema` leaves open, {"min": 0, "max": 120}; or None, which leaves
        the column out.
      roles: `data.columns`. The columns of label and client are no part of a schema.

    Raises:
      InputError: a column is declared as nothing that a table may have, its domain is not declared, or `domain` names a
        column that is not there.
    """
    for name, about in domain.items():
        if about is not None and not isinstance(about, Mapping):
            raise InputError(f"domain: {name!r}: a mapping is wanted, such as {{'min': 0, 'max': 120}}, or None")
    left_out = {"label": "label", "client": "client"} | dict(roles)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _of_model(schema, domain, left_out)
    raw = _read(schema)
    _demand_columns(raw)
    whole = merged(raw, {"columns": domain})
    adopt = registry.find("modalities", "tabular", key="modality").adopt_schema
    found = whole if adopt is None else adopt(whole, left_out)
    if found is whole:  # our own form, which is checked with the recipe
        _demand_known(domain, raw.get("columns"))
    return dict(found)


def _demand_columns(raw: Mapping[str, Any]) -> None:
    """Raises InputError for columns that stand where a schema's own keys do."""
    loose = [name for name, about in raw.items() if isinstance(about, Mapping) and "type" in about]
    if loose and "columns" not in raw:
        named = ", ".join(repr(name) for name in loose[:3]) + (", ..." if len(loose) > 3 else "")
        raise InputError(f"schema: {named}: columns stand below 'columns': {{'columns': {{{loose[0]!r}: {{...}}}}}}")


def _of_model(model: type[BaseModel], domain: Mapping[str, Any], roles: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the declarations of a Pydantic model's fields, but for those of label and client."""
    taken = {name for role in ("label", "client") for name in _listed(roles[role])}
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    columns = {name: _of_field(name, info) for name, info in fields.items() if name not in taken}
    _demand_known(domain, columns)
    found = merged({"columns": columns}, {"columns": domain})
    for name, about in found["columns"].items():
        _demand_domain(name, about)
    return found


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _read(schema: Any) -> Mapping[str, Any]:
    """Returns a mapping, of a file its content. An object of SDV gives its dict."""
    if hasattr(schema, "to_dict"):
        schema = schema.to_dict()
    if isinstance(schema, str | Path):
        schema = {"file": str(schema)}
    if not isinstance(schema, Mapping):
        raise InputError(
            f"schema: {type(schema).__name__} declares no columns; allowed: a Pydantic model, a mapping as in a "
            "recipe, metadata of SDV or DPSDA, or a file of one of them"
        )
    return whole_schema(schema, RecipeFolder("."))


def _demand_known(domain: Mapping[str, Any], columns: Any) -> None:
    for name in domain:
        if not isinstance(columns, Mapping) or name not in columns:
            raise InputError(f"domain: {name!r} is no column of the schema")


def _of_field(name: str, info: Any) -> dict[str, Any]:
    """Returns the declaration of a Pydantic model's field: its type, bounds of ge, gt, le and lt, and multiple_of."""
    kind, missing, inner = _without_none(info.annotation)
    values = _values(kind)
    found: dict[str, Any] = {"missing": True} if missing else {}
    if values is not None:
        return found | {"type": "categorical", "values": values}
    named = {bool: "boolean", int: "integer", float: "float", date: "date", datetime: "datetime"}
    if kind not in named:
        raise InputError(
            f"schema: field {name!r} of the model has a type that is no column's; allowed: int, float, date, datetime "
            "with ge and le, bool, Literal, Enum, and each of them or None"
        )
    found["type"] = named[kind]
    for part in [*info.metadata, *inner]:
        for key, end, step in (("ge", "min", 0), ("le", "max", 0), ("gt", "min", 1), ("lt", "max", -1)):
            bound = getattr(part, key, None)
            if bound is not None:
                if step and kind is not int:
                    raise InputError(f"schema: field {name!r}: {key} of {kind.__name__}: ge and le are wanted")
                found[end] = bound + step if step else bound
        multiple = getattr(part, "multiple_of", None)
        if multiple is not None and (kind is not int or multiple != 1):
            if kind is not float:
                raise InputError(f"schema: field {name!r}: multiple_of of {kind.__name__}: it is kept for float alone")
            found["multiple_of"] = multiple
    return found


def _without_none(kind: Any) -> tuple[Any, bool, list[Any]]:
    """Returns a type without None, whether None was allowed beside it, and what is said of the type beside None."""
    if get_origin(kind) in (Union, types.UnionType):
        others = [each for each in get_args(kind) if each is not type(None)]
        if len(others) == 1:
            own, *said = get_args(others[0]) if get_origin(others[0]) is Annotated else (others[0],)
            return own, True, [part for each in said for part in getattr(each, "metadata", [each])]
    return kind, False, []


def _values(kind: Any) -> list[Any] | None:
    if get_origin(kind) is Literal:
        return [each.value if isinstance(each, enum.Enum) else each for each in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [each.value for each in kind]
    return None


def _demand_domain(name: str, about: Mapping[str, Any]) -> None:
    """Raises InputError if bounds or categories are not declared: they are never read off the records."""
    if about["type"] in ("categorical", "ordinal"):
        open_keys = [] if about.get("values") else ["values"]
    elif about["type"] == "boolean":
        open_keys = []
    else:
        open_keys = [key for key in ("min", "max") if about.get(key) is None]
    if open_keys:
        told = ", ".join(f"{key!r}: ..." for key in open_keys)
        raise InputError(
            f"schema: column {name!r} ({about['type']}) is declared without {' and '.join(open_keys)}, which are never "
            f"read off the records; say what is publicly known: domain={{{name!r}: {{{told}}}}}"
        )
