"""Loads a recipe: reads its file, applies overrides, checks it and resolves it."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.filter import Filter
from pe_beam.contracts.generator import Generator
from pe_beam.errors import RecipeError
from pe_beam.recipe.explain import explain
from pe_beam.recipe.files import NO_VALUE, RecipeFolder, place_of, placed, read_yaml
from pe_beam.recipe.makers import check_phases
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.schemas import SCHEMA, resolve_schema
from pe_beam.recipe.sections.data import same_form
from pe_beam.recipe.sections.part import Part
from pe_beam.recipe.start import resolve_start

_CONTRACTS: dict[str, type] = {"generators": Generator, "embedders": Embedder, "filters": Filter}


def load_recipe(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> Recipe:
    """Reads a recipe, applies overrides, checks it and resolves it.

    Args:
      path: a YAML file, its URL in a store (`gs://bucket/recipe.yaml`), or the name of a shipped recipe (`digits`).
      overrides: "a.b=c" strings (c is read as YAML), or a mapping of dotted keys to values.

    Raises:
      RecipeError: the file cannot be read, a key is unknown (the message suggests the nearest), or a value is not
        allowed.

    >>> recipe = load_recipe("digits", ["privacy.epsilon=2", "evolution.iterations=3"])
    >>> recipe.privacy.epsilon, recipe.evolution.iterations
    (2.0, 3)
    """
    if not isinstance(path, str | os.PathLike):
        raise RecipeError(
            f"recipe: {type(path).__name__} is not allowed; wanted: the name of a shipped recipe, or a path"
        )
    folder, name = place_of(path)
    raw = read_yaml(folder, name, f"recipe {path}")
    if not isinstance(raw, dict):
        raise RecipeError(f"recipe {path}: a mapping with the sections of a recipe is wanted")
    pairs = list(overrides.items()) if isinstance(overrides, Mapping) else [_pair(x) for x in overrides]
    for key, value in pairs:
        set_key(raw, key, value)
    return parse_recipe(raw, folder=folder.at)


def parse_recipe(raw: Mapping[str, Any], *, folder: str | Path = ".") -> Recipe:
    """Checks and resolves a recipe that is plain data. Raises RecipeError as `load_recipe` does.

    Args:
      raw: the sections.
      folder: folder, or URL of a store, of relative files: of `data.schema`, and of options with {file: PATH}.
        `load_recipe` passes the folder of the recipe.
    """
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, Recipe)) from None
    except RecursionError:
        raise RecipeError("recipe: nested too deeply") from None
    files = RecipeFolder(folder)
    _check_clients(recipe)
    found = _resolve_stream(_resolve_custody(_resolve_preparation(resolve_schema(recipe, files))))
    found = _resolve_book(found, files)
    return resolve_start(_resolve_parts(found, files), files)


def _check_clients(recipe: Recipe) -> None:
    """Refuses sources of single rows, another privacy unit and windows, where a record is all rows of a client."""
    if not registry.find("modalities", recipe.modality, key="modality").by_client:
        return
    if not registry.find("sources", recipe.data.source, key="data.source").gathers:
        able = [name for name in registry.names("sources") if registry.find("sources", name, key="data.source").gathers]
        raise RecipeError(
            f"data.source: {recipe.data.source!r} is not allowed for modality {recipe.modality!r}, whose records are "
            f"clients with all their rows; allowed: {', '.join(able)} (data.options says what the files are)"
        )
    if recipe.privacy.unit != "client":
        raise RecipeError(
            f"privacy.unit: client is wanted for modality {recipe.modality!r}, whose records are clients with all "
            "their rows"
        )
    if recipe.stream is not None:
        raise RecipeError(f"stream: modality {recipe.modality!r} has no windows; a client's rows are gathered over all")


def _resolve_preparation(recipe: Recipe) -> Recipe:
    """Fills in the defaults of data.prepare."""
    model = registry.find("modalities", recipe.modality, key="modality").preparation
    raw = recipe.data.prepare
    if raw is None:
        return recipe
    if model is None:
        raise RecipeError(f"data.prepare: modality {recipe.modality!r} takes none")
    try:
        plain = model.model_validate(raw).model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, model, "data.prepare")) from None
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"prepare": plain})})


def _resolve_custody(recipe: Recipe) -> Recipe:
    """Fills in the options of who keeps the secret."""
    given = recipe.privacy.secret
    if given is None:
        return recipe
    cls = registry.find("custody", given.custody, key="privacy.secret.custody")
    options = _plain_options(cls, given.options, "privacy.secret")
    secret = type(given)(custody=given.custody, **options)
    return recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"secret": secret})})


def _resolve_book(recipe: Recipe, folder: RecipeFolder) -> Recipe:
    """Makes the place of the budget book absolute."""
    if recipe.privacy.book is None:
        return recipe
    place = placed(recipe.privacy.book, folder)
    return recipe.model_copy(update={"privacy": recipe.privacy.model_copy(update={"book": place})})


def _resolve_stream(recipe: Recipe) -> Recipe:
    """Fills in the options of what says which records belong to a window."""
    if recipe.stream is None:
        return recipe
    cls = registry.find("stream_sources", recipe.stream.source, key="stream.source")
    options = _plain_options(cls, recipe.stream.options, "stream.options")
    return recipe.model_copy(update={"stream": recipe.stream.model_copy(update={"options": options})})


def _resolve_parts(recipe: Recipe, folder: RecipeFolder) -> Recipe:
    """Fills in the options of source, generators and embedder, so that a resolved recipe is complete."""
    source = registry.find("sources", recipe.data.source, key="data.source")
    options = _plain_options(source, _with_files(recipe.data.options, folder, "data.options"), "data.options")
    parts: dict[str, Any] = {"data": recipe.data.model_copy(update={"options": options})}
    made = [_resolved("generators", key, part, recipe.modality, folder) for key, part in recipe.generator_parts]
    parts["embedder"] = _resolved("embedders", "embedder", recipe.embedder, recipe.modality, folder)
    filters = [_resolved("filters", key, part, recipe.modality, folder) for key, part in recipe.filter_parts]
    parts["evolution"] = recipe.evolution.model_copy(update={"filters": filters})
    if recipe.generators is None:
        parts["generator"] = made[0]
        return recipe.model_copy(update=parts)
    pairs = zip(recipe.generators, made, strict=True)
    parts["generators"] = [maker.model_copy(update={"generator": part}) for maker, part in pairs]
    check_phases(recipe.model_copy(update=parts))
    return recipe.model_copy(update=parts)


def _resolved(kind: str, key: str, part: Part, modality: str, folder: RecipeFolder) -> Part:
    """Returns a part with its options filled in. Raises RecipeError if it is for another modality, or is no part."""
    cls = registry.find(kind, part.name, key=f"{key}.name", modality=modality)
    _check_contract(kind, cls, f"{key}.name: {part.name!r}")
    if not registry.fits(cls, modality):
        allowed = ", ".join(registry.names_for(kind, modality)) or "none installed"
        raise RecipeError(
            f"{key}.name: {part.name!r} is for modality {cls.modality!r}, not for {modality!r} (allowed: {allowed})"
        )
    return Part(name=part.name, **_plain_options(cls, _with_files(part.options, folder, key), key))


def _check_contract(kind: str, cls: Any, what: str) -> None:
    """Raises RecipeError if what a package has registered is not a class that keeps the contract of its kind."""
    contract = _CONTRACTS[kind]
    if not (inspect.isclass(cls) and issubclass(cls, contract)):
        told = getattr(cls, "__name__", type(cls).__name__)
        raise RecipeError(f"{what} is {told}, which is no subclass of pe_beam.contracts.{contract.__name__}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise RecipeError(f"{what} is {cls.__name__}, which lacks {', '.join(missing)}")
    model = getattr(cls, "Options", None)
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise RecipeError(f"{what} is {cls.__name__}, whose Options is no subclass of pe_beam.contracts.Options")


def _plain_options(cls: Any, raw: Any, key: str) -> dict[str, Any]:
    try:
        options = cls.Options.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, cls.Options, key)) from None
    plain: dict[str, Any] = options.model_dump(mode="json", by_alias=True)
    return plain


def _with_files(value: Any, folder: RecipeFolder, key: str) -> Any:
    """Replaces each {file: PATH} in options with the content of the text file. PATH is relative to the recipe."""
    if isinstance(value, dict):
        if set(value) == {"file"} and isinstance(value["file"], str):
            try:
                return folder.read_text(value["file"])
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                raise RecipeError(f"{key}.file: {value['file']!r} cannot be read ({reason})") from None
        return {_text_key(name): _with_files(inner, folder, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, folder, key) for inner in value]
    return value


def _text_key(key: Any) -> Any:
    """Returns a key of options as text. It may be a label that YAML reads as a number."""
    return str(key) if isinstance(key, int | float) and not isinstance(key, bool) else same_form(key)


def _pair(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"--set {text!r}: a.b=c is wanted")
    return key.strip(), read_value(key.strip(), value)


def read_value(key: str, text: str) -> Any:
    """Returns the value of a `--set`, which is YAML. Raises RecipeError."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {key}={text!r}: the value is not valid YAML") from error
    except ValueError as error:
        raise RecipeError(f"--set {key}: {NO_VALUE}") from error


def set_key(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key in the plain data of a recipe. A name with dots in it is written in double quotes.

    A schema that is the name of a file becomes {file: NAME} with the key beside it, which changes what the file says.

    Raises:
      RecipeError: a parent key is not a section.

    >>> raw = {"data": {"schema": "columns.yaml"}}
    >>> set_key(raw, 'data.schema.columns."last.name".missing', True)
    >>> raw["data"]["schema"]
    {'file': 'columns.yaml', 'columns': {'last.name': {'missing': True}}}
    """
    *parents, last = _parts(key)
    for depth, name in enumerate(parents, start=1):
        below = raw.setdefault(name, {})
        if isinstance(below, str) and tuple(parents[:depth]) == SCHEMA:
            below = raw[name] = {"file": below}
        if not isinstance(below, dict):
            raise RecipeError(f"--set {key}: {name} is not a section")
        raw = below
    raw[last] = value


def _parts(key: str) -> list[str]:
    if '"' not in key:
        return key.split(".")
    found = re.findall(r'"([^"]+)"(?:\.|$)|([^."]+)(?:\.|$)', key)
    if ".".join(f'"{quoted}"' if quoted else bare for quoted, bare in found) != key:
        raise RecipeError(f"--set {key}: names between dots are wanted, in double quotes where a name has dots")
    return [quoted or bare for quoted, bare in found]
