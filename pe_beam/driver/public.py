"""The public form of a recipe: `release/recipe.json`, which the report shows.

It leaves out `execution`, `privacy.keep_secret`, `privacy.secret`, `privacy.book` and the keys of `data` that are not
public. It withholds texts among the options of generator and embedder unless their field says that they are public: a
text may be a path, a host or a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from pe_beam import registry
from pe_beam.engine.tables import FORMAT_VERSION
from pe_beam.recipe.identity import identity
from pe_beam.recipe.models import Recipe

WITHHELD = "(withheld)"
_NAME = re.compile(r"[\w.:-]+(/[\w.-]+)?", re.ASCII)  # name of a model at a service or on a hub
_PUBLIC_STREAM = ("source", "window", "sliding", "fresh", "memory", "client_windows", "at")
_PUBLIC_DATA = ("source", "labels", "expected_records", "max_rejects")


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Returns the resolved recipe as plain JSON data, without values that may be private or secret.

    `data` keeps source, labels, expected_records, max_rejects, and a holdout that is a cut; `stream` all but what says
    how files are named and what its source is asked with. The field of an option
    says whether it is shown (`json_schema_extra={"public": ...}`): True, False, a list of the values that may be
    shown, or "name" for a model's name, which is withheld if it looks like a path. If the field says nothing, numbers
    are shown, and of texts only those that its type lists (Literal or Enum). Other texts may be a path, a host or a
    key.
    """
    plain = identity(recipe)
    del plain["execution"], plain["privacy"]["keep_secret"]
    for key in ("secret", "book"):
        plain["privacy"].pop(key, None)
    data = {key: plain["data"][key] for key in _PUBLIC_DATA}
    if isinstance(plain["data"]["holdout"], dict):
        data["holdout"] = plain["data"]["holdout"]
    if recipe.stream is not None:
        data["never_stop"] = True
        plain["stream"] = {key: plain["stream"][key] for key in _PUBLIC_STREAM if key in plain["stream"]}
    plain["data"] = data
    if "start" in plain["evolution"]:
        plain["evolution"]["start"]["release"] = WITHHELD
    if "filters" in plain["evolution"]:
        plain["evolution"]["filters"] = [_shown_part("filters", part) for part in plain["evolution"]["filters"]]
    plain["embedder"] = _shown_part("embedders", plain["embedder"])
    for holder in plain.get("generators", [plain]):
        holder["generator"] = _shown_part("generators", holder["generator"])
    head: dict[str, Any] = {"version": FORMAT_VERSION} | ({} if recipe.notice is None else {"notice": recipe.notice})
    return head | plain


def recipe_json(recipe: Recipe) -> bytes:
    """Returns the bytes of `recipe.json`."""
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
    """Yields the texts that a type lists as its values (Literal or Enum)."""
    if get_origin(annotation) is Literal:
        yield from (value for value in get_args(annotation) if isinstance(value, str))
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from (member.value for member in annotation if isinstance(member.value, str))
    else:
        for inner in get_args(annotation):
            yield from _listed(inner)


def _censored(value: Any, listed: frozenset[str]) -> Any:
    """Withholds texts that are not listed, at every depth, and all keys of mappings."""
    if isinstance(value, dict):
        # Numbers keep the keys different: equal keys would overwrite each other.
        return {f"{WITHHELD} {place}": _censored(below, listed) for place, below in enumerate(value.values())}
    if isinstance(value, list | tuple):
        return [_censored(below, listed) for below in value]
    return WITHHELD if isinstance(value, str) and value not in listed else value
