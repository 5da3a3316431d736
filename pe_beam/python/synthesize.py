"""From records that someone holds in memory to a run: lands them, makes the recipe, and evolves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pe_beam import registry
from pe_beam.errors import InputError
from pe_beam.python.declaring import declared
from pe_beam.python.landing import LANDED, as_columns, find_column, land_for, shared_store
from pe_beam.python.published import read_off
from pe_beam.python.runs import EvolvedRun, OnIteration, demand_options, evolve
from pe_beam.recipe.advice import draft_of, is_advisable, recommend, usual_samples, with_measurements
from pe_beam.recipe.loading import parse_recipe, set_key
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan

TABLES: dict[str, Any] = {
    "generator": {"name": "tabular", "steps": "redraw"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 2, "degree": 0.1, "threshold": 0, "final": "selected"},
}
"""Sections for tables, as `pe-beam init` proposes them."""
_MEASURED = {"budget": 0.2}
"""The marginals of tables where nothing says how many records there are."""
_SUCH = {
    "domain": "{'age': {'min': 0, 'max': 120}}",
    "columns": "{'text': 'review'}",
    "overrides": "{'evolution.iterations': 4}",
}
RESERVED = ("candidate_id", "parent_id", "label", "origin", "state", "client", "noisy_votes", "iteration")


def synthesize(
    records: Any,
    run_dir: str | Path,
    *,
    epsilon: float,
    delta: float,
    schema: Any = None,
    domain: Mapping[str, Mapping[str, Any] | None] | None = None,
    public: Any = None,
    labels: Sequence[str] | None = None,
    label: str | Sequence[Any] | None = None,
    client: str | None = None,
    columns: Mapping[str, str] | None = None,
    modality: str | None = None,
    generator: str | Mapping[str, Any] | None = None,
    embedder: str | Mapping[str, Any] | None = None,
    samples: int | None = None,
    expected_records: float | None = None,
    name: str = "synthesized",
    overrides: Mapping[str, Any] | None = None,
    beam_options: Sequence[str] = (),
    secret_file: str | Path | None = None,
    progress: TextIO | bool | None = None,
    unroll: bool = False,
    on_iteration: OnIteration | Sequence[OnIteration] = (),
) -> EvolvedRun:
    """Makes differentially private synthetic records of records in memory. Called again, it resumes.

    The columns that the recipe wants are written once to `private/records/` of the run directory, and evolved from
    there by `evolve` with `data.source: parquet`. Nothing is declared by looking at them: numbers' bounds, categories
    and labels are what the arguments say, or what other records have that the caller says are public.

    Args:
      records: a pandas or polars DataFrame, an Arrow table, a datasets.Dataset, a list of texts, or a list or an array
        of pictures.
      run_dir: where the run lies: a path, or the URL of a store that workers read data from (gs://, s3://, az://).
      epsilon: the budget, 0.001 to 1000; infinity is NOT PRIVATE.
      delta: a number, never computed from the records.
      schema: of a table: a Pydantic model, `data.schema` as in a recipe (docs/tables.md), metadata of SDV or of DPSDA,
        or a file of one of these.
      domain: column -> what `schema` leaves open, {"min": 0, "max": 120} or {"values": [...]}: publicly known. None
        leaves the column out.
      public: in place of a schema other records of a table, whose values anyone may know (a published sample): what
        `records` may be, or a .csv, .parquet or .jsonl file. Types, bounds, categories and labels are read off them;
        `domain` widens them. Never the records themselves.
      labels: the public list of labels; None: there are none, or those of `public`.
      label: the column with the label of each record, or for texts and pictures the labels themselves; default: the
        column `label`.
      client: the column with client ids; then a client is protected, with all records.
      columns: field -> column, where they differ ({"text": "review"}).
      modality: image, text, tabular; default: by the records, and tabular where there is a schema.
      generator: its name, or its section of a recipe. Tables have a default.
      embedder: as generator.
      samples: number of synthetic records; None: 1000, of a table with `expected_records` 4000, but no more than
        records are expected, as `init` proposes it.
      expected_records: a public guess of the number of private records (with `client`: of clients), never a count of
        them. With it a table gets the plan that `pe-beam plan` recommends, and without it a fixed one.
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
    _demand_mappings(domain=domain, columns=columns, overrides=overrides)
    _demand_names(client=client, modality=modality)
    demand_options(beam_options, progress, on_iteration)
    store = shared_store(run_dir)
    given = dict(as_columns(records))
    if public is not None:
        _demand_published(public, records, schema, modality)
    kind = modality or _modality(given, schema if public is None else public)
    if kind == "image" and set(given) == {"text"}:
        raise InputError(
            "records: texts are no pictures; of paths, [PIL.Image.open(path) for path in records] is taken, and a "
            "folder of pictures by a recipe (docs/images.md)"
        )
    has_labels = label is not None
    if label is not None and not isinstance(label, str):
        if not isinstance(label, Iterable):
            raise InputError("label: the name of a column is wanted, or for texts and pictures the labels themselves")
        given["label"], label = [str(each) for each in label], None
    roles: dict[str, Any] = {**(columns or {}), **_said(label=label, client=client)}
    if public is not None:
        found = read_off(public, roles.get("label"), roles.get("client"))
        schema, roles = found.schema, found.columns | roles
        labels = found.labels if labels is None else labels
    labels = None if labels is None else _listed(labels)
    raw: dict[str, Any] = {
        "name": name,
        "data": {"source": "parquet", "path": store.at(LANDED)},
        "modality": kind,
        "evolution": _said(samples=samples),
        "privacy": {"epsilon": epsilon, "delta": delta} | ({"unit": "client"} if client else {}),
    }
    raw["data"] |= _said(labels=labels, expected_records=expected_records)
    if kind == "tabular":
        _demand_columns(given, [label, client])  # else a schema is asked for what the right name would say
        _declare_table(raw, schema, domain or {}, roles)
    elif schema is not None or domain:
        raise InputError(f"schema: is for tables; modality {kind!r} takes none")
    raw["data"] |= {"columns": roles} if roles else {}
    _name_parts(raw, {"generator": generator, "embedder": embedder}, overrides or {})
    for key, value in (overrides or {}).items():
        set_key(raw, key, value)
    recipe = _settled(raw, overrides or {})
    if has_labels and recipe.data.labels is None:  # the label would be left out of what is made
        raise InputError("labels: label is given without them; the public list of all labels is wanted")
    land_for(store, recipe, given)
    return evolve(
        recipe,
        run_dir,
        beam_options,
        secret_file=secret_file,
        progress=progress,
        unroll=unroll,
        on_iteration=on_iteration,
    )


def _demand_mappings(**given: Any) -> None:
    """Raises InputError if an argument that says something by name is no mapping."""
    for argument, value in given.items():
        if value is not None and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
            raise InputError(f"{argument}: a mapping is wanted, such as {_SUCH[argument]}")


def _demand_names(**given: Any) -> None:
    """Raises InputError if an argument that is a name is none. There are few kinds of records, which are all told."""
    for argument, value in given.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{argument}: {type(value).__name__} is no name; a text is wanted")
    kind = given["modality"]
    if kind is not None:
        registry.find("modalities", kind, key="modality")


def _demand_columns(held: Mapping[str, Any], names: Sequence[str | None]) -> None:
    """Raises InputError if an argument names a column that the records do not have."""
    for name in names:
        if name is not None and find_column(name, held)[0] is None:
            close = get_close_matches(name, list(held), n=1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise InputError(f"records: there is no column {name!r}; {meant}there are: {', '.join(held)}")


def _said(**given: Any) -> dict[str, Any]:
    """Returns the arguments that are said."""
    return {key: value for key, value in given.items() if value is not None}


def _listed(labels: Any) -> list[Any]:
    """Returns the public labels as a list. Those of a set are sorted: its order is another one in each process."""
    if isinstance(labels, str):
        raise InputError(f"labels: a list of labels is wanted, not one text: [{labels!r}, ...]")
    held = sorted(labels, key=str) if isinstance(labels, set | frozenset) else list(labels)
    held = [each.item() if isinstance(each, np.generic) else each for each in held]
    return [str(each).lower() if isinstance(each, bool) else each for each in held]  # as a file has them


def _declare_table(raw: dict[str, Any], schema: Any, domain: Mapping[str, Any], roles: dict[str, Any]) -> None:
    """Sets a table's columns, and the usual sections, in which overrides may change keys."""
    raw |= {key: dict(TABLES[key]) for key in ("generator", "embedder")}
    raw["evolution"] |= TABLES["evolution"]
    raw["privacy"]["marginals"] = dict(_MEASURED)
    raw["data"]["schema"] = _schema(schema, domain, roles)


def _name_parts(raw: dict[str, Any], given: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Sets the sections of generator and embedder. Raises InputError if nothing says one of them."""
    for key, part in given.items():
        if part is not None:
            if not isinstance(part, str | Mapping):
                raise InputError(
                    f"{key}: a {type(part).__name__} is none; its name is wanted, or its section of a recipe. One of "
                    f"your own gets a name by an entry point of the group pe_beam.{key}s (docs/own-parts.md)"
                )
            raw[key] = {"name": part} if isinstance(part, str) else dict(part)
        elif key not in raw and not any(name.split(".")[0] in (key, f"{key}s") for name in overrides):
            kind = raw["modality"]
            known = ", ".join(registry.names_for(f"{key}s", kind))
            raise InputError(f"{key}: modality {kind!r} has no default; its name or its section is wanted: {known}")


def _settled(raw: dict[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    """Returns the recipe, with what is proposed and recommended where it says nothing itself.

    A plan is recommended for a table of which nothing that it needs was taken away.
    """
    evolution, privacy = raw["evolution"], raw["privacy"]
    usual = raw["modality"] == "tabular" and raw["generator"] == TABLES["generator"]
    if usual and privacy.get("marginals") and not evolution.get("filters"):
        evolution.setdefault("repeats", "modelled")
        if not {"selection", "phases"} & set(evolution):  # it is for draws by share of votes
            evolution.setdefault("draws", "balanced")
    advised = usual and privacy.get("marginals") == _MEASURED and "population" not in evolution
    if advised or "samples" not in evolution:
        draft = draft_of(raw)
        evolution.setdefault("samples", usual_samples(draft))
        if advised and is_advisable(draft):
            settled = evolution["iterations"] if "evolution.iterations" in overrides else None
            advice = recommend(draft, make_plan(draft), samples=evolution["samples"], iterations=settled)
            raw["privacy"] = with_measurements(privacy, advice)
            evolution |= {"iterations": advice.iterations, "population": advice.population}
            evolution.setdefault("smoothing", advice.smoothing)
    return parse_recipe(raw)


def _demand_published(public: Any, records: Any, schema: Any, modality: str | None) -> None:
    if public is records:
        raise InputError(
            "public: these are the private records; other records, whose values anyone may know, are wanted"
        )
    if schema is not None:
        raise InputError(
            "public: not beside a schema; one of them declares the columns, and domain changes what it says"
        )
    if modality not in (None, "tabular"):
        raise InputError(f"public: is for tables; modality {modality!r} takes none")


def _modality(given: Mapping[str, Any], schema: Any) -> str:
    if schema is not None:
        return "tabular"
    if set(given) in ({"text"}, {"image"}):
        return next(iter(given))
    raise InputError(
        "schema: the columns of a table are declared, for nothing is read off private records; for texts or pictures "
        "in a column say modality='text' or 'image'"
    )


def _schema(schema: Any, domain: Mapping[str, Any], roles: dict[str, Any]) -> dict[str, Any]:
    """Returns `data.schema`. Columns that have a name of ours are declared under another one, which `roles` gets."""
    if schema is None:
        raise InputError(
            "schema: the columns of a table are declared: a Pydantic model, a mapping, or metadata of SDV or DPSDA"
        )
    found = declared(schema, domain, roles)
    if not isinstance(found.get("columns"), Mapping):
        return found
    renamed = {name: f"{name}_column" for name in found["columns"] if name in RESERVED}
    roles |= {own: name for name, own in renamed.items()}
    return found | {"columns": {renamed.get(name, name): about for name, about in found["columns"].items()}}
