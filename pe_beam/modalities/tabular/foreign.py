"""Schemas in the form of other programs: metadata of SDV (one table) and of DPSDA. Their keys say which it is.

They have names and types, and SDV has formats of dates. Bounds and categories are declared beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.columns import NUMBERS

_DPSDA = {"cat_columns": "categorical", "int_columns": "integer", "float_columns": "float"}
_SDV = ("METADATA_SPEC_VERSION", "SCHEMA_VERSION")
_SDV_TABLE = ("primary_key", "alternate_keys", "sequence_key", "sequence_index", "column_relationships")
_SDV_COLUMN = ("sdtype", "computer_representation", "datetime_format", "pii", "regex_format", "order", "order_by")
_NOT_OURS = {*_DPSDA, "label_columns", *_SDV, *_SDV_TABLE, "tables", "relationships"}
_TIMES = ("%H", "%I", "%M", "%S", "%f")


def adopt(raw: Mapping[str, Any], roles: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a schema in our form. One that has our form already is returned as it is.

    Args:
      raw: plain data of `data.schema`. Our own keys may stand beside those of the other form, and count more; a column
        that is null is left out.
      roles: `data.columns`. The columns of label and client are left out, and files' names become the schema's.

    Raises:
      RecipeError: what the other form does not say, all of it at once; or metadata of no table or of several.
    """
    if any(key in raw for key in _DPSDA):
        form, columns = "DPSDA", _of_dpsda(raw)
    elif _is_sdv(raw):
        form, columns = "SDV", _of_sdv(raw)
    else:
        return raw
    if not columns:
        raise RecipeError(f"data.schema: metadata of {form} without columns; those of one table are wanted")
    taken = {name for role in ("label", "client") for name in _listed(roles.get(role))}
    renamed = {file: name for name, file in roles.items() if name not in ("label", "client")}
    found: dict[str, Any] = {renamed.get(name, name): column for name, column in columns.items() if name not in taken}
    for name, declared in _mapping(raw.get("columns")).items():
        own = renamed.get(name, name)
        if declared is None and own in found:
            del found[own]
        elif name not in taken:
            found[own] = _joined(found.get(own, {}), declared)
    missing = [f"data.schema.columns.{name}: {gap}" for name, column in found.items() for gap in _gaps(column)]
    lost = [name for name in raw.get("label_columns", ()) if name not in taken and name not in found]
    missing += [f"data.columns.label: [{', '.join(lost)}]"] if lost else []
    if missing:
        raise RecipeError(
            f"data.schema: metadata of {form} do not say all that is to be declared, and nothing is read off the "
            "records. "
            "Wanted besides, by --set or as {file: PATH, columns: {NAME: {KEY: VALUE}}}, in Python as "
            "domain={NAME: {KEY: "
            "VALUE}} and label=NAME:\n" + "\n".join(f"  {line}" for line in missing)
        )
    plain = {name: {key: value for key, value in column.items() if key != "sdtype"} for name, column in found.items()}
    return {key: value for key, value in raw.items() if key not in _NOT_OURS} | {"columns": plain}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(names: Any) -> list[str]:
    return names if isinstance(names, list) else [] if names is None else [names]


def _of_dpsda(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    for key in (*_DPSDA, "label_columns"):
        names = raw.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RecipeError(f"data.schema.{key}: a list of names of columns is wanted")
    return {name: {"type": kind} for key, kind in _DPSDA.items() for name in raw.get(key, [])}


def _is_sdv(raw: Mapping[str, Any]) -> bool:
    tables = [raw, *_mapping(raw.get("tables")).values()]
    columns = [column for table in tables for column in _mapping(_mapping(table).get("columns")).values()]
    return any(key in raw for key in _SDV) or any("sdtype" in _mapping(column) for column in columns)


def _of_sdv(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns name -> the declaration that follows from a column's sdtype, which it keeps."""
    tables = _mapping(raw.get("tables"))
    if len(tables) > 1:
        raise RecipeError(
            f"data.schema: metadata of SDV about several tables ({', '.join(map(str, tables))}); one is wanted: "
            "{file: PATH, tables: {NAME: null}} leaves one out"
        )
    (table,) = tables.values() or [raw]
    columns = _mapping(_mapping(table).get("columns"))
    return {name: _of_sdtype(column) for name, column in columns.items() if "sdtype" in _mapping(column)}


def _of_sdtype(column: Mapping[str, Any]) -> dict[str, Any]:
    sdtype, order, form = column["sdtype"], column.get("order"), column.get("datetime_format")
    found: dict[str, Any] = {"sdtype": sdtype}
    if sdtype == "boolean":
        found["type"] = "boolean"
    elif sdtype == "categorical":
        found |= {"type": "ordinal", "values": order} if isinstance(order, list) else {"type": "categorical"}
    elif sdtype == "numerical":
        kept = str(column.get("computer_representation", "")).lower()
        kind = "integer" if kept.startswith(("int", "uint")) else "float" if kept.startswith("float") else None
        found |= {"type": kind} if kind else {}
    elif sdtype == "datetime" and isinstance(form, str):
        found["type"] = "datetime" if any(part in form for part in _TIMES) else "date"
        found |= {} if form == "%Y-%m-%d" else {"format": form}
    return found


def _joined(found: dict[str, Any], declared: Any) -> Any:
    """Returns a column with our own keys in place of those that follow from its sdtype."""
    if not isinstance(declared, Mapping):
        return declared
    own = {key: value for key, value in declared.items() if key not in _SDV_COLUMN}
    if own.get("type", found.get("type")) != found.get("type"):
        found = {"sdtype": found["sdtype"]} if "sdtype" in found else {}
    return found | own


def _gaps(column: Any) -> Iterator[str]:
    """Yields in words what a column's declaration lacks."""
    if not isinstance(column, Mapping):
        yield "no such column is there to be left out" if column is None else "a mapping is wanted"
        return
    kind, sdtype = column.get("type"), column.get("sdtype")
    if kind is None and sdtype not in ("numerical", "datetime"):
        own = "no such column is there" if sdtype is None else f"its sdtype is {sdtype}"
        yield f"null, which leaves it out ({own}), or a type and what belongs to it"
        return
    lacks = ["type (integer or float)" if sdtype == "numerical" else "type (date or datetime)"] if kind is None else []
    if kind is None or kind in NUMBERS:
        lacks += [key for key in ("min", "max") if key not in column]
    elif kind in ("categorical", "ordinal"):
        lacks += [] if "values" in column else ["values"]
    if lacks:
        yield ", ".join(lacks)
