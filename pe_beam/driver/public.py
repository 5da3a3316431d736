"""The recipe as it may leave the building: `release/recipe.json`, which the report shows.

Left out: `execution`, all of `data` but what is declared in public, `privacy.keep_secret`, and texts among the options
of the generator and the embedder, unless their field says that they are public: a text may be a path, a host or a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from pe_beam import registry
from pe_beam.engine.tables import FORMAT_VERSION, NOT_PRIVATE
from pe_beam.recipe.identity import identity
from pe_beam.recipe.models import Recipe

WITHHELD = "(withheld)"
_NAME = re.compile(r"[\w.:-]+(/[\w.-]+)?", re.ASCII)  # of a model at a service, or of a hub's
_PUBLIC_DATA = ("source", "labels", "expected_records", "max_rejects")


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain JSON data without what may be private or secret.

    `data` keeps source, labels, expected_records, max_rejects, and a holdout that is a cut. An option of a part is
    shown or withheld as its field says (`json_schema_extra={"public": ...}`: True, False, a list of the values that
    may be shown, or "name" for a model's name, which is withheld where it looks like a path). Where it says nothing
    numbers are shown, and those texts alone that its type lists (Literal): any other may be a path, a host or a key.
    """
    plain = identity(recipe)
    del plain["execution"], plain["privacy"]["keep_secret"]
    data = {key: plain["data"][key] for key in _PUBLIC_DATA}
    if isinstance(plain["data"]["holdout"], dict):
        data["holdout"] = plain["data"]["holdout"]
    plain["data"] = data
    plain["embedder"] = _shown_part("embedders", plain["embedder"])
    for holder in plain.get("generators", [plain]):
        holder["generator"] = _shown_part("generators", holder["generator"])
    head: dict[str, Any] = {"version": FORMAT_VERSION} | ({} if recipe.private else {"notice": NOT_PRIVATE})
    return head | plain


def recipe_json(recipe: Recipe) -> bytes:
    """The bytes of `recipe.json`."""
    return (json.dumps(public_recipe(recipe), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _shown_part(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    models = registry.find(kind, part["name"], key=f"{kind}: name").Options
    return {name: _shown(name, value, models) for name, value in part.items()}


def _shown(name: str, value: Any, options: type[BaseModel]) -> Any:
    if name == "name":
        return value
    field = options.model_fields.get(name) or next(
        (field for field in options.model_fields.values() if field.alias == name), None
    )
    extra = field.json_schema_extra if field is not None else None
    said = extra.get("public") if isinstance(extra, dict) else None
    if said == "name":
        return value if isinstance(value, str) and _NAME.fullmatch(value) else WITHHELD
    if said is not None:
        return value if said is True or (isinstance(said, list) and value in said) else WITHHELD
    return _censored(value, frozenset(_listed(field.annotation if field is not None else None)))


def _listed(annotation: Any) -> Iterator[str]:
    """The texts that a type names one by one."""
    if get_origin(annotation) is Literal:
        yield from (value for value in get_args(annotation) if isinstance(value, str))
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (member.value for member in annotation if isinstance(member.value, str))
    else:
        for inner in get_args(annotation):
            yield from _listed(inner)


def _censored(value: Any, listed: frozenset[str]) -> Any:
    """Texts that are not listed are withheld, however deep, keys of mappings included."""
    if isinstance(value, dict):
        # Equal keys would take each other's place.
        return {f"{WITHHELD} {place}": _censored(below, listed) for place, below in enumerate(value.values())}
    if isinstance(value, list | tuple):
        return [_censored(below, listed) for below in value]
    return WITHHELD if isinstance(value, str) and value not in listed else value
