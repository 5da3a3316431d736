"""What `pe-beam init` asks of tables: a file that declares their columns, or a public one to read bounds from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pe_beam.errors import InputError
from pe_beam.modalities.tabular.propose import propose_schema

if TYPE_CHECKING:
    from pe_beam.start.asking import Asker
    from pe_beam.start.looking import Seen


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of a recipe for tables: the schema is declared, or read off a file that its owner calls public.

    Raises:
      InputError: neither is given: bounds and categories cannot be made up.
      DataError: the public file cannot be read.
    """
    asker.say("Columns are declared in public: bounds, categories, which may be missing (docs/tables.md).")
    columns = dict(data.get("columns", {}))
    schema: Any = asker.ask("data.schema", "A YAML file that declares the columns", optional=True)
    if schema is None:
        public = asker.ask(
            "public", "Or a public file with the same columns, whose values may be read (never the data)", optional=True
        )
        if public is None:
            names = f": {', '.join(seen.columns)}" if seen.columns else ""
            raise InputError(
                f"init: --set data.schema=FILE or --set public=FILE: a table's columns have to be declared{names}"
            )
        found = propose_schema(
            public, public=True, label=_one(columns.get("label")), client=_one(columns.get("client"))
        )
        schema = found["schema"]
        columns = found["columns"] | columns
        dropped = [f"{name} ({why})" for name, why in found["dropped"].items()]
        if dropped:
            asker.say("Left out: " + ", ".join(dropped))
    return {
        "data": {"schema": schema, "columns": columns},
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 2, "degree": 0.1, "threshold": 0, "final": "selected"},
        "privacy": {"marginals": {"budget": 0.2}},
    }


def _one(names: Any) -> str | None:
    if isinstance(names, list):
        raise InputError("init: data.columns.label: a public file is read for one label column; declare data.schema")
    return names
