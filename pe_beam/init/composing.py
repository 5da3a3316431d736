"""Makes a recipe from answers: it asks for declared values and computes pool sizes from the plan, without the data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from pe_beam import registry
from pe_beam.contracts.asking import Asker, Seen, column, listed, number
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.source import Encoding
from pe_beam.errors import DataError, PeBeamError
from pe_beam.init.looking import NOTHING, PICTURES, SEEN, guess_source, look
from pe_beam.recipe.advice import Advice, draft_of, family_rows, recommend, usual_samples, with_measurements
from pe_beam.recipe.plan import make_plan

_BY_COLUMN = ("parquet", "csv", "jsonl")
"""Sources whose columns a recipe names one by one. Others have formats of their own, or come from other packages."""
_LABELS_BY_COLUMN = (*_BY_COLUMN, "imagefolder", "dicom")
"""Sources without labels unless a column is named."""
_FILE_NAME = "file_name"  # the column of a table that lists pictures, unless another is named
_STAND_IN = 1000  # samples, where faulty answers leave nothing to plan by; these are told in its place


def compose(asker: Asker) -> dict[str, Any]:
    """Makes a recipe as plain data from answers.

    Raises:
      InputError: answers are wrong or missing (all of them are named), the data do not exist, or the budget is
        impossible.
    """
    try:
        recipe = _composed(asker)
    except PeBeamError:
        asker.check()  # a later error may come from a stand-in, so it does not count beside missing answers
        raise
    asker.check()
    return recipe


def _composed(asker: Asker) -> dict[str, Any]:
    data, modality_name, seen = _records(asker)
    asker.seen = seen
    if modality_name is None:  # so which parts are to be asked for is not known
        _columns(asker, data, None, seen)
        _labels(asker, data, seen)
        _privacy(asker, data)
        return {}
    modality = registry.find("modalities", modality_name, key="modality")
    data |= {"separator": seen.separator} if seen.separator != "," else {}
    if not modality.by_tables:
        _columns(asker, data, modality, seen)
        _labels(asker, data, seen)
    privacy = _privacy(asker, data, by_client=modality.by_client)
    asker.say("\nWhat makes candidates, and what compares them.")
    own = dict(modality.start(asker, seen, data)) if modality.start else _parts_by_name(asker, modality_name)
    data |= own.pop("data", {})
    holdout = asker.ask("data.holdout", "Real records set aside for `pe-beam evaluate`: a path", optional=True)
    data |= {"holdout": holdout} if holdout else {}
    name = asker.ask("name", "A name for the run; it is released", parse=_name, default="my-run")
    recipe = {"name": name, "data": data, "modality": modality_name, **own}
    recipe["privacy"] = privacy | own.get("privacy", {})
    recipe["evolution"] = _evolution(asker, recipe, own.pop("evolution", {}))
    return recipe


def _records(asker: Asker) -> tuple[dict[str, Any], str | None, Seen]:
    """Returns where the records lie, what a record is (None: this follows from a missing answer), and what is seen."""
    asker.say("Where the private records lie. They are not read now; what may be looked at is asked first.")
    path = asker.ask("data.path", "A folder, a file or a glob")
    guessed = guess_source(path, asker.given.get("modality"))
    source = asker.ask("data.source", "What kind of files", default=guessed, choices=_sources())
    known = registry.names("modalities")
    usual = "image" if source in PICTURES else "tabular" if _declares_columns(asker) else None
    data = {"source": source, "path": path}
    if "data.encoding" in asker.given:  # nobody is asked: most files are UTF-8, and one that is not says so
        data["encoding"] = asker.ask("data.encoding", "How CSV files write their text", choices=get_args(Encoding))
    if asker.lacks("data.path") and not asker.given.keys() & {"data.source", "modality"}:
        return data, None, NOTHING
    modality = asker.ask("modality", "What a record is", default=usual, choices=known)
    modality = None if asker.lacks("modality") else modality
    if not asker.interactive and source == "folder" and not asker.given.keys() & {"data.source", "modality", "look"}:
        asker.warn(f"{path}: taken for a folder of pictures; --source and --modality say otherwise")
    if asker.lacks("data.path"):
        return data, modality, NOTHING
    if modality is not None and registry.find("modalities", modality, key="modality").by_tables:
        if asker.confirm("look", "May I look at the names and types of columns of the tables? No value is read"):
            asker.look = partial(look, encoding=data.get("encoding", "utf-8"))
        return data, modality, NOTHING
    what = {
        "folder": "names of the folders in it, and of tables beside the pictures",
        "csv": "names of columns, the first line of a file",
        "imagefolder": "names of columns of the table",
    }.get(source, "names and types of columns")
    if source not in SEEN or not asker.confirm("look", f"May I look at the {what}? No value is read"):
        return data, modality, NOTHING
    try:
        return _listed(asker, data, look(path, source, data.get("encoding", "utf-8")), modality)
    except DataError as error:
        if not asker.interactive:
            raise
        asker.say(f"  {error}. Going on without a look.")
        return data, modality, NOTHING


def _listed(
    asker: Asker, data: dict[str, Any], seen: Seen, modality: str | None
) -> tuple[dict[str, Any], str | None, Seen]:
    """Returns the table beside pictures as what is read, if a person says that it lists them; else all as it is."""
    if not seen.tables or seen.folders or modality != "image":
        return data, modality, seen
    tables = [f"{str(data['path']).rstrip('/')}/{name}" for name in seen.tables]
    if not asker.interactive:
        asker.warn(
            f"a table lies beside the pictures ({', '.join(seen.tables)}). If it lists them with their labels or "
            f"clients, its columns are asked for with --source imagefolder --data {tables[0]}"
        )
        return data, modality, seen
    asker.say("Tables beside the pictures: " + ", ".join(tables))
    path = asker.ask(
        "listed", "Which of them lists the pictures, with labels or clients", choices=tables, optional=True
    )
    if path is None:
        return data, modality, seen
    return {"source": "imagefolder", "path": path}, modality, look(path, "imagefolder")


def _declares_columns(asker: Asker) -> bool:
    return any(key in ("data.schema", "public") or key.startswith("data.schema.") for key in asker.given)


def _sources() -> list[str]:
    """Returns the usual sources, then the others, for those who know what they hold."""
    first = ("folder", *_BY_COLUMN)
    return [*first, *sorted(set(registry.names("sources")) - set(first))]


def _columns(asker: Asker, data: dict[str, Any], modality: Modality | None, seen: Seen) -> None:
    """Asks for the columns that the source takes. Tables with a schema need only label and client.

    A format of pictures, or a source of another package, knows its columns; only label and client are asked for. So
    they are if the modality is not known (None).
    """
    takes = registry.find("sources", data["source"], key="data.source").takes & {"columns", "client"}
    if "columns" not in takes:
        return
    columns: dict[str, Any] = {}
    if seen.columns:
        typed = data["source"] != "csv"  # CSV has no types: all is text until it is declared
        asker.say("Columns: " + ", ".join(f"{n} ({kind})" if typed else n for n, kind in seen.columns.items()))
    named = data["source"] in _BY_COLUMN
    roles = modality.payload.names if modality and named and not modality.schema_model else []
    for role in roles:
        default = role if not seen.columns or role in seen.columns else None
        columns[role] = asker.ask(f"data.columns.{role}", f"The column with the {role}", default=default)
    if data["source"] == "imagefolder" and seen.columns and _FILE_NAME not in seen.columns:
        columns["image"] = asker.ask(
            "data.columns.image", "The column with the names of the pictures", parse=column(seen)
        )
    for role, text in (("label", "the label (several: names between commas)"), ("client", "the client id")):
        if role == "client" and (role not in takes or (modality is not None and modality.by_client)):
            continue  # where all have clients, `start` asks for the column
        # Declared labels need a column. Its default is the column with this name.
        by_column = data["source"] in _LABELS_BY_COLUMN
        declared = by_column and role == "label" and any(f"{key}.".startswith("data.labels.") for key in asker.given)
        default = role if declared and role in seen.columns else None
        key = f"data.columns.{role}"
        found = asker.ask(
            key, f"The column with {text}", parse=_all_seen(asker, seen), default=default, optional=not declared
        )
        if found:
            names = found if isinstance(found, list) else [found]
            columns[role] = names if len(names) > 1 else names[0]
    _must_be_seen(asker, columns, seen)
    if columns:
        data["columns"] = columns


def _all_seen(asker: Asker, seen: Seen) -> Callable[[str], list[str]]:
    """Returns a parser of names of columns. A person is asked again for one that a look has not shown."""

    def parse(text: str) -> list[str]:
        found = listed(text)
        if asker.interactive and seen.columns and not set(found) <= set(seen.columns):
            raise ValueError(f"columns of {', '.join(seen.columns)}")
        return found

    return parse


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError("up to 64 letters, digits, _ . and -")
    return text


def _must_be_seen(asker: Asker, columns: Mapping[str, Any], seen: Seen) -> None:
    for role, names in columns.items():
        key = f"data.columns.{role}"
        for name in names if isinstance(names, list) else [names]:
            if seen.columns and name not in seen.columns and not asker.lacks(key):
                asker.refuse(key, f"init: {key}: {name!r}: no such column in the first file")


def _labels(asker: Asker, data: dict[str, Any], seen: Seen) -> None:
    columns = data.get("columns", {}).get("label")
    # Sources without columns of their own name have labels by their format: folders, members of a tar, bytes.
    free = data["source"] not in _LABELS_BY_COLUMN
    if not free and columns is None:
        return
    asker.say(
        "Labels are declared in public, whether records have them or not. Say only what is known without the data."
    )
    if isinstance(columns, list):
        keys = {column: f"data.labels.{column}" for column in columns}
        data["labels"] = {c: asker.ask(key, f"All values of {c}", parse=listed) for c, key in keys.items()}
        return
    if seen.folders:
        asker.say("Folders: " + ", ".join(seen.folders))
        if asker.confirm("folders", "Are these names public, and are they all the labels"):
            data["labels"] = seen.folders
            return
    labels = asker.ask("data.labels", "All labels, between commas", parse=listed, optional=free and columns is None)
    data |= {"labels": labels} if labels else {}


def _privacy(asker: Asker, data: dict[str, Any], *, by_client: bool = False) -> dict[str, Any]:
    asker.say("\nThe promise. docs/choosing.md says more.")
    guess, what = number(0, 1e12, whole=True), "clients" if by_client else "records"
    records = asker.ask("data.expected_records", f"About how many {what}: a public guess, not a count", parse=guess)
    data["expected_records"] = records
    epsilon = asker.ask("privacy.epsilon", "Epsilon, 0.001 to 1000", parse=number(0.001, 1000, least=True), default=1)
    delta = asker.ask("privacy.delta", "Delta", parse=number(0, 0.5), default=propose_delta(records))
    unit = "client" if by_client or "client" in data.get("columns", {}) else "record"
    adjacency = asker.ask(
        "privacy.adjacency",
        f"Neighbouring data differ by one {unit} more or fewer, or replaced",
        choices=("add-or-remove-one", "replace-one"),
        default="add-or-remove-one",
    )
    return {"epsilon": epsilon, "delta": delta, "adjacency": adjacency, "unit": unit}


def propose_delta(records: float) -> float:
    """Returns 1 / (n ln n) rounded down to one digit, n a public guess, as papers do (PAPERS: Aug-PE, PE, Tab-PE).

    >>> propose_delta(20000), propose_delta(1)
    (5e-06, 0.1)
    """
    bound = 1 / (records * max(math.log(records), 1))
    power = 10.0 ** math.floor(math.log10(bound))
    return min(float(f"{math.floor(bound / power + 1e-9) * power:.0e}"), 0.1)


def _parts_by_name(asker: Asker, modality: str) -> dict[str, Any]:
    return {
        kind: {"name": asker.ask(f"{kind}.name", f"The {kind}", choices=registry.names_for(f"{kind}s", modality))}
        for kind in ("generator", "embedder")
    }


def _evolution(asker: Asker, recipe: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns samples and iterations from answers, and for the rest what a plan recommends for this promise.

    The recommended share of the budget for marginals is set in the recipe, where it measures them.
    """
    asker.say("\nHow much is made.")
    whole = number(0, 1e9, whole=True)
    evolution = {**own, "iterations": own.get("iterations", 10)}
    draft = None if asker.faults else draft_of({**recipe, "evolution": evolution})
    proposed = _STAND_IN if draft is None else usual_samples(draft)
    samples = asker.ask("evolution.samples", "Samples to make", parse=whole, default=proposed)
    evolution |= {"samples": samples}
    most, usual = number(0, 10_000, whole=True), evolution["iterations"]
    if draft is not None:
        usual = recommend(draft, make_plan(draft), samples=samples).iterations
    turns = asker.ask("evolution.iterations", "Iterations", parse=most, default=usual)
    evolution = {"iterations": turns} | {key: value for key, value in evolution.items() if key != "iterations"}
    if "population" in evolution or asker.faults:
        return evolution
    draft = draft_of({**recipe, "evolution": evolution})
    advice = recommend(draft, make_plan(draft), samples=samples, iterations=turns)
    if "marginals" in recipe["privacy"]:
        recipe["privacy"] = _measured(asker, recipe["privacy"], advice)
    evolution |= {} if advice.smoothing is None else {"smoothing": advice.smoothing}
    rows = family_rows(draft)
    made = max(samples // rows, 1) * rows
    if made != samples:
        asker.say(f"Samples: {made}, for they come in lots of {rows} (labels times variations).")
    asker.remarks["evolution.population"] = f"recommended: {advice.reason}"
    return {**evolution, "samples": made, "population": advice.population}


def _measured(asker: Asker, privacy: dict[str, Any], advice: Advice) -> dict[str, Any]:
    """Returns `privacy` with the recommended measurements; with their share alone if an answer is about `marginals`."""
    if any(key.startswith("privacy.marginals") for key in asker.given):
        advice = replace(advice, steps=None)
    return with_measurements(privacy, advice)
