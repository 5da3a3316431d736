"""Damaged and unusual text files: one damaged line costs itself alone, and a message says what a file is."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam import registry
from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.errors import DataError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import find_source, open_source
from pe_beam.sources import forms
from pe_beam.sources.csv_parsing import NOT_CLOSED

TEXT = FieldContent(pa.schema([("text", pa.string())]))


def opened(kind: str, path: Path, **more: Any) -> Source:
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": False, "client": False, **more}
    return open_source(**{"source": kind, "path": str(path), **options})


def read(source: Source) -> tuple[list[str | None], list[str]]:
    """Texts of the records that are no rejects, and the kinds of the rejects."""
    texts: list[str | None] = []
    kinds: list[str] = []
    for piece in source.pieces():
        for batch in source.read(piece):
            values = batch.payload["text"].to_pylist()
            texts += [text for row, text in enumerate(values) if row not in batch.faults]
            kinds += [fault.kind for _, fault in sorted(batch.faults.items())]
    return texts, kinds


QUOTED = [f'{i},"text {i}"' for i in range(40)]
PLAIN = [f"{i},text {i}" for i in range(40)]
STRAY = [f'{i},5" text {i}' for i in range(40)]
EMPTY = [f'{i},""' for i in range(40)]
SEVERAL = [f'{i},"text\n{i}, ""quoted"""' for i in range(40)]


@pytest.mark.parametrize(
    "rows", [QUOTED, PLAIN, STRAY, EMPTY, SEVERAL], ids=["quoted", "plain", "stray", "empty", "many"]
)
@pytest.mark.parametrize("damaged", ['x,"never closed', 'x,"', 'x,"closed", "then not', '"x,never closed'])
@pytest.mark.parametrize("place", [0, 3, 7, 39])
def test_a_quote_that_is_not_closed_costs_its_own_line_alone(
    rows: list[str], damaged: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 8)
    monkeypatch.setattr(base, "BATCH_ROWS", 3)
    (tmp_path / "x.csv").write_text("id,text\n" + "\n".join([*rows[:place], damaged, *rows[place:]]) + "\n")
    texts, kinds = read(opened("csv", tmp_path))
    whole, none = read(opened("csv", _written(tmp_path / "whole", rows)))
    assert (texts, none) == (whole, [])
    assert kinds in ([NOT_CLOSED.kind], ["row with a wrong number of fields"])


def _written(folder: Path, rows: list[str]) -> Path:
    folder.mkdir()
    (folder / "x.csv").write_text("id,text\n" + "\n".join(rows))
    return folder


def test_the_case_that_swallowed_999_rows(tmp_path: Path) -> None:
    rows = [f"{i},text {i}" for i in range(4000)]
    rows[3000] = '3000,"text 3000'
    (tmp_path / "x.csv").write_text("id,text\n" + "\n".join(rows) + "\n")
    texts, kinds = read(opened("csv", tmp_path))
    assert (len(texts), kinds) == (3999, [NOT_CLOSED.kind])


def test_a_quote_that_is_open_at_the_end_of_the_file_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('id,text\n1,fine\n2,"open')
    assert read(opened("csv", tmp_path)) == (["fine"], [NOT_CLOSED.kind])


def test_honest_fields_of_many_lines_are_records(tmp_path: Path) -> None:
    letters = [f"Dear {i},\n\n" + "\n".join(f"line {j}, with a comma" for j in range(300)) for i in range(20)]
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(["id", "text"])
    writer.writerows([str(i), letter] for i, letter in enumerate(letters))
    (tmp_path / "x.csv").write_bytes(sink.getvalue().encode())
    assert read(opened("csv", tmp_path)) == (letters, [])


def test_a_field_beyond_the_bound_gives_its_lines_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "csv_files"):
        monkeypatch.setattr(f"pe_beam.sources.{module}.MAX_RECORD", 60)
    rows = [f"{i},text {i}" for i in range(20)]
    (tmp_path / "x.csv").write_text("id,text\n" + "\n".join([*rows[:3], 'x,"open', *rows[3:]]) + '\ny,"closed"\n')
    texts, kinds = read(opened("csv", tmp_path))
    assert (texts[:20], kinds) == ([f"text {i}" for i in range(20)], [NOT_CLOSED.kind])


PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("named", [True, False])
def test_compressed_files_are_told(ending: str, kind: str, named: bool, tmp_path: Path) -> None:
    """By the ending in a folder beside a good file, and by the bytes where the ending says nothing."""
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "good.parquet")
    (tmp_path / "good.csv").write_text("text\na\n")
    (tmp_path / "good.jsonl").write_text('{"text": "a"}\n')
    data = (tmp_path / f"good.{kind}").read_bytes()
    (tmp_path / f"x.{kind}{ending if named else ''}").write_bytes(PACKED[ending](data))
    with pytest.raises(DataError, match=r"data\.path: .* compressed \(\w+\); unpack it first"):
        opened(kind, tmp_path).pieces()


def test_archives_workbooks_and_other_kinds_of_files_are_told(tmp_path: Path) -> None:
    def told(data: bytes, kind: str = "csv") -> str:
        (tmp_path / f"x.{kind}").write_bytes(data)
        with pytest.raises(DataError) as caught:
            opened(kind, tmp_path / f"x.{kind}").pieces()
        return str(caught.value)

    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("x.csv", "text\na\n")
    assert "compressed (zip, or a workbook of Excel)" in told(sink.getvalue())
    assert "workbook of Excel" in told(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "x.parquet")
    assert "data.source: parquet" in told((tmp_path / "x.parquet").read_bytes())
    for kind, text in (("csv", "id,text\n1,a\n"), ("jsonl", '{"text": "a"}\n')):
        for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            assert "UTF-16 or UTF-32; UTF-8 is wanted" in told(text.encode(coding), kind)
    assert "CR alone" in told(b"id,text\r1,a\r2,b\r")
    assert "CR alone" in told(b'{"text": "a"}\r{"text": "b"}\r', "jsonl")


_FIRST = {
    "gzip": b"\x1f\x8b\x08\n",
    "a workbook": b"PK\x03\x04\n",
    "UTF-16": b"\xff\xfe\n",
    "zeros": bytes(1500) + b"\n",
    "a long record": b'{"text":\r "' + b"a" * forms.HEAD + b'"}\n',
}


@pytest.mark.parametrize("first", _FIRST.values(), ids=_FIRST)
def test_under_never_stop_no_first_line_decides_what_the_file_is(first: bytes, tmp_path: Path) -> None:
    """It is a record as any other: the others count whatever its bytes are."""
    (tmp_path / "x.jsonl").write_bytes(first + b'{"text": "b"}\n{"text": "c"}\n')
    with pytest.raises(DataError):
        opened("jsonl", tmp_path).pieces()
    texts, kinds = read(opened("jsonl", tmp_path, never_stop=True))
    assert texts[-2:] == ["b", "c"]
    assert len(texts) + len(kinds) == 3


def test_a_folder_of_compressed_files_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "all.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no CSV files .*compressed there has to be unpacked first"):
        opened("csv", tmp_path).pieces()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_ends_of_lines_blank_lines_and_a_byte_order_mark(end: str, mark: str, last: bool, tmp_path: Path) -> None:
    lines = ["id,text", "1,a", "", '2,"b"', "", "3,c"]
    (tmp_path / "x.csv").write_bytes((mark + end.join(lines) + (end if last else "")).encode())
    assert read(opened("csv", tmp_path)) == (["a", "b", "c"], [])
    lines = ['{"text": "a"}', "", '{"text": "b"}']
    (tmp_path / "x.jsonl").write_bytes((mark + end.join(lines) + (end if last else "")).encode())
    assert read(opened("jsonl", tmp_path)) == (["a", "b"], [])


@pytest.mark.parametrize("head", ["id,text", "id,text,", "id,text,,"])
def test_empty_fields_at_the_end_of_lines_do_not_count(head: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"{head}\n1,a\n2,b,\n3,c,,,\n4\n5,d,,,e\n")
    texts, kinds = read(opened("csv", tmp_path))
    assert (texts, kinds) == (["a", "b", "c"], ["row with a wrong number of fields"] * 2)


@pytest.mark.parametrize(("sign", "named"), [(";", ";"), ("\t", "tab"), ("\t", "\\t"), ("\t", "\t"), ("|", "|")])
def test_a_declared_separator(sign: str, named: str, tmp_path: Path, small: Any) -> None:
    small["data"] |= {"source": "csv", "separator": named, "holdout": None}
    separator = parse_recipe(small).data.separator
    (tmp_path / "x.csv").write_text(f'id{sign}text\n1{sign}a, b\n2{sign}"c{sign}\nd"\n')
    assert read(opened("csv", tmp_path, separator=separator)) == (["a, b", f"c{sign}\nd"], [])
    (tmp_path / "x.csv").write_text("id,text\n1,a\n")
    with pytest.raises(DataError, match=r"one column with commas in it; .* or data\.separator: ','"):
        opened("csv", tmp_path, separator=separator).pieces()


WINDOWS = 'id;straße\n1;Köln\n2;"5 € …\nzwei"\n'.encode("cp1252")


def test_a_declared_encoding(tmp_path: Path, small: Any) -> None:
    (tmp_path / "x.csv").write_bytes(WINDOWS + b"3;\x81\n4;gut\n")  # a byte that cp1252 has no character for
    asked = {"separator": ";", "columns": {"text": "straße"}, "encoding": "cp1252"}
    assert read(opened("csv", tmp_path, **asked)) == (["Köln", "5 € …\nzwei", "gut"], ["text that is not cp1252"])
    with pytest.raises(
        DataError, match=r"header of a CSV file there cannot be read; utf-8 .* want data\.encoding, such"
    ):
        opened("csv", tmp_path, **asked | {"encoding": "utf-8"}).pieces()
    (tmp_path / "x.csv").write_text("id;straße\n1;Köln\n", encoding="utf-8-sig")
    with pytest.raises(DataError, match=r"the mark of UTF-8 at its start; data\.encoding: utf-8 is wanted"):
        opened("csv", tmp_path, **asked).pieces()
    for named, known in (("latin-1", "iso-8859-1"), ("Windows-1252", "cp1252"), ("UTF8", "utf-8"), ("ms932", "cp932")):
        small["data"] |= {"source": "csv", "encoding": named, "holdout": None}
        assert parse_recipe(small).data.encoding == known
    for data, told in (
        ({"source": "csv", "encoding": "utf-16"}, r"data\.encoding"),
        ({"source": "csv", "encoding": "rot13"}, r"data\.encoding"),
        ({"source": "csv", "encoding": 1252}, r"data\.encoding"),
        ({"source": "jsonl", "encoding": "cp1252"}, "data: encoding: source jsonl makes no use of it; allowed: csv, "),
        ({"source": "csv", "encoding": "cp932", "separator": "|"}, "encoding: cp932 has characters with the byte of a"),
    ):
        small["data"] |= {"encoding": "utf-8", "separator": ","} | data
        with pytest.raises(RecipeError, match=told):
            parse_recipe(small)


@pytest.mark.parametrize("encoding", [name for name in get_args(base.Encoding) if name != "utf-8"])
def test_no_character_of_an_encoding_parts_fields_or_lines(encoding: str, tmp_path: Path) -> None:
    codes = {code for code in (*range(0xA0, 0x2E80), *range(0x3000, 0xFFFF)) if not 0xD800 <= code < 0xE000}
    coded = {code: chr(code).encode(encoding, "ignore") for code in codes}
    held = [chr(code) for code, data in coded.items() if data and data.decode(encoding) == chr(code)]
    lines = ["".join(held[start : start + 500]) for start in range(0, len(held), 500)]
    (tmp_path / "x.csv").write_bytes("\n".join(["text\tid", *(f"{line}\t1" for line in lines)]).encode(encoding))
    for sign in (",", ";", "\t", *(() if encoding in base.BARRED else ("|",))):
        text = "\n".join([f"text{sign}id", *(f"{line}{sign}1" for line in lines)])
        (tmp_path / "x.csv").write_bytes(text.encode(encoding))
        source = opened("csv", tmp_path / "x.csv", separator=sign, encoding=encoding)
        assert read(source) == (lines, [])


def test_every_source_of_csv_takes_an_encoding() -> None:
    kinds = {name: find_source(name).takes for name in registry.names("sources")}
    assert [name for name, takes in kinds.items() if ("separator" in takes) != ("encoding" in takes)] == []


def test_files_of_tabs_are_found_by_their_own_ending(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("id\ttext\n1\ta\n")
    assert read(opened("csv", tmp_path, separator="\t")) == (["a"], [])


def test_a_separator_is_for_csv_and_one_of_four(small: Any) -> None:
    for data, told in (
        ({"source": "jsonl", "separator": ";"}, r"data: separator: source jsonl makes no use of it; allowed: csv"),
        ({"source": "csv", "separator": ":"}, r"data\.separator"),
        (
            {"source": "csv", "chat": True},
            r"data: chat: source csv makes no use of it; allowed: delta, iceberg, jsonl, kafka, landed, parquet",
        ),
    ):
        with pytest.raises(RecipeError, match=told):
            parse_recipe({**small, "data": {**small["data"], "holdout": None, **data}})
