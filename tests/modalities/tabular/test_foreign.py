"""Schemas that are files, changed beside the file or by --set, and metadata of SDV and DPSDA as schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.errors import RecipeError
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import load_recipe
from tests.modalities.tabular.tables import SCHEMA, TABLE

SDV: dict[str, Any] = {
    "METADATA_SPEC_VERSION": "V1",
    "tables": {
        "guests": {
            "primary_key": "email",
            "columns": {
                "email": {"sdtype": "email", "pii": True},
                "group": {"sdtype": "categorical"},
                "who": {"sdtype": "id"},
                "stars": {"sdtype": "categorical", "order": ["1", "2", "3"]},
                "room": {"sdtype": "categorical"},
                "nights": {"sdtype": "numerical", "computer_representation": "Int64"},
                "income in dollars": {"sdtype": "numerical", "computer_representation": "Float"},
                "fee": {"sdtype": "numerical"},
                "arrives": {"sdtype": "datetime", "datetime_format": "%d %b %Y"},
                "seen": {"sdtype": "datetime", "datetime_format": "%Y-%m-%d %H:%M:%S"},
                "member": {"sdtype": "boolean"},
            },
        }
    },
    "relationships": [],
}
BESIDE: dict[str, Any] = {
    "email": None,
    "room": {"values": ["A", "B"]},
    "nights": {"min": 0, "max": 30},
    "income": {"min": 0, "max": 1000, "missing": True},
    "fee": {"type": "float", "min": 0, "max": 9},
    "arrives": {"min": "2020-01-01", "max": "2030-01-01"},
    "seen": {"min": "2020-01-01T00:00:00", "max": "2030-01-01T00:00:00"},
}


def recipe(folder: Path, schema: Any, **data: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(TABLE | {"data": TABLE["data"] | {"schema": schema} | data}))
    return path


def columns(path: Path, *overrides: str) -> dict[str, Any]:
    schema = load_recipe(path, overrides).data.table_schema
    assert isinstance(schema, dict)
    return dict(schema["columns"])


def test_set_reaches_into_a_schema_given_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    path = recipe(tmp_path, "schema.yaml")
    assert columns(path, "data.schema.columns.age.max=90")["age"] == SCHEMA["columns"]["age"] | {
        "max": 90, "missing": False, "outside": "reject", "weight": 1.0,
    }  # fmt: skip
    assert "zero" not in columns(path, "data.schema.columns.zero=null")
    new = columns(path, 'data.schema.columns."last.name"={type: ordinal, values: [1, 2.5]}')
    assert new["last.name"]["values"] == ["1", "2.5"]
    beside = recipe(tmp_path, {"file": "schema.yaml", "columns": {"age": {"max": 90}}})
    whole = {"columns": SCHEMA["columns"] | {"age": SCHEMA["columns"]["age"] | {"max": 90}}}
    assert run_id(load_recipe(beside)) == run_id(load_recipe(recipe(tmp_path, whole)))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.schema.columns.age.max=-1", r"data\.schema\.columns\.age: bounds reversed"),
        ("data.schema.columns.aeg.max=1", r"data\.schema\.columns\.aeg\.type: field required"),
        ("data.schema.columns.aeg=null", r"data\.schema\.columns\.aeg"),
        ("data.schema.file=none.yaml", r"data\.schema none\.yaml: cannot be read"),
        ('data.schema.columns."age.max=1', "in double quotes"),
        ("data.schema.columns.age.max=[", "not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_s_schema_is_named(tmp_path: Path, override: str, said: str) -> None:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(SCHEMA))
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe(tmp_path, "schema.yaml"), [override])


def test_metadata_of_sdv_are_a_schema_with_what_is_declared_beside_them(tmp_path: Path) -> None:
    """Whatever version they have; names of the file become those of the schema, label and client are no columns."""
    one = SDV["tables"]["guests"]
    shapes = [SDV, one, {"METADATA_SPEC_VERSION": "SINGLE_TABLE_V1", **one}]
    found = []
    for shape in shapes:
        (tmp_path / "metadata.json").write_text(json.dumps(shape))
        found.append(columns(recipe(tmp_path, {"file": "metadata.json", "columns": BESIDE})))
    assert found[0] == found[1] == found[2]
    assert {name: column["type"] for name, column in found[0].items()} == {
        **{"stars": "ordinal", "room": "categorical", "nights": "integer", "income": "float", "fee": "float"},
        **{"arrives": "date", "seen": "datetime", "member": "boolean"},
    }
    assert found[0]["stars"]["values"] == ["1", "2", "3"]
    assert (found[0]["arrives"]["format"], found[0]["income"]["missing"]) == ("%d %b %Y", True)


def test_what_metadata_of_sdv_do_not_say_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(SDV))
    assert main(["plan", str(recipe(tmp_path, "metadata.json")), "--set", "data.schema.columns.nights.min=0"]) == 2
    said = capsys.readouterr().err
    assert "{file: PATH, columns: {NAME: {KEY: VALUE}}}" in said
    assert [line.strip().removeprefix("data.schema.columns.") for line in said.strip().split("\n")[1:]] == [
        "email: null, which leaves it out (its sdtype is email), or a type and what belongs to it",
        "room: values",
        "nights: max",
        "income: min, max",
        "fee: type (integer or float), min, max",
        "arrives: min, max",
        "seen: min, max",
    ]
    several = SDV | {"tables": SDV["tables"] | {"hotels": {"columns": {"city": {"sdtype": "categorical"}}}}}
    (tmp_path / "metadata.json").write_text(json.dumps(several))
    with pytest.raises(RecipeError, match=r"several tables \(guests, hotels\); one is wanted"):
        load_recipe(recipe(tmp_path, "metadata.json"))
    alone = {"file": "metadata.json", "tables": {"hotels": None}, "columns": BESIDE}
    assert "room" in columns(recipe(tmp_path, alone))


def test_metadata_of_dpsda_are_a_schema(tmp_path: Path) -> None:
    metadata = {"cat_columns": ["city"], "int_columns": ["age"], "float_columns": [], "label_columns": ["kind"]}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(tmp_path, "metadata.json"))
    assert [line.strip() for line in str(caught.value).split("\n")[1:]] == [
        "data.schema.columns.city: values",
        "data.schema.columns.age: min, max",
        "data.columns.label: [kind]",
    ]
    beside = {"file": "metadata.json", "columns": {"city": {"values": ["x"]}, "age": {"min": 0, "max": 9}}}
    found = columns(recipe(tmp_path, beside, columns={"label": "kind"}))
    assert {name: column["type"] for name, column in found.items()} == {"city": "categorical", "age": "integer"}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata | {"cat_columns": "city"}))
    with pytest.raises(RecipeError, match=r"data\.schema\.cat_columns: a list of names"):
        load_recipe(recipe(tmp_path, "metadata.json"))
