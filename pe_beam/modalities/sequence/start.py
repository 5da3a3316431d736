"""Questions of `pe-beam init` about event sequences: columns of time and kind, kinds, bins of gaps, greatest length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_beam.contracts.asking import listed, number
from pe_beam.modalities.tabular.columns import NUMBERS

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker, Seen

_FILES = ("csv", "jsonl", "parquet")
_UNITS = ("seconds", "minutes", "hours", "days", "weeks")


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sections of a recipe for sequences. What events can be is a file, or asked for; nothing is guessed."""
    asker.say("A record is a client with all its events. Kinds, gaps and length are declared in public.")
    columns = dict(data.get("columns", {}))
    if "client" not in columns:
        asker.refuse(
            "data.columns.client", "init: --set data.columns.client=... is missing (The column with the client id)"
        )
    for role, text in (("time", "the time of an event"), ("kind", "the kind of an event")):
        default = role if not seen.columns or role in seen.columns else None
        columns[role] = asker.ask(f"data.columns.{role}", f"The column with {text}", default=default)
    schema = asker.ask("data.schema", "A YAML file that declares kinds, gaps and length", optional=True)
    source = data["source"]
    if source != "events" and source not in _FILES:
        asker.refuse("data.source", f"init: data.source: {', '.join(_FILES)} is wanted for sequences")
    return {
        "data": {
            "source": "events",
            "options": {"rows": source if source in _FILES else "parquet"},
            "columns": columns,
            "schema": schema or _declared(asker),
        },
        "generator": {"name": "sequence"},
        "embedder": {"name": "sequence"},
        "evolution": {"iterations": 2, "degree": 0.1, "threshold": 0, "final": "selected"},
        "privacy": {"marginals": {"budget": 0.6}},
    }


def _declared(asker: Asker) -> dict[str, Any]:
    key = "data.schema"
    kind = asker.ask(f"{key}.time.type", "The type of the time", choices=NUMBERS, default="date")
    time = {"type": kind}
    for end, text in (("min", "least"), ("max", "greatest")):
        time[end] = asker.ask(f"{key}.time.{end}", f"The {text} time that is taken")
    kinds = asker.ask(f"{key}.kind.values", "All kinds of events, between commas", parse=listed)
    unit = "number"
    if kind in ("date", "datetime"):
        unit = asker.ask(f"{key}.gaps.unit", "The unit of gaps between events", choices=_UNITS, default="days")
    edges = asker.ask(
        f"{key}.gaps.edges", "Edges of the bins of gaps, between commas, from 0 on", parse=_edges, default=[0, 1, 7, 30]
    )
    most = asker.ask(f"{key}.most", "Events of a client at most", parse=number(0, 1000, whole=True))
    return {"most": most, "time": time, "kind": {"values": kinds}, "gaps": {"unit": unit, "edges": edges}}


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in listed(text)]
    except ValueError:
        raise ValueError("numbers between commas") from None
