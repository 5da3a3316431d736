"""Questions of `pe-beam init` about two tables: their files, keys and columns, and how many children a parent has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pe_beam.contracts.asking import Seen, column, listed, number
from pe_beam.errors import DataError
from pe_beam.modalities.relational.schema import MOST_CHILDREN
from pe_beam.modalities.tabular.start import declared, left, read_off

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker

_FILES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_WORDS = {"parent": "one row a client", "child": "any number of rows a client"}


def start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns sections of a recipe for two tables. Their columns are a file, read from public files, or asked for."""
    asker.say("A record is a client: a row of the parent table with all its rows of the child table.")
    files = {name: _file(asker, name, data) for name in _WORDS}
    looks = {name: _look(asker, name, data, files[name]) for name in _WORDS}
    label, labels = _label(asker, looks["parent"])
    schema: Any = asker.ask("data.schema", "A YAML file that declares both tables", optional=True)
    if schema is None:
        paths = {name: f"{data['path'].rstrip('/')}/{file['file']}" for name, file in files.items()}
        schema, columns = _declared(asker, files, looks, label, paths)
        files = {name: file | ({"columns": columns[name]} if columns[name] else {}) for name, file in files.items()}
    return {
        "data": _separator(asker, looks) | {"source": "relational", "options": files, "schema": schema, **labels},
        "generator": {"name": "relational"},
        "embedder": {"name": "relational"},
        "evolution": {"iterations": 1, "degree": 0.1, "threshold": 0, "smoothing": 0.5, "final": "selected"},
        "privacy": {"marginals": {"budget": 0.9, "pairs": 16}},
    }


def _file(asker: Asker, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Asks for the file of a table and its kind, which the ending or `data.source` says as a rule."""
    key = f"data.options.{name}"
    text = f"The {name} table ({_WORDS[name]}): its file, folder or glob below data.path"
    file = asker.ask(f"{key}.file", text, parse=column(Seen({}, [])))
    told = data["source"] if data["source"] in _FILES.values() else None
    usual = _FILES.get(PurePosixPath(file.rstrip("/*")).suffix, told)
    kinds = sorted(set(_FILES.values()))
    asks = not asker.lacks(f"{key}.file")  # else nobody knows which kind to say
    source = (
        asker.ask(f"{key}.source", f"The {name} table: what kind of files", default=usual, choices=kinds)
        if asks
        else "csv"
    )
    return {"source": source, "file": file}


def _look(asker: Asker, name: str, data: Mapping[str, Any], table: Mapping[str, Any]) -> Seen:
    key = f"data.options.{name}.file"
    path = f"{data['path'].rstrip('/')}/{table['file']}"
    try:
        return Seen({}, []) if asker.lacks(key) else asker.look(path, table["source"])
    except DataError as error:
        told = str(error).replace("data.path", key)
        if asker.interactive:
            asker.say(f"  {told}. Going on without a look.")
        else:
            asker.refuse(key, f"init: {told}")
        return Seen({}, [])


def _separator(asker: Asker, looks: Mapping[str, Seen]) -> dict[str, str]:
    """Returns what parts the fields of both tables, as a look has shown it."""
    seen = {look.separator for look in looks.values() if look.columns}
    if len(seen) > 1:
        asker.refuse(
            "data.separator", "init: the tables have several separators; one is wanted: write one of them anew"
        )
    return {"separator": seen.pop()} if seen - {","} else {}


def _label(asker: Asker, seen: Seen) -> tuple[str | None, dict[str, Any]]:
    """Asks for the column of labels and all labels. Returns the column, and both as parts of the section data."""
    text = "The column with the label, of the parent table"
    label = asker.ask("data.columns.label", text, parse=column(seen), optional=True)
    if label is None:
        return None, {}
    labels = asker.ask("data.labels", "All labels, between commas", parse=listed)
    return label, {"columns": {"label": label}, "labels": labels}


def _declared(
    asker: Asker, files: Mapping[str, Any], looks: Mapping[str, Seen], label: str | None, paths: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Returns the schema, and for each table names in the schema -> in its file, where they differ."""
    text = "Or two public files with the same columns, parent's and child's between commas (never the data)"
    public = asker.ask("public", text, parse=_two, optional=True) or [None, None]
    schema: dict[str, Any] = {}
    columns: dict[str, dict[str, str]] = {}
    shared = [name for name in looks["parent"].columns if name in looks["child"].columns]
    key = shared[0] if len(shared) == 1 else None
    for (name, seen), known in zip(looks.items(), public, strict=True):
        at = f"data.schema.{name}"
        stem = re.sub(r"\W", "_", PurePosixPath(files[name]["file"].rstrip("/*")).stem)
        own = {"name": asker.ask(f"{at}.name", f"The {name} table: its name in exports", default=stem or name)}
        text = f"The {name} table: the column that names the client"
        usual = key if not seen.columns or key in seen.columns else None
        key = own["key"] = asker.ask(f"{at}.key", text, parse=column(seen), default=usual)
        roles = {"client": key, "label": label if name == "parent" else None}
        found, columns[name] = _columns(asker, name, seen, known, roles=roles, private=paths[name])
        schema[name] = own | found
    return {"parent": schema["parent"], "child": _bounds(asker, schema["child"])}, columns


def _columns(
    asker: Asker, name: str, seen: Seen, public: str | None, *, roles: Mapping[str, str | None], private: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the declared columns of a table, and names in the schema -> in its file, where they differ."""
    at = f"data.schema.{name}.columns"
    if public is not None:
        if any(asker.lacks(f"data.schema.{table}.key") for table in _WORDS):
            return {"columns": {}}, {}  # the key would be read as a column; the child's is the parent's if none is said
        found, renamed = read_off(asker, public, roles, f"data.schema.{name}", private=private)
        known = {renamed.get(own, own) for own in found["columns"]}
        if asker.lacks("public"):
            return found, {}
        if others := [column for column in left(seen, roles) if column not in known]:
            asker.warn(
                f"columns of the {name} table left out, for {public} gives no schema of them: {', '.join(others)}"
            )
        return found, {own: column for own, column in renamed.items() if own not in roles}
    if not asker.interactive and not any(key.startswith((f"{at}.", f"{name}.columns")) for key in asker.given):
        text = "init: --schema FILE or --public PARENT,CHILD: columns of both tables have to be declared"
        if not asker.lacks("public"):
            asker.refuse("data.schema", f"{text} (docs/relational.md)")
        return {"columns": {}}, {}
    names = left(seen, roles) or asker.ask(
        f"{name}.columns", f"The {name} table: its columns besides key and label, between commas", parse=listed
    )
    asker.say("What a column can hold is declared in public: say what is known without the data.")
    return declared(asker, names, seen, at)


def _bounds(asker: Asker, child: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of the child table with the number of rows of a client, and which of more stay."""
    at = "data.schema.child"
    most = asker.ask(
        f"{at}.most", "Rows of a client at most, known without the data", parse=number(0, MOST_CHILDREN, whole=True)
    )
    order = asker.ask(f"{at}.order", "The column by which a client's rows are in order", optional=True)
    keep = asker.ask(f"{at}.keep", "Of a client with more, which rows stay", choices=("first", "last"), default="first")
    columns = child.pop("columns")
    return child | {"most": most} | ({"order": order} if order else {}) | {"keep": keep, "columns": columns}


def _two(text: str) -> Sequence[str]:
    found = listed(text)
    if len(found) != 2:
        raise ValueError("two files with a comma between them (the parent's, the child's)")
    return found
