"""Questions of `pe-beam init` about tables: a file that declares their columns, or a public file with values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.contracts.asking import listed, number
from pe_beam.errors import DataError, InputError
from pe_beam.modalities.tabular.columns import CHOICES, MOST_DECIMALS, NUMBERS, Column
from pe_beam.modalities.tabular.propose import propose_schema, type_name
from pe_beam.modalities.tabular.schema import RESERVED

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker, Seen


TYPES = (*NUMBERS, *CHOICES)
LEFT_OUT = "none"
"""Answer in place of a type: the column is not declared, so it is neither read nor made."""
_WIDEN = "Bounds, values and decimals come from the public file alone: widen them to all that the domain allows."


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sections of a recipe for tables. The schema is a file, or read from a public file, or asked by column.

    Bounds and categories are never guessed, so each that is not said is a missing answer.

    Raises:
      InputError: several label columns, where a public file is read.
    """
    asker.say("Columns are declared in public: bounds, categories, which may be missing (docs/tables.md).")
    columns = dict(data.get("columns", {}))
    schema: Any = asker.ask("data.schema", "A YAML file that declares the columns", optional=True)
    if schema is None:
        public = asker.ask(
            "public", "Or a public file with the same columns, whose values may be read (never the data)", optional=True
        )
        if public is None:
            if not asker.interactive and not any(key.startswith("data.schema.columns.") for key in asker.given):
                text = "init: --schema FILE or --public FILE: a table's columns have to be declared (docs/tables.md)"
                text += "; in a terminal, without --yes, each is asked for"
                asker.refuse("data.schema", ": ".join([text, *filter(None, [", ".join(left(seen, columns))])]))
                return {}
            names = left(seen, columns) or asker.ask(
                "columns", "The columns besides label and client, between commas", parse=listed
            )
            asker.say("What a column can hold is declared in public: say what is known without the data.")
            schema, renamed = declared(asker, names, seen)
            columns |= renamed
        else:
            roles = {
                role: _one(columns.get(role)) for role in ("label", "client") if not asker.lacks(f"data.columns.{role}")
            }
            schema, own = read_off(asker, public, roles, private=str(data.get("path", "")))
            columns = own | columns
    return {
        "data": {"schema": schema, "columns": columns},
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"degree": 0.1, "threshold": 0, "final": "selected", "repeats": "modelled", "draws": "balanced"},
        "privacy": {"marginals": {"budget": 0.4}},  # the share is then what a plan recommends
    }


def _is_of(public: str, private: str) -> bool:
    """Returns whether a public file is the private one, or is among those of a private folder or glob."""
    if not Path(public).is_file() or "://" in private:
        return False
    from pe_beam.sources import finding

    held = Path(private)
    if held.is_dir():
        return Path(public).resolve().is_relative_to(held.resolve())
    found = [private] if held.is_file() else [name for name, _ in finding.match(private)]
    return any(Path(public).samefile(file) for file in found)


def _one(names: Any) -> str | None:
    if isinstance(names, list):
        raise InputError("init: data.columns.label: a public file is read for one label column; declare data.schema")
    return names


def read_off(
    asker: Asker, public: str, roles: Mapping[str, str | None], key: str = "data.schema", *, private: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the schema that a public file gives, and role or name in the schema -> column, where they differ.

    What is left out of the schema is said. If the file cannot be read, this is a fault of the answer `public`.

    Args:
      asker: notes faults, warnings and remarks.
      public: the file.
      roles: label and client -> their columns, which are left out.
      key: of the schema in the recipe.
      private: where the private records of this schema lie, which are refused.
    """
    if _is_of(public, private):
        text = "these are the private records; other records, whose values anyone may know, are wanted"
        asker.refuse("public", f"init: --public: {public}: {text}")
        return {"columns": {}}, {}
    try:
        found = propose_schema(public, public=True, encoding=asker.given.get("data.encoding", "utf-8"), **roles)
    except DataError as error:
        asker.refuse("public", f"init: --public: {str(error).removeprefix('public: ')}")
        return {"columns": {}}, {}
    for name, why in found["dropped"].items():
        asker.warn(f"--public: column {name} is left out of the schema: {why}")
    for name, note in found["notes"].items():
        asker.warn(f"--public: column {name}: {note}")
    for note in found["rows"]:
        asker.warn(f"--public: {note}")
    asker.remarks[key] = _WIDEN
    return found["schema"], found["columns"]


def left(seen: Seen, roles: Mapping[str, Any]) -> list[str]:
    """Returns the columns that were seen and have no role."""
    taken = [name for names in roles.values() for name in (names if isinstance(names, list) else [names])]
    return [name for name in seen.columns if name not in taken]


def declared(
    asker: Asker, names: Sequence[str], seen: Seen, key: str = "data.schema.columns"
) -> tuple[dict[str, Any], dict[str, str]]:
    """Asks for the declaration of each column. Returns the schema, and names in the schema -> in the file.

    A column whose type is `none` is left out.

    Args:
      asker: asks.
      names: the columns of the file.
      seen: what a look has shown of it.
      key: of the columns in the recipe.
    """
    columns: dict[str, Any] = {}
    renamed: dict[str, str] = {}
    for name in names:
        own = f"{name}_column" if name in RESERVED else name
        found = _column(asker, name, seen.columns.get(name), f"{key}.{name}")
        if found is not None:
            renamed |= {own: name} if own != name else {}
            columns[own] = found
    return {"columns": columns}, renamed


def _column(asker: Asker, name: str, kind: pa.DataType | None, key: str) -> dict[str, Any] | None:
    """Asks for one column's declaration, key by key. Returns None for a column that is left out."""
    question, types = f"{name}: its type, {LEFT_OUT} to leave it out", (*TYPES, LEFT_OUT)
    found: dict[str, Any] = {"type": asker.ask(f"{key}.type", question, choices=types, default=_usual(kind))}
    if asker.lacks(f"{key}.type"):
        return found
    if found["type"] == LEFT_OUT:
        return None
    if found["type"] in NUMBERS:
        for end, text in (("min", "least"), ("max", "greatest")):
            found[end] = asker.ask(f"{key}.{end}", f"{name}: its {text} value", parse=bound(found["type"]))
        if found["type"] == "float":
            found |= _steps(asker, name, key, found["min"], found["max"])
        beyond = f"{name}: values beyond"
        found["outside"] = asker.ask(f"{key}.outside", beyond, choices=("reject", "clip"), default="clip")
    elif found["type"] != "boolean":
        found["values"] = asker.ask(f"{key}.values", f"{name}: all its values, between commas", parse=listed)
    if asker.confirm(f"{key}.missing", f"{name}: may it be missing"):
        found["missing"] = True
    return found


def _steps(asker: Asker, name: str, key: str, least: float, greatest: float) -> dict[str, Any]:
    """Asks how far apart the values of a float lie. Returns `decimals`, `multiple_of`, or nothing."""
    for own, question, parse in (
        ("decimals", "digits after the point, if all its values have so many at most", _decimals(least, greatest)),
        ("multiple_of", "else a step that all its values are whole multiples of, as 0.25 or 5", _step(least, greatest)),
    ):
        found = asker.ask(f"{key}.{own}", f"{name}: {question}", parse=parse, optional=True)
        if found is not None:
            return {own: found}
    return {}


def _usual(kind: pa.DataType | None) -> str | None:
    """Returns the type of a column if the file has types; CSV has none."""
    name = None if kind is None else type_name(kind)
    return None if name == "categorical" else name


def _decimals(*bounds: Any) -> Callable[[str], int]:
    """Returns the parser of a number of digits after the point, which bounds may not exceed."""

    def parse(text: str) -> int:
        found = int(number(0, MOST_DECIMALS, whole=True, least=True)(text))
        if any(round(float(each), found) != float(each) for each in bounds):
            raise ValueError("as many digits as its least and its greatest value have, or more,")
        return found

    return parse


def _step(least: float, greatest: float) -> Callable[[str], float]:
    """Returns the parser of a step. Bounds are whole multiples of it."""

    def parse(text: str) -> float:
        found = number(0, math.inf)(text)
        try:
            Column(type="float", min=least, max=greatest, multiple_of=found)
        except ValueError:
            raise ValueError("a step of which its least and its greatest value are whole multiples,") from None
        return found

    return parse


def bound(kind: str) -> Callable[[str], Any]:
    """Returns the parser of a bound of a column of this type."""

    def parse(text: str) -> Any:
        if kind in ("date", "datetime"):
            try:
                (date if kind == "date" else datetime).fromisoformat(text)
            except ValueError:
                raise ValueError("YYYY-MM-DD" if kind == "date" else "YYYY-MM-DDTHH:MM:SS") from None
            return text
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            raise ValueError("a whole number" if kind == "integer" else "a number") from None

    return parse
