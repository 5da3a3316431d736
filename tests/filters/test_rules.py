"""What each rule passes, and which options it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam import registry
from pe_beam.contracts.filter import Filter
from pe_beam.errors import PeBeamError, RecipeError, StageError
from pe_beam.recipe.loading import load_recipe

TEXT = pa.schema([("text", pa.string())])


def made(name: str, payload: pa.Schema = TEXT, **options: Any) -> Filter:
    cls = registry.find("filters", name, key="name")
    found: Filter = cls(cls.Options.model_validate(options), payload=payload, labels=[None])
    return found


def passing(which: Filter, *texts: str | None) -> list[bool]:
    rows = pa.table({"label": pa.nulls(len(texts), pa.string()), "text": pa.array(texts, pa.string())})
    return list(which.passing(rows, [np.random.default_rng(0)] * len(texts)))


def test_a_pattern_has_to_be_found_or_not() -> None:
    assert passing(made("regex", pattern=r"\bdose\b"), "a dose of it", "overdose", None) == [True, False, False]
    assert passing(made("regex", pattern=r"\d{4}", must="not match"), "in May", "in 2024", None) == [True, False, False]


def test_lengths_are_of_characters_or_words() -> None:
    assert passing(made("length", least=2, most=3), "a", "ab", "abc", "abcd") == [False, True, True, False]
    assert passing(made("length", unit="words", least=2), "one", "one two") == [False, True]
    assert passing(made("length", unit="words", least=3), "好", "还不错。") == [False, True]
    assert passing(made("length", most=1), "\N{LATIN SMALL LETTER E WITH ACUTE}", "ab") == [True, False]


def test_languages_that_can_be_told_have_to_be_allowed() -> None:
    german = "Das Wetter ist heute schön und wir gehen spazieren."
    english = "The weather is fine today and we go for a walk."
    assert passing(made("language", allowed=["de"]), german, english, "ok") == [True, False, True]
    assert passing(made("language", allowed=["de", "en"]), german, english) == [True, True]


def test_json_has_to_agree_with_a_schema() -> None:
    schema = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}
    texts = ['{"age": 3}', '{"age": -1}', "{}", "no json", "[" * 100_000]
    assert passing(made("json-schema", schema=schema), *texts) == [True, False, False, False, False]


def test_a_schema_that_refers_elsewhere_is_not_fetched() -> None:
    for schema in (
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"properties": {"age": {"items": {"$ref": "#/$defs/age"}}}},  # before a candidate with ages has been paid for
    ):
        with pytest.raises(RecipeError, match="refers to one that is not in it"):
            made("json-schema", schema=schema)
    within = {"$defs": {"$ref": {"type": "integer"}}, "enum": [1, {"$ref": "no reference"}], "$ref": "#/$defs/$ref"}
    assert passing(made("json-schema", schema=within), "1", "2") == [True, False]


def test_numbers_that_no_float_holds_do_not_pass_and_stop_nothing() -> None:
    which = made("json-schema", schema={"multipleOf": 0.5})
    assert passing(which, "1.5", "1" + "0" * 400, "1e999", "1" * 5000) == [True, False, False, False]
    assert passing(made("json-schema", schema={}), "1", "NaN", "[-Infinity]") == [True, False, False]


def test_a_function_of_the_users() -> None:
    assert passing(made("python", function="tests.filters.parts:short"), "ab", "abc") == [True, False]
    with pytest.raises(StageError, match=r"raised ValueError$"):
        passing(made("python", function="tests.filters.parts:raising"), "private?")
    with pytest.raises(StageError, match="gave str, not True or False"):
        passing(made("python", function="tests.filters.parts:vague"), "ab")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"name": "regexp", "pattern": "a"}, "did you mean 'regex'"),
        ({"name": "regex", "pattern": "("}, "evolution.filters.0.pattern: .* is no regular expression"),
        ({"name": "length", "least": 3, "most": 2}, "most: is below least"),
        ({"name": "language", "allowed": ["english"]}, "'english' is no code of a language"),
        ({"name": "regex", "pattern": "a", "columns": "x"}, "columns"),
    ],
)
def test_what_is_wrong_is_said_when_the_recipe_is_read(part: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe("digits", [f"evolution.filters={[part]!r}"])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("regex", {"pattern": "a", "column": "note"}, r"column 'note' is no text of these records \(allowed: text\)"),
        ("python", {"function": "tests.filters.parts:absent"}, "is not found"),
        ("python", {"function": "os:sep"}, "'os:sep' is no function"),
        ("python", {"function": "broken_filter:passes"}, r"is not found \(ZeroDivisionError\)"),
        ("json-schema", {"schema": {"type": "objekt"}}, "no JSON Schema"),
        ("judge", {"model": "m", "prompt": "is it good?"}, "{sample} is not in the prompt"),
        ("judge", {"model": "m", "prompt": "{smaple} {sample}"}, "judge: prompt: {smaple} is not known"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_spent(
    name: str, options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_filter.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PeBeamError, match=said):
        made(name, **options)


def test_a_judge_reads_no_pictures() -> None:
    with pytest.raises(RecipeError, match="image is no text"):
        made("judge", pa.schema([("image", pa.binary())]), model="m", prompt="{sample}?")
