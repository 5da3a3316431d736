"""Recipes that lie in a store, with the files that they name, and schemas that say what is different."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pe_beam.errors import RecipeError
from pe_beam.recipe.loading import load_recipe, parse_recipe, set_key
from pe_beam.storage import open_store


def test_a_recipe_and_its_files_are_read_from_a_store(small: dict[str, Any]) -> None:
    store = open_store("memory://recipes/mine")
    table = {"modality": "tabular", "generator": {"name": "tabular"}, "embedder": {"name": "tabular"}}
    table["data"] = {"source": "csv", "path": "records.csv", "schema": "columns/age.yaml"}
    columns = {"columns": {"age": {"type": "integer", "min": 0, "max": 99}}}
    store.commit("recipe.yaml", yaml.safe_dump(small | table).encode())
    with pytest.raises(RecipeError, match=r"^data.schema columns/age.yaml: cannot be read \("):
        load_recipe("memory://recipes/mine/recipe.yaml")
    store.commit("columns/age.yaml", yaml.safe_dump(columns).encode())
    found = load_recipe("memory://recipes/mine/recipe.yaml", ["privacy.epsilon=2"])
    assert found.privacy.epsilon == 2
    assert found.data.table_schema is not None
    assert set(found.data.table_schema["columns"]) == {"age"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "memory://recipes/none.yaml",
            r"recipe memory://recipes/none.yaml: cannot be read \(No such file or directory\)$",
        ),
        ("memory://recipes/text.yaml", "recipe memory://recipes/text.yaml: not valid YAML at line 1"),
        ("memory://recipes/bytes.yaml", r"recipe memory://recipes/bytes.yaml: cannot be read \(not UTF-8 text\)"),
        ("nowhere://recipes/x.yaml", r"recipe nowhere://recipes/x.yaml: cannot be read \(no store is known by nowhere"),
        ("memory://recipes/leaves.yaml", r"data.schema ../../etc/passwd: cannot be read \("),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(url: str, said: str, small: dict[str, Any]) -> None:
    store = open_store("memory://recipes")
    store.commit("text.yaml", b"a: [", replace=True)
    store.commit("bytes.yaml", b"\xff\xfe\x00", replace=True)
    leaves = small | {"modality": "tabular"}
    leaves["data"] = {"source": "csv", "path": "records.csv", "schema": "../../etc/passwd"}
    store.commit("leaves.yaml", yaml.safe_dump(leaves).encode(), replace=True)
    with pytest.raises(RecipeError, match=said):
        load_recipe(url)


def test_a_column_that_is_null_is_left_out_of_a_schema_in_the_recipe(small: dict[str, Any]) -> None:
    table = small | {"modality": "tabular", "generator": {"name": "tabular"}, "embedder": {"name": "tabular"}}
    columns = {"age": {"type": "integer", "min": 0, "max": 99}, "key": {"type": "integer", "min": 0, "max": 9}}
    table["data"] = {"source": "csv", "path": "records.csv", "schema": {"columns": columns}}
    set_key(table, "data.schema.columns.key", None)
    found = parse_recipe(table).data.table_schema
    assert found is not None and set(found["columns"]) == {"age"}
