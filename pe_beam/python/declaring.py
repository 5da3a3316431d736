"""Turns declarations of a table's columns into `data.schema`: a Pydantic model, SDV metadata, or a recipe's own form.

No record is looked at. What a declaration leaves open, the bounds of numbers and the categories, has to be declared
beside it (`domain`).
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pe_beam.errors import InputError

_SDV = {"numerical": "float", "categorical": "categorical", "boolean": "boolean", "datetime": "datetime"}
_ALLOWED = "numerical, categorical, boolean and datetime"
_WHOLE = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")


def declared(schema: Any, domain: Mapping[str, Mapping[str, Any]], left_out: Sequence[str]) -> dict[str, Any] | str:
    """Returns `data.schema` as a recipe has it.

    Args:
      schema: a Pydantic model; SDV metadata (its dict, its JSON file or its object); or `data.schema` as in a recipe,
        a mapping or the name of a YAML file.
      domain: column -> keys of its declaration that `schema` leaves open: {"min": 0, "max": 120}.
      left_out: columns of labels and clients, which are not part of it.

    Raises:
      InputError: a column is declared as nothing that a table may have, its domain is not declared, or `domain` names a
        column that is not there.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        columns = {info.alias or name: _of_field(name, info) for name, info in schema.model_fields.items()}
    else:
        raw = _read(schema)
        if isinstance(raw, str):
            if domain:
                raise InputError("domain: is not for a schema in a file of its own; declare all in the file")
            return raw
        if not _is_sdv(raw):
            return _with_domain(dict(raw), domain)
        columns = {name: _of_sdv(name, about) for name, about in _sdv_columns(raw).items() if name not in left_out}
    columns = {name: about for name, about in columns.items() if name not in left_out}
    found: dict[str, Any] = _with_domain({"columns": columns}, domain)
    for name, about in found["columns"].items():
        _demand_domain(name, about)
    return found


def _read(schema: Any) -> Any:
    """Returns a mapping, or the name of a YAML file. A JSON file is read, and an object of SDV gives its dict."""
    if hasattr(schema, "to_dict"):
        schema = schema.to_dict()
    if isinstance(schema, str | Path):
        if not str(schema).endswith(".json"):
            return str(schema)
        try:
            schema = json.loads(Path(schema).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"schema: {schema} cannot be read as JSON ({type(error).__name__})") from None
    if not isinstance(schema, Mapping):
        raise InputError(
            f"schema: {type(schema).__name__} declares no columns; allowed: a Pydantic model, a mapping as in a "
            "recipe, SDV metadata, or a file of one of them"
        )
    return schema


def _is_sdv(raw: Mapping[str, Any]) -> bool:
    return "METADATA_SPEC_VERSION" in raw or "tables" in raw


def _sdv_columns(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    if "tables" in raw:
        if len(raw["tables"]) != 1:
            raise InputError("schema: SDV metadata of one table is wanted; these have several")
        raw = next(iter(raw["tables"].values()))
    columns = raw.get("columns")
    if not isinstance(columns, Mapping) or not all(isinstance(about, Mapping) for about in columns.values()):
        raise InputError("schema: SDV metadata without columns; those of a single table are wanted")
    return {name: about for name, about in columns.items() if name != raw.get("primary_key")}


def _of_sdv(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    kind = about.get("sdtype")
    if kind not in _SDV:
        raise InputError(f"schema: column {name!r} is {kind!r} to SDV; allowed: {_ALLOWED}; drop it from the metadata")
    found: dict[str, Any] = {"type": _SDV[kind]}
    if kind == "numerical" and about.get("computer_representation") in _WHOLE:
        found["type"] = "integer"
    if kind == "datetime" and "datetime_format" in about:
        found["format"] = about["datetime_format"]
    if about.get("order") and kind == "categorical":
        found["type"] = "ordinal"
        found |= {"values": list(about["order"])} if isinstance(about["order"], list) else {}
    return found


def _of_field(name: str, info: Any) -> dict[str, Any]:
    """Returns the declaration of a field of a Pydantic model: its type, and bounds of ge, gt, le and lt."""
    kind, missing = _without_none(info.annotation)
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
    for part in info.metadata:
        for key, end, step in (("ge", "min", 0), ("le", "max", 0), ("gt", "min", 1), ("lt", "max", -1)):
            bound = getattr(part, key, None)
            if bound is not None:
                if step and kind is not int:
                    raise InputError(f"schema: field {name!r}: {key} of {kind.__name__}: ge and le are wanted")
                found[end] = bound + step if step else bound
    return found


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) in (Union, types.UnionType):
        others = [each for each in get_args(kind) if each is not type(None)]
        if len(others) == 1:
            return others[0], True
    return kind, False


def _values(kind: Any) -> list[Any] | None:
    if get_origin(kind) is Literal:
        return [each.value if isinstance(each, enum.Enum) else each for each in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [each.value for each in kind]
    return None


def _with_domain(schema: dict[str, Any], domain: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    columns = schema.get("columns")
    for name, about in domain.items():
        if not isinstance(columns, Mapping) or name not in columns:
            raise InputError(f"domain: {name!r} is no column of the schema")
        if not isinstance(about, Mapping):
            raise InputError(f"domain: {name!r}: a mapping is wanted, such as {{'min': 0, 'max': 120}}")
    if not isinstance(columns, Mapping):
        return schema
    return schema | {"columns": {name: {**about, **domain.get(name, {})} for name, about in columns.items()}}


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
