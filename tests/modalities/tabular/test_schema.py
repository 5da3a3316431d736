"""Schemas that are refused, files' columns as codes, and what a file may hold on a bad day."""

from __future__ import annotations

import copy
import datetime as dt
import decimal
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pe_beam.contracts.asking import Asker
from pe_beam.errors import DataError, InputError
from pe_beam.init.main import write_recipe
from pe_beam.modalities.tabular import modality_of
from pe_beam.modalities.tabular.codec import TableContent, decode_payload, encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.propose import _bounds, propose_schema
from pe_beam.modalities.tabular.reading import read_column
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.sources import open_source
from tests.modalities.tabular.conftest import KINDS


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"type": "integer", "min": 5, "max": 1}, "reversed"),
        ({"type": "integer", "min": 0.5, "max": 1}, "whole"),
        ({"type": "integer", "min": 0, "max": 2**53}, "2\\^53"),
        ({"type": "integer", "min": 0}, "min and max"),
        ({"type": "float", "min": 0, "max": float("inf")}, "finite"),
        ({"type": "float", "min": "nan", "max": 1}, "finite"),
        ({"type": "float", "min": -1e308, "max": 1e308}, "wide"),
        ({"type": "float", "min": True, "max": 1}, "true or false"),
        ({"type": "date", "min": "2020-13-01", "max": "2020-12-01"}, "'2020-13-01': a date as YYYY-MM-DD is"),
        ({"type": "date", "min": 0, "max": "2020-12-01"}, "date: 0: a date as YYYY-MM-DD is wanted"),
        ({"type": "datetime", "min": "noon", "max": "2020-12-01"}, "'noon': a date and time as YYYY-MM-DDTHH:MM:SS is"),
        ({"type": "integer", "min": "abc", "max": 3}, "integer: 'abc': a number is wanted"),
        ({"type": "float", "min": 0, "max": 10**400}, "float64"),
        ({"type": "integer", "min": -(10**400), "max": 3}, "float64"),
        ({"type": "date", "min": 10**400, "max": "2020-12-01"}, r"a date as YYYY-MM-DD"),
        ({"type": "categorical", "values": []}, "values"),
        ({"type": "categorical", "values": ["a", "a"]}, "twice"),
        ({"type": "categorical", "values": [True, "b"]}, "true, false, yes, no, null, dates, .* in quotes"),
        ({"type": "categorical", "values": [None, "b"]}, "in quotes"),
        ({"type": "ordinal", "values": [dt.date(2024, 1, 31)]}, "in quotes"),
        ({"type": "ordinal", "values": [float("inf")]}, "in quotes"),
        ({"type": "categorical", "values": ["a"], "outside": "clip"}, "rejected"),
        ({"type": "boolean", "values": ["a"]}, "no values"),
        ({"type": "float", "min": 0, "max": 1, "weight": 0}, "greater than 0"),
        ({"type": "colour"}, "type"),
    ],
)
def test_a_column_that_cannot_be_is_refused(column: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TableSchema.model_validate({"columns": {"x": column}})


@pytest.mark.parametrize(
    "schema",
    [
        {"columns": {}},
        {"columns": {"label": {"type": "boolean"}}},
        {"columns": {" ": {"type": "boolean"}}},
        {"columns": {f"c{i}": {"type": "boolean"} for i in range(3000)}},
        {"columns": {"a": {"type": "boolean"}}, "constraints": [{"less_or_equal": ["a", "b"]}]},
        {"columns": {"a": {"type": "boolean"}}, "constraints": [{}]},
    ],
)
def test_a_schema_that_cannot_be_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TableSchema.model_validate(schema)


def test_a_constraint_wants_numbers_too() -> None:
    columns = {"n": {"type": "integer", "min": 0, "max": 9}, "b": {"type": "boolean"}}
    for bound, said in ((10**400, "float64"), ("much", "'much': a number is wanted")):
        rule = {"if": {"b": [True]}, "then": {"n": {"max": bound}}}
        with pytest.raises(ValidationError, match=said):
            TableSchema.model_validate({"columns": columns, "constraints": [rule]})


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"if": {"wrad": ["a"]}, "then": {"age": [1]}}, "'wrad' is no declared column; allowed: ward, age, day, temp"),
        ({"if": {"ward": ["c"]}, "then": {"age": [1]}}, r"if\.ward: 'c' is not among .*; allowed: a, b"),
        ({"if": {"ward": ["a"]}, "then": {"age": {"min": 200}}}, r"then\.age: .* by min 200; .* from 0 to 99"),
        ({"if": {"ward": ["a"]}, "then": {"temp": [36.65]}}, r"then\.temp: .* by 36\.65; .* in steps of 0.1"),
        ({"if": {"ward": ["a"]}, "then": {"day": {"max": "2025-13-01"}}}, r"then\.day: .*YYYY-MM-DD"),
        ({"less_or_equal": ["age", "day"]}, "numbers, or columns of one type"),
        ({"if": {"age": [1]}, "then": {"age": [2]}}, "age is in if and in then"),
    ],
)
def test_which_constraint_is_wrong_is_said(rule: dict[str, Any], said: str) -> None:
    columns = {
        "ward": {"type": "categorical", "values": ["a", "b"]},
        "age": {"type": "integer", "min": 0, "max": 99},
        "day": {"type": "date", "min": "1970-01-01", "max": "2025-12-31"},
        "temp": {"type": "float", "min": 34, "max": 42, "decimals": 1},
    }
    fine = {"if": {"ward": ["a"]}, "then": {"age": {"max": 15}}}
    with pytest.raises(ValidationError, match=rf"constraints\.1: {said}"):
        TableSchema.model_validate({"columns": columns, "constraints": [fine, rule]})


def test_values_may_be_numbers_without_quotes() -> None:
    text = """
      columns:
        size: {type: ordinal, values: [1, 1.5, 2, 0.00001]}
        since: {type: date, min: 2000-01-01, max: 2020-01-01}
      constraints:
        - {if: {size: [1.5, 2]}, then: {since: {min: 2010-01-01}}}
    """
    schema = TableSchema.model_validate(yaml.safe_load(text))
    assert schema.columns["size"].choices == ("1", "1.5", "2", "0.00001")
    for array in (pa.array(["1.5", "2", "1"]), pa.array([1.5, 2.0, 1.0]), pa.array([1.5, 2.0, 1.0], pa.float32())):
        codes, bad = read_column(array, schema.columns["size"])
        assert codes.tolist() == [1, 2, 0] and not bad


@pytest.mark.parametrize("value", [None, dt.date(2024, 1, 31), True])
def test_a_condition_says_what_wants_quotes(value: Any) -> None:
    columns = {"a": {"type": "categorical", "values": ["x"]}, "b": {"type": "boolean"}}
    rule = {"if": {"b": [True]}, "then": {"a": [value]}}
    with pytest.raises(ValidationError, match="in quotes"):
        TableSchema.model_validate({"columns": columns, "constraints": [rule]})


def _read(given_: list[Any] | pa.Array, **column: Any) -> tuple[list[float | None], dict[str, list[int]]]:
    array = given_ if isinstance(given_, pa.Array) else pa.array(given_)
    codes, bad = read_column(array, Column.model_validate(column))
    shown = [None if np.isnan(x) else float(x) for x in codes]
    return shown, {kind: np.flatnonzero(rows).tolist() for kind, rows in bad.items()}


def test_integers_of_all_kinds_of_columns() -> None:
    texts = ["1", " 7 ", "+3", "2.0", "2.5", "x", "", "inf", "-nan", "9007199254740993", "1e1", "1_0", None]
    codes, bad = _read(texts, type="integer", min=0, max=9, missing=True)
    assert codes[:4] == [1, 7, 3, 2] and codes[6] is None and codes[8] is None and codes[12] is None
    assert bad == {
        "not a whole number": [4],
        "value that is no number": [5, 11],
        "number that is not finite": [7],
        "whole number of 2^53 or more": [9],
        "value out of its declared bounds": [9, 10],
    }
    codes, bad = _read([-5, 5, 50], type="integer", min=0, max=9, outside="clip")
    assert codes == [0, 5, 9] and bad == {}
    assert _read([2**60, 2**53 - 1], type="integer", min=0, max=9, outside="clip")[1] == {
        "whole number of 2^53 or more": [0]
    }
    assert _read([1.0, None, float("nan"), float("inf")], type="integer", min=0, max=9)[1] == {
        "number that is not finite": [3],
        "missing value": [1, 2],
    }


def test_choices_dates_and_times() -> None:
    codes, bad = _read(["b", "c", None, ""], type="categorical", values=["a", "b", ""], missing=True)
    assert codes == [1, None, None, 2] and bad == {"category that is not declared": [1]}
    assert _read([1, 2], type="categorical", values=[1, 3])[1] == {"category that is not declared": [1]}
    assert _read(["True", "0", "maybe"], type="boolean") == ([1, 0, None], {"value that is not true or false": [2]})
    codes, bad = _read(["1970-01-02", "2020-02-30", "1800-01-01"], type="date", min="1970-01-01", max="2000-01-01")
    assert codes[0] == 1
    assert bad == {"value that is no date": [1], "value out of its declared bounds": [2]}
    stamps = pa.array([86_400_000 + 5, None], pa.timestamp("ms", "UTC"))
    assert _read(stamps, type="datetime", min="1970-01-01", max="1980-01-01", missing=True)[0] == [86400, None]
    assert _read(stamps, type="date", min="1970-01-01", max="1980-01-01", missing=True)[0] == [1, None]
    texts = ["1970-01-01T01:00:00+01:00"]
    assert _read(texts, type="datetime", min="1970-01-01", max="1980-01-01")[0] == [0]


def test_a_column_of_nothing() -> None:
    assert _read(pa.nulls(2), type="float", min=0, max=1, missing=True) == ([None, None], {})
    assert _read(pa.nulls(2), type="float", min=0, max=1)[1] == {"missing value": [0, 1]}


@given(st.lists(st.tuples(*(st.floats(0, 1) for _ in KINDS["columns"])), min_size=1, max_size=20))
def test_payload_and_codes_are_the_same_thing(rows: list[tuple[float, ...]]) -> None:
    schema = TableSchema.model_validate(KINDS)
    codes = np.empty((len(rows), len(schema.columns)))
    for i, column in enumerate(schema.columns.values()):
        share = np.array([row[i] for row in rows])
        codes[:, i] = column.low + share * (column.high - column.low)
        codes[:, i] = np.round(codes[:, i]) if column.whole else codes[:, i]
        if column.missing:
            codes[share > 0.9, i] = np.nan
    table = decode_payload(codes, schema)
    assert table.schema == schema.payload
    assert np.array_equal(encode_payload(table, schema), codes, equal_nan=True)
    # What is released can be read as private data again, by value and as text.
    content = TableContent(schema)
    for again in (table, pa.table([column.cast(pa.string()) for column in table.columns], names=table.column_names)):
        payload, faults = content.convert(again)
        assert not faults
        assert np.allclose(encode_payload(payload, schema), codes, rtol=1e-12, equal_nan=True)


def test_a_payload_is_the_same_after_parquet_kept_it(kinds: TableSchema) -> None:
    """Parquet has no seconds: a time that came back as milliseconds was out of bounds."""
    codes = np.array([[column.low for column in kinds.columns.values()]])
    kept = io.BytesIO()
    pq.write_table(decode_payload(codes, kinds), kept)
    again = pq.read_table(kept)
    assert again.schema == kinds.payload
    assert np.array_equal(encode_payload(again, kinds), codes)


def test_first_fault_of_a_row_is_told_and_types_are_checked(kinds: TableSchema) -> None:
    content = TableContent(kinds)
    row = {"age": 300, "income": 1.0, "city": "Bonn", "member": True, "size": "S", "joined": None}
    row |= {"seen": "2020-01-01 10:00:00", "constant": 7}
    payload, faults = content.convert(pa.table({name: [value] for name, value in row.items()}))
    assert [fault.kind for fault in faults.values()] == ["column age: value out of its declared bounds"]
    assert payload.schema == kinds.payload
    assert content.wanted("age", pa.bool_()) and content.wanted("city", pa.timestamp("s"))
    assert content.wanted("joined", pa.int64()) and not content.wanted("income", pa.decimal128(10, 2))
    assert modality_of(kinds).payload.names == list(KINDS["columns"])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ({"type": "date", "min": "1900-01-01", "max": "2100-01-01"}, pa.array([18262, 2**31 - 1], pa.date32())),
        (
            {"type": "date", "min": "1900-01-01", "max": "2100-01-01"},
            pa.array([0, -(2**63)], pa.timestamp("us", "UTC")),
        ),
        ({"type": "datetime", "min": "1900-01-01", "max": "2100-01-01"}, pa.array([0, 2**63 - 1], pa.timestamp("ms"))),
        ({"type": "categorical", "values": ["a"]}, pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())),
    ],
    ids=["a day", "a time with a zone", "a time", "no UTF-8"],
)
def test_what_python_cannot_hold_is_a_reject_of_its_own(column: dict[str, Any], values: pa.Array) -> None:
    """Arrow holds such values; to show one in private/rejects ended the run, never_stop or not."""
    payload, faults = TableContent(TableSchema(columns={"c": column})).convert(pa.table({"c": values}))
    assert list(faults) == [1] and "cannot be shown" in faults[1].detail
    assert payload.num_rows == 2


def test_propose_reads_bounds_of_public_files_only(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": [3, 9, None],
            "x": [0.12345678, 2.0, float("nan")],
            "state": ["b", "a", "b"],
            "day": pa.array([0, 400, 7], pa.date32()),
            "flag": [True, False, None],
            "many": ["p", "q", None],
            "nested": [[1], [2], [3]],
            "y": ["no", "yes", "no"],
        }
    )
    for path in (tmp_path / "t.parquet", tmp_path / "t.csv"):
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        else:
            pa.csv.write_csv(table.drop_columns(["nested"]), path)
        found = propose_schema(path, public=True, label="y")
        columns = found["schema"]["columns"]
        assert columns["n"] == {"type": "integer", "min": 3, "max": 9, "outside": "clip", "missing": True}
        assert columns["x"]["min"] <= 0.12345678 and columns["x"]["max"] >= 2 and columns["x"]["missing"]
        assert columns["state_column"] == {"type": "categorical", "values": ["a", "b"]}
        assert columns["day"] == {"type": "date", "min": "1970-01-01", "max": "1971-02-05", "outside": "clip"}
        assert found["columns"] == {"label": "y", "state_column": "state"} and found["labels"] == ["no", "yes"]
        hidden = propose_schema(path, label="y")
        assert "9" not in json.dumps(hidden["schema"]) and hidden["labels"] is None
        with pytest.raises(ValidationError):
            TableSchema.model_validate(hidden["schema"])
    for bad, kind in (("t.txt", InputError), ("none.csv", DataError)):
        with pytest.raises(kind):
            propose_schema(tmp_path / bad, public=True)
    with pytest.raises(DataError, match="no column 'z'"):
        propose_schema(tmp_path / "t.csv", label="z")


PUBLIC = {
    "age": ["5", "6", "", "7"],
    "blood": ["A", "NA", "null", " "],
    "almost": ["5", "6", "NA", "7"],
    "nearly": ["5", "6", "none of these", "7"],
    "ward": ["01", "1", "02", "2"],
    "weight": ["38.3", "95.5", "nan", "40"],
    "at": ["08:15", "09:30", "08:15", "10:00"],
    "seen": ["2020-01-31 10:00:00", "2021-01-31T11:00:00", "", "2020-01-01"],
    "day": ["2020-01-31", "2021-02-28", "", "2020-01-01"],
    "flag": ["TRUE", "false", "1", ""],
    "id": ["9007199254740993", "9007199254740992", "3", "4"],
    "odd": ["1.5", "inf", "2.5", "3.5"],
    "": ["0", "1", "2", "3"],
    "blank": ["", " ", "", ""],
}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_proposed_takes_the_very_file(tmp_path: Path, ending: str) -> None:
    """The rows of the public file go through its source and the codec, and none is a reject."""
    path = tmp_path / f"public.{ending}"
    if ending == "csv":
        pa.csv.write_csv(pa.table(PUBLIC), path)
    elif ending == "jsonl":
        rows = [dict(zip(PUBLIC, row, strict=True)) for row in zip(*PUBLIC.values(), strict=True)]
        path.write_text("".join(json.dumps(row | {"nested": [1]}) + "\n" for row in rows))
    else:
        pq.write_table(pa.table(PUBLIC), path)
    found = propose_schema(path, public=True)
    schema = TableSchema.model_validate(found["schema"])
    names = found["columns"]
    where = {"source": ending, "path": str(path), "content": TableContent(schema), "columns": names}
    source = open_source(**where, labelled=False, client=False)
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert sum(len(batch.rows) for batch in batches) == 4 and not any(batch.faults for batch in batches)
    columns = found["schema"]["columns"]
    assert columns["ward"]["values"] == ["01", "02", "1", "2"]
    assert columns["blood"] == {
        "type": "categorical",
        "values": ["A", "NA", "null"],
        "missing": True,
    }
    assert set(found["dropped"]) == {"", "blank"} | ({"nested"} if ending == "jsonl" else set())


def test_types_are_guessed_from_texts_as_the_codec_reads_them(tmp_path: Path) -> None:
    pa.csv.write_csv(pa.table(PUBLIC), tmp_path / "public.csv")
    found = propose_schema(tmp_path / "public.csv", public=True)
    columns = found["schema"]["columns"]
    assert columns["age"] == {"type": "integer", "min": 5, "max": 7, "outside": "clip", "missing": True}
    assert columns["weight"] == {
        "type": "float",
        "min": 38.3,
        "max": 95.5,
        "outside": "clip",
        "decimals": 1,
        "missing": True,
    }
    assert (columns["seen"]["min"], columns["seen"]["max"]) == ("2020-01-01T00:00:00", "2021-01-31T11:00:00")
    assert (columns["day"]["min"], columns["day"]["max"]) == ("2020-01-01", "2021-02-28")
    kinds = {name: column["type"] for name, column in columns.items()}
    assert kinds == {
        "age": "integer", "blood": "categorical", "almost": "integer", "nearly": "categorical", "ward": "categorical",
        "weight": "float",
        "at": "categorical", "seen": "datetime", "day": "date", "flag": "boolean", "id": "categorical",
        "odd": "categorical",
    }  # fmt: skip
    assert columns["almost"] | {"min": 0, "max": 9} == {
        **{"type": "integer", "min": 0, "max": 9, "outside": "clip", "missing": True, "nulls": ["NA"]}
    }
    assert set(found["notes"]) == {"nearly"}
    assert found["notes"]["nearly"].startswith("'none of these' is no number")


@given(st.lists(st.floats(-1e300, 1e300) | st.floats(-10, 10), min_size=1, max_size=5))
def test_bounds_are_rounded_outwards_to_a_few_digits(values: list[float]) -> None:
    low, high = min(values), max(values)
    found = _bounds(low, high, "float")
    assert found["min"] <= low and found["max"] >= high
    if high > low:
        assert found["max"] - found["min"] <= 1.01 * (high - low)


def test_rows_that_are_no_records_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n3\n5,6\n")
    found = propose_schema(tmp_path / "p.csv", public=True)["schema"]["columns"]
    assert found["a"] == {"type": "integer", "min": 1, "max": 5, "outside": "clip"}


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_public_file_may_have_any_separator(sign: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f'\ufeff"a, or so"{sign}b\n1,5{sign}2\n2,5{sign}3\n')
    found = propose_schema(tmp_path / "p.csv", public=True)["schema"]["columns"]
    wanted = {"type": "float", "min": 1.5, "max": 2.5, "decimal": ",", "decimals": 1, "outside": "clip"}
    assert found["a, or so"] == wanted
    assert found["b"] == {"type": "integer", "min": 2, "max": 3, "outside": "clip"}


def test_a_public_file_may_have_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("Stadt;n\nKöln;2\nMünchen;3\n".encode("cp1252"))
    assert propose_schema(tmp_path / "p.csv", public=True, encoding="cp1252")["schema"]["columns"]["Stadt"][
        "values"
    ] == [
        "Köln",
        "München",
    ]
    with pytest.raises(DataError, match=r"none of its records can be read: text that is not UTF-8; .* data\.encoding"):
        propose_schema(tmp_path / "p.csv", public=True)
    (tmp_path / "p.csv").write_text("Stadt;n\nKöln;2\n", encoding="utf-8")  # beside data that are not
    assert propose_schema(tmp_path / "p.csv", public=True, encoding="cp1252")["schema"]["columns"]["Stadt"][
        "values"
    ] == ["Köln"]


def test_whole_numbers_that_come_once_each_may_be_ids(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"key": range(100), "twice": [0, *range(99)], "share": [i / 7 for i in range(100)]}), path)
    found = propose_schema(path, public=True)
    assert set(found["notes"]) == {"key"} and "an id" in found["notes"]["key"]
    assert set(found["schema"]["columns"]) == {"key", "twice", "share"}


def test_init_says_what_it_leaves_out_also_to_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        f"{i},08:{i % 60:02}:{i // 60:02},{'lost' if i == 7 else i + 0.5},{'no' if i % 2 else 'yes'}"
        for i in range(300)
    ]
    (tmp_path / "public.csv").write_text("\n".join(["n,time,almost,y", *lines]) + "\n")
    given_ = {"data.path": "/nowhere/t.csv", "modality": "tabular", "data.columns.label": "y"}
    given_ |= {"data.labels": "no,yes", "data.expected_records": "20000", "public": str(tmp_path / "public.csv")}
    write_recipe(Asker(given_, interactive=False, sink=sys.stderr), str(tmp_path / "made.yaml"))
    said = capsys.readouterr().err
    assert "init: --public: column time is left out of the schema: more than 100 different texts" in said
    assert "column almost is left out" in said and "'lost' is no number" in said
    text = (tmp_path / "made.yaml").read_text()
    assert (
        "# Bounds, values and decimals come from the public file alone: widen them" in text and "outside: clip" in text
    )


def test_bins_of_a_schema_are_for_numbers_that_say_none() -> None:
    given_ = copy.deepcopy(KINDS) | {"bins": 5}
    given_["columns"]["age"]["bins"] = 3
    columns = TableSchema.model_validate(given_).columns
    assert [columns[name].marginal_bins for name in ("age", "income", "city", "constant")] == [3, 5, 3, 1]


def test_init_takes_no_private_records_for_public_ones(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    given_ = {"data.path": f"{tmp_path}/./t.csv", "data.expected_records": "20", "public": str(tmp_path / "t.csv")}
    with pytest.raises(InputError, match=r"--public: .*these are the private records"):
        write_recipe(Asker(given_, interactive=False), str(tmp_path / "made.yaml"))


def test_init_asks_for_a_schema_or_a_public_file(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3], "city": ["a", "b", "a"], "y": ["no", "yes", "no"], "nested": [[1], [2], [3]]})
    pq.write_table(table, tmp_path / "public.parquet")
    given_ = {"data.path": "/nowhere/t.parquet", "modality": "tabular", "data.columns.label": "y"}
    given_ |= {"data.labels": "no,yes", "data.expected_records": "20000", "public": str(tmp_path / "public.parquet")}
    recipe, _ = write_recipe(Asker(given_, interactive=False), str(tmp_path / "made.yaml"))
    assert recipe.data.table_schema is not None and set(recipe.data.table_schema["columns"]) == {"n", "city"}
    assert recipe.data.columns == {"label": "y"} and recipe.privacy.counts_columns
    del given_["public"]
    keys = {"n.type": "integer", "n.min": "0", "n.max": "9", "city.type": "categorical", "city.values": "a,b"}
    declared = {"columns": "n,city"} | {f"data.schema.columns.{key}": value for key, value in keys.items()}
    recipe, _ = write_recipe(Asker(given_ | declared, interactive=False), str(tmp_path / "declared.yaml"))
    assert recipe.data.table_schema is not None and recipe.data.table_schema["columns"]["n"]["max"] == 9
    with pytest.raises(InputError, match=r"columns\.n\.max.*a whole number is wanted"):
        wrong = declared | {"data.schema.columns.n.max": "much"}
        write_recipe(Asker(given_ | wrong, interactive=False), str(tmp_path / "other.yaml"))
    with pytest.raises(InputError, match="have to be declared"):
        write_recipe(Asker(given_, interactive=False), str(tmp_path / "other.yaml"))


def test_a_warehouse_export_is_read_as_it_is() -> None:
    """The types that BigQuery writes into Parquet."""
    columns = {
        "whole": {"type": "integer", "min": 0, "max": 9},
        "exact": {"type": "float", "min": 0, "max": 9, "missing": True},
        "day": {"type": "date", "min": "2020-01-01", "max": "2030-01-01"},
        "at": {"type": "datetime", "min": "2020-01-01", "max": "2030-01-01"},
        "text": {"type": "categorical", "values": ["x", "y"]},
        "flag": {"type": "boolean"},
    }
    moment = dt.datetime(2021, 1, 2, 3, 4, 5, 600_000, tzinfo=dt.UTC)
    table = pa.table(
        {
            "whole": pa.array([1, 2], pa.int64()),
            "exact": pa.array([decimal.Decimal("1.5"), None], pa.decimal128(38, 9)),
            "day": pa.array([dt.date(2021, 1, 1)] * 2),
            "at": pa.array([moment] * 2, pa.timestamp("us", "UTC")),
            "text": pa.array(["x", "y"], pa.large_string()).dictionary_encode(),
            "flag": [True, False],
        }
    )
    content = TableContent(TableSchema.model_validate({"columns": columns}))
    assert all(content.wanted(name, table.schema.field(name).type) is None for name in columns)
    payload, faults = content.convert(table)
    assert not faults and payload["exact"].to_pylist() == [1.5, None] and payload["text"].to_pylist() == ["x", "y"]
    assert payload["at"][0].as_py() == moment.replace(microsecond=0, tzinfo=None)
