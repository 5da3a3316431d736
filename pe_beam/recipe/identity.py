"""A recipe as plain data and as YAML, and the ids that are computed from it (DESIGN, privacy rule 3)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import yaml
from pydantic import BaseModel

from pe_beam import registry
from pe_beam.contracts.content import Preparation
from pe_beam.contracts.newer import without_newer_defaults
from pe_beam.numbers import json_number
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.data import Split
from pe_beam.recipe.sections.part import Part

_DATA_KEYS = ("source", "path", "columns", "schema", "labels", "holdout", "expected_records", "max_rejects")


def to_plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the resolved recipe as plain data. Infinity is "inf"."""
    plain = recipe.model_dump(mode="python", by_alias=True)
    return _without_inf(plain)


def _without_inf(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_inf(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_inf(v) for v in value]
    return json_number(value) if isinstance(value, float) else value


def to_yaml(recipe: Recipe) -> str:
    """Returns the resolved recipe as YAML. `load_recipe` reads it back to an equal recipe."""
    return yaml.safe_dump(to_plain(recipe), sort_keys=False, allow_unicode=True)


def identity(recipe: Recipe) -> dict[str, Any]:
    """Returns the resolved recipe as plain data, without newer keys at their default (`pe_beam.contracts.newer`)."""
    plain = without_newer_defaults(recipe, to_plain(recipe))
    plain["embedder"] = _identity_of("embedders", "embedder", recipe.embedder, plain["embedder"])
    if recipe.generator is not None:
        plain["generator"] = _identity_of("generators", "generator", recipe.generator, plain["generator"])
    else:
        del plain["generator"]
        for (key, part), maker in zip(recipe.generator_parts, plain["generators"], strict=True):
            maker["generator"] = _identity_of("generators", key, part, maker["generator"])
    if recipe.filter_parts:
        pairs = zip(recipe.filter_parts, plain["evolution"]["filters"], strict=True)
        plain["evolution"]["filters"] = [_identity_of("filters", key, part, own) for (key, part), own in pairs]
    preparation = declared_preparation(recipe)
    if preparation is not None:
        plain["data"]["prepare"] = without_newer_defaults(preparation, plain["data"]["prepare"])
    if "options" in plain["data"]:
        source = registry.find("sources", recipe.data.source, key="data.source").Options
        options = without_newer_defaults(source.model_validate(recipe.data.options), plain["data"].pop("options"))
        plain["data"] |= {"options": options} if options else {}
    if recipe.stream is not None:
        asked = registry.find("stream_sources", recipe.stream.source, key="stream.source").Options
        options = asked.model_validate(recipe.stream.options)
        plain["stream"]["options"] = without_newer_defaults(options, plain["stream"]["options"])
    schema = declared_schema(recipe)
    if schema is not None:
        plain["data"]["schema"] = without_newer_defaults(schema, plain["data"]["schema"])
    return plain


def _identity_of(kind: str, key: str, part: Part, plain: dict[str, Any]) -> dict[str, Any]:
    options = registry.find(kind, part.name, key=f"{key}.name").Options.model_validate(part.options)
    return without_newer_defaults(options, plain)


def declared_schema(recipe: Recipe) -> BaseModel | None:
    """Returns the schema that data.schema declares, or None if the modality has no schema."""
    model = registry.find("modalities", recipe.modality, key="modality").schema_model
    found: BaseModel | None = None if model is None else model.model_validate(recipe.data.table_schema)
    return found


def declared_preparation(recipe: Recipe) -> Preparation | None:
    """Returns the preparation that data.prepare declares, or None if records are not prepared."""
    model = registry.find("modalities", recipe.modality, key="modality").preparation
    given = recipe.data.prepare
    found: Preparation | None = None if model is None or given is None else model.model_validate(given)
    return found


def _shaping(recipe: Recipe) -> dict[str, Any]:
    plain = identity(recipe)
    del plain["execution"], plain["data"]["path"], plain["privacy"]["keep_secret"]
    for key in ("secret", "book"):
        plain["privacy"].pop(key, None)
    for key in ("keep", "keep_private"):
        plain.get("stream", {}).pop(key, None)
    if "start" in plain["evolution"]:
        del plain["evolution"]["start"]["release"]  # its digest says which it is
    return plain


def run_id(recipe: Recipe) -> str:
    """Returns the SHA-256 (hex) of everything in the recipe that shapes the release."""
    canonical = json.dumps(_shaping(recipe), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"pe_beam/run/1" + canonical.encode()).hexdigest()


def differing_keys(old: Recipe, new: Recipe) -> list[str]:
    """Returns the sorted dotted keys that shape the release and differ between two recipes."""
    return sorted(_differ(_shaping(old), _shaping(new), ""))


def _differ(old: Any, new: Any, path: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            key
            for name in {*old, *new}
            for key in _differ(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if old == new else [path]


def embedding_id(recipe: Recipe) -> str:
    """Returns the SHA-256 (hex) of everything in the recipe that shapes private embeddings.

    Two recipes may share shards only if it is equal.
    """
    plain = identity(recipe)
    data = plain["data"]
    parts = [data["labels"], recipe.privacy.unit, recipe.modality, plain["embedder"]]
    parts += [recipe.evolution.distance, data["source"], data["columns"], data["schema"]]
    parts.append(data["holdout"] if isinstance(recipe.data.holdout, Split) else None)
    further = {key: value for key, value in data.items() if key not in _DATA_KEYS}
    parts += [further] if further else []  # keys that are newer than this id, if they are set
    return hashlib.sha256(b"pe_beam/embedding/1" + json.dumps(parts, sort_keys=True).encode()).hexdigest()
