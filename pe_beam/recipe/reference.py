"""Writes the reference of the recipe from its models: docs/recipe.md and templates/recipe.schema.json.

    python -m pe_beam.recipe.reference

writes both files again, from the root of a checkout. A test checks that they are current.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from pe_beam.recipe.models import Recipe

_LONGEST = 60
_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "additionalProperties": False,
    "required": ["file"],
}
_INTRO = """\
# The recipe, key by key

Made from the models by `python -m pe_beam.recipe.reference`; a test keeps it current. `pe-beam init` writes a recipe
for your own data, `pe-beam plan RECIPE` checks one without touching data, and editors that know JSON schemas complete
and check it: put this on its first line.

```yaml
# yaml-language-server: $schema=PATH/TO/templates/recipe.schema.json
```

Unknown keys are refused, and the nearest known one is named. Numbers may be written as Python's `float()` reads them
(`1e-5`, `inf`). `--set a.b=c` changes a key from the command line.

Options of a generator or an embedder take the content of a file, `{file: PATH}` relative to the recipe, wherever they
take a text or a list of texts (then a line each).

A **schedule** is one number for all iterations; a list of as many numbers as there are iterations; or
`{from: a, to: b, decay: linear}`. What shapes the release may not change once a run has started; keys that may are in
`execution`, and `data.path` and `privacy.keep_secret`. `privacy.secret` and `privacy.book` shape nothing, but a
secret stays where it is, and a run in its book.
"""


def own_parts() -> Iterator[tuple[str, str, Any]]:
    """Yields (kind, name, class) of the generators, embedders and filters of this package, not of third parties."""
    for kind in ("generators", "embedders", "filters"):
        for point in sorted(entry_points(group=f"pe_beam.{kind}"), key=lambda found: found.name):
            if point.module.split(".")[0] == "pe_beam":
                yield kind, point.name, point.load()


def own_schemas() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields (name, model of `data.schema`) of the modalities of this package that need a schema."""
    for point in sorted(entry_points(group="pe_beam.modalities"), key=lambda found: found.name):
        if point.module.split(".")[0] == "pe_beam" and (model := point.load().schema_model):
            yield point.name, model


def own_preparations() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields (name, model of `data.prepare`) of the modalities of this package that have one."""
    for point in sorted(entry_points(group="pe_beam.modalities"), key=lambda found: found.name):
        if point.module.split(".")[0] == "pe_beam" and (model := point.load().preparation):
            yield point.name, model


def own_sources() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields (name, model of `data.options`) of the sources of this package that have options."""
    for point in sorted(entry_points(group="pe_beam.sources"), key=lambda found: found.name):
        if point.module.split(".")[0] == "pe_beam" and (model := point.load().Options).model_fields:
            yield point.name, model


def own_custodies() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields (name, model of the other keys of `privacy.secret`) of the custodies of this package."""
    for point in sorted(entry_points(group="pe_beam.custody"), key=lambda found: found.name):
        if point.module.split(".")[0] == "pe_beam":
            yield point.name, point.load().Options


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema of a recipe, with the options, schemas and preparations of all parts of this package."""
    schema = Recipe.model_json_schema(by_alias=True)
    schema["anyOf"] = [{"required": ["generator"]}, {"required": ["generators"]}]
    for kind, name, cls in own_parts():
        key = kind.removesuffix("s")
        options = _defined(schema, f"{key} {name}", cls.Options, rewrite=_or_file)
        options["properties"] = {"name": {"const": name}, **options["properties"]}
        chosen = {"properties": {key: {"type": "object", "properties": {"name": {"const": name}}}}}
        then = {"properties": {key: {"$ref": f"#/$defs/{key} {name}"}}}
        if kind == "filters":
            named = {"type": "object", "properties": {"name": {"const": name}}}
            items = schema["$defs"]["Evolution"]["properties"]["filters"]["items"]
            items.setdefault("allOf", []).append({"if": named, "then": {"$ref": f"#/$defs/{key} {name}"}})
            continue
        for holder in (schema, schema["$defs"]["Maker"]) if key == "generator" else (schema,):
            holder.setdefault("allOf", []).append({"if": chosen, "then": then})
    for name, model in own_schemas():
        _defined(schema, f"schema {name}", model)
        either = {"anyOf": [{"$ref": f"#/$defs/schema {name}"}, {"type": "string"}]}
        wanted = {"properties": {"data": {"properties": {"schema": either}}}}
        schema["allOf"].append({"if": {"properties": {"modality": {"const": name}}}, "then": wanted})
    for name, model in own_preparations():
        _defined(schema, f"prepare {name}", model)
        or_null = {"anyOf": [{"$ref": f"#/$defs/prepare {name}"}, {"type": "null"}]}
        wanted = {"properties": {"data": {"properties": {"prepare": or_null}}}}
        schema["allOf"].append({"if": {"properties": {"modality": {"const": name}}}, "then": wanted})
    for name, model in own_sources():
        _defined(schema, f"options {name}", model, rewrite=_or_file)
        given = {"data": {"properties": {"source": {"const": name}}}}
        wanted_of_it = {"data": {"properties": {"options": {"$ref": f"#/$defs/options {name}"}}}}
        schema["allOf"].append({"if": {"properties": given}, "then": {"properties": wanted_of_it}})
    for name, model in own_custodies():
        kept = _defined(schema, f"custody {name}", model)
        kept["properties"] = {"custody": {"const": name}, **kept["properties"]}
        named = {"type": "object", "properties": {"custody": {"const": name}}}
        holder = schema["$defs"]["SecretCustody"]
        holder.setdefault("allOf", []).append({"if": named, "then": {"$ref": f"#/$defs/custody {name}"}})
    return schema


def _or_file(node: Any) -> Any:
    """Adds the form {file: PATH} wherever options allow a text or a list of texts (then each line is one text)."""
    if isinstance(node, list):
        return [_or_file(each) for each in node]
    if not isinstance(node, dict):
        return node
    texts = node.get("type") == "array" and node.get("items") == {"type": "string"}
    plain = node.get("type") == "string" and "enum" not in node and "const" not in node
    if texts or plain:
        about = {key: node[key] for key in ("title", "description", "default") if key in node}
        kind = {key: value for key, value in node.items() if key not in about}
        either = [kind, {"$ref": "#/$defs/file"}]
        return {"anyOf": [*either, {"type": "string"}] if texts else either, **about}
    return {key: _or_file(value) for key, value in node.items()}


def _defined(
    schema: dict[str, Any], name: str, model: type[BaseModel], *, rewrite: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Adds a model, and the models that it refers to, under `$defs`."""
    own = model.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    if rewrite is not None:
        schema["$defs"]["file"] = _FILE
        own = rewrite(own)
    schema["$defs"] |= own.pop("$defs", {})
    schema["$defs"][name] = own
    return own


def files() -> dict[str, str]:
    """Returns both files: path from the root of a checkout -> content."""
    schema = json.dumps(json_schema(), indent=1) + "\n"
    return {"docs/recipe.md": markdown(), "templates/recipe.schema.json": schema}


def markdown() -> str:
    """Returns docs/recipe.md: one table per section, one row per key."""
    schema = Recipe.model_json_schema(by_alias=True)
    parts = [_INTRO, f"## Top level\n\n{_table(schema, schema)}"]
    parts += [f"## `{path}`\n\n{text}" for path, text in _below(schema, schema, "", {"Part"})]
    for kind, name, cls in own_parts():
        own = cls.Options.model_json_schema(by_alias=True)
        title = f"{kind.removesuffix('s')} `{name}`"
        parts += [f"## {title[0].upper()}{title[1:]}\n\n{_first_line(cls)}\n\n{_table(own, own)}"]
        parts += [f"### `{path}` of {title}\n\n{text}" for path, text in _below(own, own, "", set())]
    for name, model in own_schemas():
        own = model.model_json_schema(by_alias=True)
        parts += [f"## `data.schema` of modality `{name}`\n\n{_first_line(model)}\n\n{_table(own, own)}"]
        parts += [f"### `{path}` of it\n\n{text}" for path, text in _below(own, own, "", set())]
    further = [(f"`data.prepare` of modality `{name}`", model) for name, model in own_preparations()]
    further += [(f"`data.options` of source `{name}`", model) for name, model in own_sources()]
    further += [(f"`privacy.secret` of custody `{name}`", model) for name, model in own_custodies()]
    for title, model in further:
        own = model.model_json_schema(by_alias=True)
        parts.append(f"## {title}\n\n{_first_line(model)}\n\n{_table(own, own)}")
    return "\n".join(parts)


def _first_line(cls: type[BaseModel]) -> str:
    return (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _below(node: Mapping[str, Any], root: Mapping[str, Any], path: str, known: set[str]) -> Iterator[tuple[str, str]]:
    """Yields (dotted path, text) of all sections below one section. A model that occurs twice is shown once."""
    for key, value in node.get("properties", {}).items():
        for below in _models(value, root):
            if below["title"] in known:
                continue
            known.add(below["title"])
            where = f"{path}.{key}" if path else key
            yield where, f"{below.get('description', '')}\n\n{_table(below, root)}"
            yield from _below(below, root, where, known)


def _models(value: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the models of a value, of the items of its list, or of the values of its mapping."""
    value = _found(value, root)
    if value.get("properties"):
        yield value
        return
    inner = [value.get("items"), value.get("additionalProperties"), *value.get("anyOf", [])]
    for choice in inner:
        if isinstance(choice, dict):
            yield from _models(choice, root)


def _found(value: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = value.get("$ref")
    return root["$defs"][reference.removeprefix("#/$defs/")] if reference else value


def _table(node: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    lines = ["| key | what | allowed | default |", "|---|---|---|---|"]
    made = _made_defaults(node["title"])
    for key, value in node["properties"].items():
        what = value.get("description") or _found(value, root).get("description", "")
        if key in node.get("required", []):
            default = "**required**"
        else:
            given = value.get("default", made.get(key))
            default = "" if isinstance(given, BaseModel) else f"`{_shown(given)}`"
        cells = [f"`{key}`", what, _allowed(value, root), default]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    text = json.dumps(to_jsonable_python(value, exclude_none=True), ensure_ascii=False)
    return text if len(text) <= _LONGEST else "..."


def _made_defaults(title: str) -> dict[str, Any]:
    """Returns the defaults of the model with this title. A JSON schema has no defaults that a factory makes."""
    waiting: list[type[BaseModel]] = [BaseModel]
    while waiting:
        cls = waiting.pop()
        if cls.__name__ == title and cls.__module__.startswith("pe_beam."):
            fields = {info.alias or name: info for name, info in cls.model_fields.items()}
            return {key: info.get_default(call_default_factory=True) for key, info in fields.items()}
        waiting += cls.__subclasses__()
    return {}


_KINDS = {"integer": "whole number", "string": "text", "boolean": "true, false", "object": "mapping"}
_BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "below {}",
    "pattern": "`{}`",
}


def _allowed(value: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Returns a type and its bounds in words: "number, above 0, below 1"."""
    value = _found(value, root)
    if choices := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_allowed(choice, root) for choice in choices))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{choice}`" for choice in value.get("enum") or [value["const"]])
    if "properties" in value:
        return "section"
    kind = value.get("type", "anything")
    if kind == "array":
        return _array(value, root)
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"mapping to {_allowed(value['additionalProperties'], root)}"
    return ", ".join(
        [_KINDS.get(kind, kind), *(text.format(value[key]) for key, text in _BOUNDS.items() if key in value)]
    )


def _array(value: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "prefixItems" in value:
        return "[" + ", ".join(_allowed(choice, root) for choice in value["prefixItems"]) + "]"
    return f"list of {_allowed(value.get('items', {}), root)}"


def main() -> None:
    """Writes both files."""
    for name, text in files().items():
        Path(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
