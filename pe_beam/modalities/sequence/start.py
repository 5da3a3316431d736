"""Questions of `pe-beam init` about event sequences: columns, kinds, bins of gaps, attributes, greatest length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_beam.contracts.asking import column, listed, number
from pe_beam.modalities.sequence.schema import KIND, MOST_EVENTS, TIME
from pe_beam.modalities.tabular.columns import NUMBERS
from pe_beam.modalities.tabular.start import bound, declared, left, read_off

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker, Seen

_FILES = ("csv", "jsonl", "parquet")
_UNITS = ("seconds", "minutes", "hours", "days", "weeks")
_KINDS = "data.schema.kind.values"


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sections of a recipe for sequences. What events can be is a file, read off a public one, or asked."""
    asker.say("A record is a client with all its events. Kinds, gaps and length are declared in public.")
    columns = dict(data.get("columns", {}))
    for role, text in (("client", "the client id"), (TIME, "the time of an event"), (KIND, "the kind of an event")):
        default = role if role != "client" and (not seen.columns or role in seen.columns) else None
        columns[role] = asker.ask(
            f"data.columns.{role}", f"The column with {text}", parse=column(seen), default=default
        )
    schema = asker.ask("data.schema", "A YAML file that declares kinds, gaps and length", optional=True)
    if schema is None:
        schema, renamed = _declared(asker, seen, columns, str(data.get("path", "")))
        columns |= renamed
    source = data["source"]
    if source != "events" and source not in _FILES:
        asker.refuse("data.source", f"init: data.source: {', '.join(_FILES)} is wanted for sequences")
    return {
        "data": {
            "source": "events",
            "options": {"rows": source if source in _FILES else "parquet"},
            "columns": columns,
            "schema": schema,
        },
        "generator": {"name": "sequence"},
        "embedder": {"name": "sequence"},
        "evolution": {"iterations": 2, "degree": 0.1, "threshold": 0, "final": "selected"},
        "privacy": {"marginals": {"budget": 0.6}},
    }


def _declared(
    asker: Asker, seen: Seen, columns: Mapping[str, Any], private: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the schema, and names of attributes in the schema -> in the file, where they differ."""
    text = "Or a public file with the same columns, whose values may be read (never the data)"
    public = asker.ask("public", text, optional=True)
    if public is None:
        time, kind = _time(asker), {"values": asker.ask(_KINDS, "All kinds of events, between commas", parse=listed)}
        attributes, renamed = _attributes(asker, seen, columns)
    else:
        time, kind, attributes, renamed = _read_off(asker, public, columns, private)
    key, unit = "data.schema", "number"
    if time["type"] in ("date", "datetime"):
        unit = asker.ask(f"{key}.gaps.unit", "The unit of gaps between events", choices=_UNITS, default="days")
    edges = asker.ask(
        f"{key}.gaps.edges", "Edges of the bins of gaps, between commas, from 0 on", parse=_edges, default=[0, 1, 7, 30]
    )
    most = asker.ask(f"{key}.most", "Events of a client at most", parse=number(0, MOST_EVENTS, whole=True))
    keep = asker.ask(f"{key}.keep", "Of a client with more, which stay", choices=("first", "last"), default="first")
    schema = {"most": most, "keep": keep, "time": time, "kind": kind, "gaps": {"unit": unit, "edges": edges}}
    return schema | ({"attributes": attributes} if attributes else {}), renamed


def _time(asker: Asker) -> dict[str, Any]:
    key = "data.schema.time"
    kind = asker.ask(f"{key}.type", "The type of the time", choices=NUMBERS, default="date")
    ends = (("min", "least"), ("max", "greatest"))
    return {"type": kind} | {
        end: asker.ask(f"{key}.{end}", f"The {text} time that is taken", parse=bound(kind)) for end, text in ends
    }


def _attributes(asker: Asker, seen: Seen, columns: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    others = ", ".join(left(seen, columns))
    text = "Further columns of an event, between commas" + (f" (there are: {others})" if others else "")
    names = asker.ask("attributes", text, parse=listed, optional=True) or []
    found, renamed = declared(asker, names, seen, "data.schema.attributes")
    return found["columns"], renamed


def _read_off(
    asker: Asker, public: str, columns: Mapping[str, Any], private: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, str]]:
    """Returns time, kind and attributes as a public file has them, and names in the schema -> in the file."""
    label = columns.get("label")
    if isinstance(label, list):
        asker.refuse(
            "public", "init: data.columns.label: a public file is read for one label column; declare data.schema"
        )
    roles = {"label": label, "client": columns["client"]}
    if any(asker.lacks(f"data.columns.{role}") for role in ("client", TIME, KIND)) or asker.lacks("public"):
        return {"type": "date"}, {}, {}, {}
    found, names = read_off(asker, public, roles, private=private)
    made = {names.get(own, own): (own, column) for own, column in found["columns"].items()}
    time, kind = (made.pop(columns[role], (role, {}))[1] for role in (TIME, KIND))
    fits = {TIME: (time.get("type") in NUMBERS, "a number or a date"), KIND: ("values" in kind, "categories")}
    for role, (fit, wanted) in fits.items():
        if not fit and not asker.lacks("public"):
            asker.refuse("public", f"init: --public: column {columns[role]!r} is no {role} there; {wanted} is wanted")
    time, kind = {k: v for k, v in time.items() if k != "missing"}, {"values": kind.get("values")}
    renamed = {own: name for name, (own, _) in made.items() if own != name}
    return {"type": "date"} | time, kind, dict(made.values()), renamed


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in listed(text)]
    except ValueError:
        raise ValueError("numbers between commas") from None
