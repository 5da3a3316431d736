"""The recipe as it may leave the building: `release/recipe.json`, which the report shows.

Left out: `execution`, all of `data` but what is declared in public, `privacy.keep_secret`, and options of the generator
and the embedder that are, or may be, a path, an address or a key.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from pe_beam import registry
from pe_beam.runs.recipe import Recipe, to_plain
from pe_beam.runs.tables import FORMAT_VERSION, NOT_PRIVATE

WITHHELD = "(withheld)"
_PUBLIC_DATA = ("source", "labels", "expected_records", "max_rejects")
_TELLING = frozenset({"account", "address", "bucket", "credential", "dir", "directory", "endpoint", "file", "folder"})
_TELLING |= {"host", "key", "password", "path", "project", "secret", "token", "uri", "url"}
# In prose, a word that is a path or an address; alone, whatever has a slash or a backslash in it.
_PLACE = re.compile(r"(^|[\s\"'(=,;:])(/|~|\.{1,2}/|\\\\|[A-Za-z]:[\\/])|[A-Za-z][\w+.-]*://|\\")


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain JSON data without what may be private or secret.

    `data` keeps source, labels, expected_records, max_rejects, and a holdout that is a cut. An option of a part is
    shown or withheld as its field says (`json_schema_extra={"public": ...}`: True, False, or a list of the values that
    may be shown). Where it says nothing numbers and names are shown, and whatever is named or looks like a place or a
    key is withheld.
    """
    plain = to_plain(recipe)
    del plain["execution"], plain["privacy"]["keep_secret"]
    data = {key: plain["data"][key] for key in _PUBLIC_DATA}
    if isinstance(plain["data"]["holdout"], dict):
        data["holdout"] = plain["data"]["holdout"]
    plain["data"] = data
    for key, kind in (("generator", "generators"), ("embedder", "embedders")):
        models = registry.find(kind, plain[key]["name"], key=f"{key}.name").Options
        plain[key] = {name: _shown(name, value, models) for name, value in plain[key].items()}
    head: dict[str, Any] = {"version": FORMAT_VERSION} | ({} if recipe.private else {"notice": NOT_PRIVATE})
    return head | plain


def recipe_json(recipe: Recipe) -> bytes:
    """The bytes of `recipe.json`."""
    return (json.dumps(public_recipe(recipe), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _shown(name: str, value: Any, options: type[BaseModel]) -> Any:
    if name == "name":
        return value
    field = options.model_fields.get(name) or next(
        (field for field in options.model_fields.values() if field.alias == name), None
    )
    extra = field.json_schema_extra if field is not None else None
    said = extra.get("public") if isinstance(extra, dict) else None
    if said is not None:
        return value if said is True or (isinstance(said, list) and value in said) else WITHHELD
    return _censored(name, value)


def _censored(name: str, value: Any) -> Any:
    """Strings that may be a place or a key are withheld, however deep."""
    if isinstance(value, dict):
        return {
            (WITHHELD if _is_place(str(key)) else key): _censored(f"{name}_{key}", below)
            for key, below in value.items()
        }
    if isinstance(value, list | tuple):
        return [_censored(name, below) for below in value]
    if isinstance(value, str) and (_is_telling(name) or _is_place(value)):
        return WITHHELD
    return value


def _is_telling(name: str) -> bool:
    words = re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    return any(word in _TELLING or word.removesuffix("s") in _TELLING for word in words)


def _is_place(text: str) -> bool:
    return bool(_PLACE.search(text)) or ("/" in text and not re.search(r"\s", text))
