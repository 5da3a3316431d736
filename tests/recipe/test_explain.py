"""One plain sentence for each key that is wrong, wherever several kinds of value are allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pe_beam.errors import RecipeError
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.explain import explain
from pe_beam.recipe.loading import parse_recipe, set_key

SPLIT = "a mapping with random_state, share, or text"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data.holdout", {"paht": "x"}, "data.holdout.paht: unknown key (allowed: random_state, share)"),
        ("data.holdout", {"shere": 0.2}, "data.holdout.shere: unknown key; did you mean 'share'?"),
        ("data.holdout", {"share": 2}, "data.holdout.share: 2 input should be less than 1"),
        ("data.holdout", 3, f"data.holdout: 3 is not allowed; wanted: {SPLIT}"),
        ("data.holdout", ["x"], f"data.holdout: is not allowed; wanted: {SPLIT}"),
        (
            "data.holdout",
            {"path": "x", "share": 0.2},
            "data: holdout: a path, or a cut with share and random_state; not both",
        ),
        ("data.columns", {"label": 3}, "data.columns.label: 3 is not allowed; wanted: text, or a list"),
        ("data.columns", {"label": ["a", 3]}, "data.columns.label.1: 3 input should be a valid string"),
        (
            "evolution.population",
            "many",
            "evolution.population: 'many' could not convert string to float: 'many'",
        ),
        (
            "evolution.population",
            [3, "many"],
            "evolution.population.1: 'many' could not convert string to float: 'many'",
        ),
        ("evolution.threshold", [1], "evolution.threshold: is not allowed; wanted: a number, or text"),
        (
            "privacy.label_counts",
            "unifrom",
            "privacy.label_counts: 'unifrom' is not allowed; wanted: 'uniform', or a mapping",
        ),
        (
            "privacy.label_counts",
            {"0": "half"},
            "privacy.label_counts.0: 'half' could not convert string to float: 'half'",
        ),
        ("privacy.label_counts", {True: 1}, "privacy.label_counts.1: True is true or false to YAML; in quotes"),
        ("data.labels", "a, b", "data.labels: 'a, b' input should be a valid list"),
        ("iterations", 3, "iterations: unknown key; did you mean 'evolution.iterations'?"),
        ("epsilon", 3, "epsilon: unknown key; did you mean 'privacy.epsilon'?"),
        ("evolution.epsilon", 3, "evolution.epsilon: unknown key"),
        ("data.random_state", 3, "data.random_state: unknown key; did you mean 'holdout.random_state'?"),
        ("data.schmea", {}, "data.schmea: unknown key; did you mean 'schema'?"),
        ("evolution.phases", [{"form": 2}], "evolution.phases.0.form: unknown key; did you mean 'from'?"),
        ("privacy.marginals", {"budgte": 0.1}, "privacy.marginals.budgte: unknown key; did you mean 'budget'?"),
        (
            "execution.llm",
            {"endpoints": [{"base_ulr": "x"}]},
            "execution.llm.endpoints.0.base_ulr: unknown key; did you mean 'base_url'?",
        ),
    ],
)
def test_the_message(key: str, value: Any, told: str, small: Any) -> None:
    set_key(small, key, value)
    with pytest.raises(RecipeError) as caught:
        parse_recipe(small)
    lines = [line for line in str(caught.value).splitlines() if line.startswith(told.split(":", maxsplit=1)[0])]
    assert len(lines) == 1 and lines[0].startswith(told), str(caught.value)
    for word in ("Split", "function-", "dict[", "list[", ".str", "literal"):
        assert word not in str(caught.value)


def test_a_path_in_a_mapping_is_a_path(small: Any) -> None:
    small["data"] |= {"source": "csv", "holdout": {"path": "f.csv"}}
    assert parse_recipe(small).data.holdout == "f.csv"


@pytest.mark.parametrize(("word", "ours"), [("nullable", "missing"), ("places", "decimals"), ("categories", "values")])
def test_words_of_other_programs_for_columns_are_known(word: str, ours: str) -> None:
    raw = {"columns": {"paid": {"type": "float", "min": 0, "max": 9, word: 2}}}
    with pytest.raises(ValidationError) as caught:
        TableSchema.model_validate(raw)
    told = explain(caught.value, raw, TableSchema, "data.schema")
    assert f"data.schema.columns.paid.{word}: unknown key; did you mean '{ours}'?" in told.splitlines()


def test_pydantic_s_words_for_lists_and_mappings_are_ours(small: Any) -> None:
    small["modality"], small["data"]["schema"] = "tabular", {"columns": {}}
    small["data"]["prepare"] = 3
    with pytest.raises(RecipeError, match=r"data\.prepare: 3 input should be a valid mapping") as caught:
        parse_recipe(small)
    assert "ictionary" not in str(caught.value)
