"""From records that someone holds in memory to a run: lands them, makes the recipe, and evolves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from pe_beam import registry
from pe_beam.contracts.store import Store
from pe_beam.engine.layout import Layout
from pe_beam.engine.run import stored_recipe
from pe_beam.errors import InputError
from pe_beam.python.declaring import declared
from pe_beam.python.landing import LANDED, as_columns, as_table, land
from pe_beam.python.runs import EvolvedRun, OnIteration, evolve
from pe_beam.recipe import identity, parts
from pe_beam.recipe.loading import parse_recipe, set_key
from pe_beam.recipe.models import Recipe
from pe_beam.storage import open_store

TABLES: dict[str, Any] = {
    "generator": {"name": "tabular", "steps": "redraw"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 2, "degree": 0.1, "threshold": 0, "final": "selected"},
}
"""Sections for tables, as `pe-beam init` proposes them; a fifth of the budget measures marginals."""
RESERVED = ("candidate_id", "parent_id", "label", "origin", "state", "client", "noisy_votes", "iteration")


def synthesize(
    records: Any,
    run_dir: str | Path,
    *,
    epsilon: float,
    delta: float,
    schema: Any = None,
    domain: Mapping[str, Mapping[str, Any]] | None = None,
    labels: Sequence[str] | None = None,
    label: str | Sequence[Any] | None = None,
    client: str | None = None,
    columns: Mapping[str, str] | None = None,
    modality: str | None = None,
    generator: str | Mapping[str, Any] | None = None,
    embedder: str | Mapping[str, Any] | None = None,
    samples: int = 1000,
    name: str = "synthesized",
    overrides: Mapping[str, Any] | None = None,
    beam_options: Sequence[str] = (),
    secret_file: str | Path | None = None,
    progress: TextIO | None = None,
    unroll: bool = False,
    on_iteration: OnIteration | Sequence[OnIteration] = (),
) -> EvolvedRun:
    """Makes differentially private synthetic records of records in memory. Called again, it resumes.

    The columns that the recipe wants are written once to `private/records/` of the run directory, and evolved from
    there by `evolve` with `data.source: parquet`. Nothing is declared by looking at them: numbers' bounds, categories
    and labels are what the arguments say.

    Args:
      records: a pandas or polars DataFrame, an Arrow table, a datasets.Dataset, a list of texts, or a list or an array
        of pictures.
      run_dir: where the run lies: a path, or the URL of a store that workers read data from (gs://, s3://, az://).
      epsilon: the budget, 0.001 to 1000; infinity is NOT PRIVATE.
      delta: a number, never computed from the records.
      schema: of a table: a Pydantic model, SDV metadata, or `data.schema` as in a recipe (docs/tables.md).
      domain: column -> what `schema` leaves open, {"min": 0, "max": 120} or {"values": [...]}: publicly known.
      labels: the public list of labels; None: there are none.
      label: the column with the label of each record, or for texts and pictures the labels themselves; default: the
        column `label`.
      client: the column with client ids; then a client is protected, with all records.
      columns: field -> column, where they differ ({"text": "review"}).
      modality: image, text, tabular; default: by the records, and tabular where there is a schema.
      generator: its name, or its section of a recipe. Tables have a default.
      embedder: as generator.
      samples: number of synthetic records.
      name: of the run; it is released.
      overrides: any keys of a recipe by dotted name, {"evolution.population": 3000}.
      beam_options: as in `evolve`, and so secret_file, progress, unroll and on_iteration.
      secret_file: see above.
      progress: see above.
      unroll: see above.
      on_iteration: see above.

    Raises:
      InputError: an argument is wrong, or the records are not those that the run began with. The message names the
        argument, what is wrong and what is allowed, and no value of the records.
      PeBeamError: as `evolve` raises it.
    """
    store = open_store(run_dir)
    if store.uri.startswith("memory:"):
        raise InputError("run_dir: memory:// is for examples; workers read records from a path, gs://, s3:// or az://")
    given = dict(as_columns(records))
    kind = modality or _modality(given, schema)
    if label is not None and not isinstance(label, str):
        given["label"], label = [str(each) for each in label], None
    data: dict[str, Any] = {"source": "parquet", "path": store.at(LANDED)}
    roles: dict[str, Any] = dict(columns or {})
    roles |= {role: column for role, column in (("label", label), ("client", client)) if column is not None}
    data |= {"labels": list(labels)} if labels is not None else {}
    raw: dict[str, Any] = {"name": name, "data": data, "modality": kind}
    raw["privacy"] = {"epsilon": epsilon, "delta": delta} | ({"unit": "client"} if client else {})
    raw["evolution"] = {"samples": samples}
    if kind == "tabular":
        raw |= {key: TABLES[key] for key in ("generator", "embedder")}
        raw["evolution"] |= TABLES["evolution"]
        raw["privacy"] |= {"marginals": {"budget": 0.2}}
        data["schema"] = _schema(schema, domain or {}, roles)
    elif schema is not None or domain:
        raise InputError(f"schema: is for tables; modality {kind!r} takes none")
    data |= {"columns": roles} if roles else {}
    for key, part in (("generator", generator), ("embedder", embedder)):
        if part is not None:
            raw[key] = {"name": part} if isinstance(part, str) else dict(part)
        elif key not in raw and not any(name.split(".")[0] in (key, f"{key}s") for name in overrides or {}):
            known = ", ".join(registry.names_for(f"{key}s", kind))
            raise InputError(f"{key}: modality {kind!r} has no default; its name or its section is wanted: {known}")
    for key, value in (overrides or {}).items():
        set_key(raw, key, value)
    recipe = parse_recipe(raw)
    if _lands_here(store, recipe):
        land(store, _wanted(given, recipe))
    return evolve(
        recipe,
        run_dir,
        beam_options,
        secret_file=secret_file,
        progress=progress,
        unroll=unroll,
        on_iteration=on_iteration,
    )


def _modality(given: Mapping[str, Any], schema: Any) -> str:
    if schema is not None:
        return "tabular"
    if set(given) in ({"text"}, {"image"}):
        return next(iter(given))
    raise InputError(
        "schema: the columns of a table are declared, for nothing is read off private records; for texts or pictures "
        "in a column say modality='text' or 'image'"
    )


def _schema(schema: Any, domain: Mapping[str, Any], roles: dict[str, Any]) -> dict[str, Any] | str:
    """Returns `data.schema`. Columns that have a name of ours are declared under another one, which `roles` gets."""
    if schema is None:
        raise InputError("schema: the columns of a table are declared: a Pydantic model, a mapping or SDV metadata")
    found = declared(schema, domain, [roles.get("label", "label"), roles.get("client", "client")])
    if isinstance(found, str) or not isinstance(found.get("columns"), Mapping):
        return found
    renamed = {name: f"{name}_column" for name in found["columns"] if name in RESERVED}
    roles |= {own: name for name, own in renamed.items()}
    return found | {"columns": {renamed.get(name, name): about for name, about in found["columns"].items()}}


def _lands_here(store: Store, recipe: Recipe) -> bool:
    """Returns whether records are written: not for a complete run, nor where another run lies, which is refused."""
    if store.exists(f"{Layout(recipe.private).release}/privacy.json"):
        return False
    return not store.exists("recipe.yaml") or identity.run_id(stored_recipe(store)) == identity.run_id(recipe)


def _wanted(given: Mapping[str, Any], recipe: Recipe) -> pa.Table:
    """Returns the columns that the recipe reads."""
    columns = recipe.data.columns
    wanted = [str(columns.get(name, name)) for name in parts.find_modality(recipe).payload.names]
    if recipe.data.labels is not None:
        label = columns.get("label", "label")
        wanted += [label] if isinstance(label, str) else list(label)
    if recipe.privacy.unit == "client":
        wanted.append(str(columns.get("client", "client")))
    return as_table(given, list(dict.fromkeys(wanted)))
