"""Writes a recipe as YAML with a comment on each key."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import BaseModel

from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.data import Data
from pe_beam.recipe.sections.evolution import Evolution
from pe_beam.recipe.sections.privacy import Privacy

_WIDE = 72
_COLUMN = 34
_HEAD = """\
# Written by `pe-beam init`. Every key, allowed value and default: docs/recipe.md. Next:
#   pe-beam plan {path}                      what it spends and makes; no data is touched
#   pe-beam run {path} --run-dir runs/{name}
# All that is written here is public but data.path and data.columns: it is declared, not read off the data.
"""


def render(
    recipe: Mapping[str, Any],
    *,
    path: str,
    schema: str,
    options: Mapping[str, type[BaseModel]],
    remarks: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Returns the text of the recipe file.

    Args:
      recipe: plain data that `parse_recipe` accepts.
      path: path of the file, for the comments.
      schema: path of the JSON schema for editors; empty for none.
      options: "generator" and "embedder" -> the model of its options.
      remarks: "section.key" -> a comment line above the key.
    """
    models: dict[str, type[BaseModel]] = {"data": Data, "evolution": Evolution, "privacy": Privacy, **options}
    lines = [f"# yaml-language-server: $schema={schema}"] if schema else []
    lines.append(_HEAD.format(path=shlex.quote(path), name=recipe["name"]))
    for key in ("name", "seed", "data", "modality", "generator", "embedder", "evolution", "privacy", "execution"):
        if key not in recipe:
            continue
        if isinstance(recipe[key], Mapping):
            lines += ["", f"{key}:{_note(Recipe, key)}"]
            lines += _section(recipe[key], models.get(key), {k: remarks.get(f"{key}.{k}") for k in recipe[key]})
        else:
            lines += [*([""] if key == "modality" else []), _entry(key, recipe[key], "", _note(Recipe, key))]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def _section(
    values: Mapping[str, Any], model: type[BaseModel] | None, remarks: Mapping[str, str | None]
) -> Iterator[str]:
    for key, value in values.items():
        if remarks[key]:
            yield f"  # {remarks[key]}"
        yield _entry(key, value, "  ", _note(model, key))


def _entry(key: str, value: Any, indent: str, note: str) -> str:
    flow = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True).removesuffix("...\n").strip()
    if len(flow) <= _WIDE or not isinstance(value, Mapping | list):  # a long text has no block form
        return f"{indent}{_key(key)}: {flow}".ljust(_COLUMN if note else 0) + note
    block = yaml.safe_dump(value, default_flow_style=None, width=100, sort_keys=False, allow_unicode=True)
    inner = "\n".join(f"{indent}  {line}" for line in block.rstrip("\n").split("\n"))
    return f"{indent}{_key(key)}:{note}\n{inner}"


def _key(key: str) -> str:
    return yaml.safe_dump(key, allow_unicode=True).removesuffix("...\n").strip()


def _note(model: type[BaseModel] | None, key: str) -> str:
    if model is None:
        return ""
    for name, info in model.model_fields.items():
        if key in (name, info.alias) and info.description:
            return f"  # {info.description}"
    return ""
