"""One name in several spellings is one: clients, labels, columns, folders; and one spelling is never two."""

from __future__ import annotations

import datetime
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam import names
from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.errors import DataError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import open_source

TEXT = FieldContent(pa.schema([("text", pa.string())]))
IMAGE = FieldContent(base.IMAGE_SCHEMA)
NFD = unicodedata.normalize("NFD", "café")


def opened(kind: str, path: Path, **more: Any) -> Source:
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": False, "client": True, **more}
    return open_source(**{"source": kind, "path": str(path), **options})


def clients(source: Source) -> list[str | None]:
    read = [batch for piece in source.pieces() for batch in source.read(piece)]
    source.refuse({fact for batch in read for fact in batch.seen})
    return [client for batch in read for client in batch.clients]


def kinds(source: Source) -> set[str]:
    read = [batch for piece in source.pieces() for batch in source.read(piece)]
    return {fault.kind for batch in read for fault in batch.faults.values()}


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ("123", "123"),
        ("123.0", "123"),
        (" 123", "123"),
        ("123 ", "123"),
        ("\t123.00", "123"),
        ("1.23e+02", "123"),
        ("1.23E2", "123"),
        ("-0.0", "0"),
        ("1.0E7", "10000000"),
        ("12e4", "12e4"),  # may be hexadecimal: no program writes a float so
        ("007", "007"),
        ("1.5", "1.5"),
        ("1.50", "1.50"),
        ("+1", "+1"),
        ("Anna", "Anna"),
        ("anna", "anna"),
        ("u-7.0", "u-7.0"),
        (NFD, "café"),
        ("\ufeffcafé\u00a0", "café"),
        ("", None),
        ("  ", None),
        ("nan", None),
        ("None", None),
        ("<NA>", None),
        ("NULL", None),
    ],
)
def test_a_client_id_is_read_in_one_spelling(written: str, client: str | None, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f'text,client\na,"{written}"\n')
    assert clients(opened("csv", tmp_path)) == [client]
    pq.write_table(pa.table({"text": ["a"], "client": [written]}), tmp_path / "x.parquet")
    assert clients(opened("parquet", tmp_path)) == [client]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([7, 123, None], pa.int8()),
        pa.array([7, 123, None], pa.uint64()),
        pa.array([7.0, 123.0, None]),
        pa.array([7.0, 123.0, float("nan")]),
        pa.array([7.0, 123.0, None], pa.float32()),
        pa.array([Decimal("7.00"), Decimal("123.00"), None]),
        pa.array(["7", "123", None]),
        pa.array(["7.0", "123.0", ""], pa.large_string()),
        pa.array(["7", " 123", None], pa.string_view()),
        pa.array([7, 123, None]).dictionary_encode(),
        pa.array([7.0, 123.0, None]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_files_of_any_type_have_the_same_clients(column: pa.Array, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"], "client": column}), tmp_path / "x.parquet")
    assert clients(opened("parquet", tmp_path)) == ["7", "123", None]


def test_an_all_missing_column_of_one_file_is_missing_and_no_wrong_type(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "client": pa.nulls(1)}), tmp_path / "x.parquet")
    assert clients(opened("parquet", tmp_path)) == [None]


def test_json_numbers_and_texts_are_the_same_clients(tmp_path: Path) -> None:
    rows = [f'{{"text": "a", "client": {value}}}' for value in ("123", "123.0", "1.23e2", '" 123"', "null", "1.5")]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    assert clients(opened("jsonl", tmp_path)) == ["123", "123", "123", "123", None, "1.5"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1.5]), "client id that is no whole number"),
        (pa.array([float("inf")]), "client id that is no whole number"),
        (pa.array([Decimal("1.50")]), "client id that is no whole number"),
        (pa.array([2.0**53]), "client id that is a float of 2^53 or more"),
        (pa.array([2.0**24], pa.float32()), "client id that is a float of 2^53 or more"),
        (pa.array(["1.2345678901234568e+19"]), "client id that is a float of 2^53 or more"),
    ],
)
def test_ids_that_floats_have_made_one_are_rejects(column: pa.Array, kind: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "client": column}), tmp_path / "x.parquet")
    assert kinds(opened("parquet", tmp_path)) == {kind}


def test_whole_numbers_of_any_size_are_ids(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "client": pa.array([2**63 - 1])}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "client": ["12345678901234567890"]}), tmp_path / "b.parquet")
    source = opened("parquet", tmp_path)
    assert (clients(source), kinds(source)) == ([str(2**63 - 1), "12345678901234567890"], set())


def test_clients_that_differ_in_the_last_of_38_digits_are_two(tmp_path: Path) -> None:
    """As one they would have the votes of one between them, and one client less would change those of the other."""
    ids = [Decimal(10**37 + 1), Decimal(10**37 + 2)]
    for at, kind in enumerate((pa.decimal128(38, 0), pa.decimal256(60, 20))):
        table = pa.table({"text": ["a", "b"], "client": pa.array(ids, kind)})
        pq.write_table(table, tmp_path / f"{at}.parquet")
    assert clients(opened("parquet", tmp_path)) == [str(each) for each in ids] * 2


@pytest.mark.parametrize("other", ["7", "7.0", "12", "0"])
def test_leading_zeros_that_a_program_may_have_cut_off_are_refused(other: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,client\nx,007\ny,456\n")
    (tmp_path / "b.csv").write_text(f"text,client\nx,{other}\n")
    with pytest.raises(DataError, match=r"data\.columns\.client: .*leading zeros.*data\.path") as caught:
        clients(opened("csv", tmp_path))
    assert "456" not in str(caught.value)


def test_leading_zeros_beside_ids_that_are_as_long_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,client\nx,007\ny,456\nz,1234\n")
    assert clients(opened("csv", tmp_path)) == ["007", "456", "1234"]


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("café", NFD),
        (NFD, "café"),
        ("gold", " gold"),
        ("1", "1.0"),
        ("4.0", "4"),
        ("true", "True"),
        ("TRUE", "true"),
        ("01", "01"),
    ],
)
def test_a_label_in_another_spelling_is_the_declared_one(declared: str, written: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f'text,label\na,"{written}"\nb,other\n')
    source = opened("csv", tmp_path, client=False, labelled=True, labels=[declared])
    assert [x for piece in source.pieces() for batch in source.read(piece) for x in batch.labels] == [declared, "other"]


@pytest.mark.parametrize(
    ("column", "labels", "found"),
    [
        (pa.array([True, False, None]), ["true", "false"], ["true", "false", None]),
        (pa.array([1.0, 2.0, float("nan")]), ["1", "2"], ["1", "2", None]),
        (pa.array([4.5, 5.0, None], pa.float32()), ["4.5", "5.0"], ["4.5", "5.0", None]),
        (pa.array([1, 2, None]), ["1.0", "2.0"], ["1.0", "2.0", None]),
        (pa.array([Decimal("1.00"), Decimal("2.50"), None]), ["1", "2.5"], ["1", "2.5", None]),
        (pa.array(["a", "b", None]).dictionary_encode(), ["a", "b"], ["a", "b", None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_of_any_type(column: pa.Array, labels: list[str], found: list[Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": column}), tmp_path / "x.parquet")
    source = opened("parquet", tmp_path, client=False, labelled=True, labels=labels)
    assert [x for piece in source.pieces() for batch in source.read(piece) for x in batch.labels] == found


def test_labels_of_several_columns_are_compared_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"text,kind,stars\na,{NFD}, 5.0\nb,bar,5\nc,,5\n")
    columns = {"label": ["kind", "stars"]}
    source = opened("csv", tmp_path, client=False, labelled=True, columns=columns, labels=["café | 5"])
    assert [x for piece in source.pieces() for batch in source.read(piece) for x in batch.labels] == [
        "café | 5",
        "bar | 5",
        " | 5",
    ]


def test_class_folders_are_compared_as_labels_are(tmp_path: Path) -> None:
    for folder in (NFD, "1.0", "bar"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(b"x")
    source = opened("folder", tmp_path, client=False, labelled=True, content=IMAGE, labels=["café", "1"])
    (batch,) = source.read(source.pieces()[0])
    assert sorted(map(str, batch.labels)) == ["1", "bar", "café"]


@pytest.mark.parametrize("wanted", ["café", NFD])
def test_columns_and_roles_are_compared_as_names(wanted: str, tmp_path: Path) -> None:
    other = NFD if wanted == "café" else "café"
    (tmp_path / "x.csv").write_text(f"id, {other} \n1,hi\n")
    (tmp_path / "x.jsonl").write_text(f'{{"{other}": "hi"}}\n')
    pq.write_table(pa.table({other: ["hi"]}), tmp_path / "x.parquet")
    for kind in ("csv", "jsonl", "parquet"):
        source = opened(kind, tmp_path, client=False, columns={"text": wanted})
        (batch,) = source.read(source.pieces()[0])
        source.refuse(batch.seen)
        assert batch.payload["text"].to_pylist() == ["hi"]
    role = FieldContent(pa.schema([(other, pa.string())]))
    source = opened("csv", tmp_path, client=False, content=role, columns={wanted: other})
    assert source.pieces()


def test_a_column_that_stands_exactly_so_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text, text\nmine,other\n")
    source = opened("csv", tmp_path, client=False)
    (batch,) = source.read(source.pieces()[0])
    assert batch.payload["text"].to_pylist() == ["mine"]
    (tmp_path / "x.csv").write_text(" text,text \nmine,other\n")
    with pytest.raises(DataError, match="more than one column"):
        source.pieces()


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ([0, 1], ["0", "1"]),
        ([4.5, 5.0], ["4.5", "5.0"]),
        ([datetime.date(2024, 1, 31), "x"], ["2024-01-31", "x"]),
        ([NFD, "bar"], ["café", "bar"]),
        ({"stars": [1, 2]}, ["1", "2"]),
    ],
)
def test_labels_that_yaml_takes_for_something_else_are_text(given: Any, labels: list[str], small: Any) -> None:
    small["data"] |= {"source": "csv", "labels": given, "holdout": None}
    assert parse_recipe(small).data.labels == labels


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([True, False], r"data\.labels\.0: True is true or false to YAML; in quotes"),
        (["a", None], r"data\.labels\.1: null is no label; in quotes \('null'\)"),
        ([datetime.datetime(2024, 1, 31)], r"data\.labels\.0: .*in quotes"),
        ([float("nan")], r"data\.labels\.0: .*in quotes"),
        ({"stars": [True]}, r"data: labels: a value is true or false to YAML; in quotes"),
        ({True: ["a"]}, r"data: labels: names of columns are wanted \(in quotes"),
        (["1", "1.0"], r"data: labels: '1' and '1\.0' are one label in two spellings"),
        (["true", "True"], r"'true' and 'True' are one label"),
        ([NFD, "café"], r"labels: at least one, none twice"),
    ],
)
def test_labels_that_cannot_be_meant_say_so(given: Any, told: str, small: Any) -> None:
    small["data"] |= {"source": "csv", "labels": given, "holdout": None}
    with pytest.raises(RecipeError, match=told):
        parse_recipe(small)


def test_label_shares_and_options_by_label_take_numbers_and_forms_as_labels_do(small: Any) -> None:
    small["data"] |= {"source": "folder", "labels": [0, "café"], "holdout": None}
    small["privacy"]["label_counts"] = {0: 0.25, NFD: 0.75}
    small["generator"] = {"name": "text-render", "side": 16, "texts": {0: "A", NFD: "B"}}
    recipe = parse_recipe(small)
    assert recipe.privacy.label_counts == {"0": 0.25, "café": 0.75}
    assert recipe.generator.options["texts"] == {"0": "A", "café": "B"}


LONG = ["9" * 5_000, "9" * 5_000 + ".0", "1" * 1_500_000 + ".0", "-" + "7" * 1_500_000, "9" * 999 + "e+999"]


def test_a_number_of_any_length_is_some_client_and_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "a", "client": {number}}}\n' for number in LONG))
    assert clients(opened("jsonl", tmp_path))[:4] == LONG[:4]
    pq.write_table(pa.table({"text": ["a"] * len(LONG), "client": LONG}), tmp_path / "x.parquet")
    assert clients(opened("parquet", tmp_path))[:4] == LONG[:4]
    assert all(names.Declared(["1"]).variety(number) for number in LONG)
