"""The schema of a recipe: written in it, or a file, or a file with changes beside it; in our form or another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pe_beam import registry
from pe_beam.errors import RecipeError
from pe_beam.recipe.explain import explain
from pe_beam.recipe.files import RecipeFolder, read_yaml
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.data import same_form

SCHEMA = ("data", "schema")


def resolve_schema(recipe: Recipe, folder: RecipeFolder) -> Recipe:
    """Puts the whole schema into the recipe, with defaults filled in. Raises RecipeError."""
    modality = registry.find("modalities", recipe.modality, key="modality")
    model, given = modality.schema_model, recipe.data.table_schema
    if (model is None) != (given is None):
        rule = "takes none" if model is None else "wants one: the columns, as docs/tables.md says"
        raise RecipeError(f"data.schema: modality {recipe.modality!r} {rule}")
    if model is None:
        return recipe
    raw = same_form(whole_schema(given, folder))
    if modality.adopt_schema is not None and isinstance(raw, Mapping):
        raw = modality.adopt_schema(raw, recipe.data.columns)
    try:
        found = model.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(explain(error, raw, model, "data.schema")) from None
    plain = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"table_schema": plain})})


def whole_schema(given: Any, folder: RecipeFolder) -> Any:
    """Returns what a schema says: the content of its file, with the keys beside `file` in place of the file's own.

    A column that is null is left out.

    Raises:
      RecipeError: the file cannot be read, or is no mapping and has keys beside it.
    """
    if isinstance(given, str):
        return read_yaml(folder, given, f"data.schema {given}")
    if "file" not in given:
        columns = given.get("columns")
        left_out = {name for name, about in columns.items() if about is None} if isinstance(columns, Mapping) else set()
        return merged(given, {"columns": dict.fromkeys(left_out)}) if left_out else given
    name = given["file"]
    if not isinstance(name, str):
        raise RecipeError("data.schema.file: the name of a YAML or JSON file is wanted")
    content = read_yaml(folder, name, f"data.schema {name}")
    if not isinstance(content, Mapping):
        raise RecipeError(f"data.schema {name}: a mapping is wanted, so that keys beside it can change it")
    return merged(same_form(content), {key: value for key, value in given.items() if key != "file"})


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping with another one's keys in place of its own, at every depth; null takes a key away.

    >>> merged({"columns": {"a": {"min": 0, "max": 1}, "b": {}}}, {"columns": {"a": {"max": 9}, "b": None}})
    {'columns': {'a': {'min': 0, 'max': 9}}}
    """
    found = dict(below)
    for key, value in above.items():
        if value is None and key in found:
            del found[key]
        elif isinstance(value, Mapping):
            own = found.get(key)
            found[key] = merged(own if isinstance(own, Mapping) else {}, value)
        else:
            found[key] = value
    return found
