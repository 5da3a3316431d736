"""docs/recipe.md and the JSON schema say what the models say."""

import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.reference import files, json_schema, markdown
from tests.whole_runs import ROOT

RECIPES = sorted((ROOT / "templates/recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", ["docs/recipe.md", "templates/recipe.schema.json"])
def test_the_committed_file_is_current(name):
    assert (ROOT / name).read_text() == files()[name], "write it anew: python -m pe_beam.recipe.reference"


class _Editor(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 and editors do: 1e-5 is one."""


_FLOAT = re.compile(r"^[-+]?[0-9.]+[eE][-+]?[0-9]+$")
_Editor.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def _read(path):
    return yaml.load(path.read_text(), _Editor)  # noqa: S506 - a safe loader


def _properties(node):
    if isinstance(node, dict):
        yield from node.get("properties", {}).items()
        for value in node.values():
            yield from _properties(value)
    elif isinstance(node, list):
        for value in node:
            yield from _properties(value)


def test_every_key_is_explained():
    text = markdown()
    for key, value in _properties(json_schema()):
        assert f"| `{key}` |" in text or "const" in value or key in ("name", "generator", "embedder", "file"), key
    assert "|  |" not in text.replace("| section |  |", ""), "a key without a description"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_schema(path):
    validator = Draft202012Validator(json_schema())
    for recipe in (_read(path), to_plain(load_recipe(path))):
        assert [error.message for error in validator.iter_errors(recipe)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"generator": {"name": "text-render", "sides": 3}},
        {"evolution": {"samples": 10, "iteration": 3}},
        {"privacy": {"epsilon": "none", "delta": 1e-5}},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(wrong):
    raw = _read(ROOT / "templates/recipes/digits.yaml")
    assert not list(Draft202012Validator(json_schema()).iter_errors(raw))
    assert list(Draft202012Validator(json_schema()).iter_errors(raw | wrong))
