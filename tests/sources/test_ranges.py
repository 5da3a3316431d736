"""Large text files are cut by byte ranges: the pieces are those of one pass over the file."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts import cutting
from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Piece
from pe_beam.errors import DataError, EmptyInputError
from pe_beam.recipe.sources import open_source
from pe_beam.sources import csv_files, csv_parsing, files, jsonl, lines, scanning
from pe_beam.sources.lines import LineReader, LinesSource, Wanted

TEXT = FieldContent(pa.schema([("text", pa.string())]))


def opened(path: Path, **more: Any) -> LinesSource:
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": False, "client": False, **more}
    found = open_source(source=path.suffix[1:], path=str(path), **options)
    assert isinstance(found, LinesSource)
    return found


def one_pass(source: LinesSource, file: str, index: int = 0) -> Iterator[Piece]:
    """Cuts a file as before there were ranges: record by record, from its first byte to its last."""
    with files.open_file(file) as handle:
        reader = LineReader(handle)
        _, head = source._head(reader)
        begin, rows, stop = reader.position, 0, reader.position
        for record in source._records(reader, Wanted([], head)):
            rows, stop = rows + 1, record.stop
            if rows % base.SHARD_ROWS == 0:
                yield Piece(file, index, rows - base.SHARD_ROWS, rows, offset=begin, end=stop)
                begin = stop
        if rows % base.SHARD_ROWS:
            yield Piece(file, index, rows - rows % base.SHARD_ROWS, rows, offset=begin, end=stop)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, 20)


def shrink(patch: pytest.MonkeyPatch, width: int = 40, marks: int = 2) -> None:
    patch.setattr(base, "SHARD_ROWS", 5)
    patch.setattr(lines, "LEAST_RANGE", width)
    patch.setattr(lines, "MOST_RANGE", width)
    patch.setattr(scanning, "MOST_MARKS", marks)
    patch.setattr(scanning, "_BLOCK", 16)
    patch.setattr(csv_files, "_BLOCK", 16)
    patch.setattr(csv_files, "_HELD", 3)
    for module in (lines, csv_files, csv_parsing, jsonl):
        patch.setattr(module, "MAX_RECORD", 64)


def same(source: LinesSource, file: Path) -> list[Piece]:
    """Cuts in this process and, part by part in any order, as workers do; both are the one pass."""
    wanted = list(one_pass(source, str(file)))
    if not wanted:
        with pytest.raises(EmptyInputError):
            source.pieces()
        return []
    assert source.pieces() == wanted
    parts = source.files()
    random.Random(0).shuffle(parts)
    cuts = [cut for part in parts for cut in cutting.cut_parts(source, [part])]
    assert cutting.in_order(source, cutting.join_file(source, cuts)) == wanted
    assert [len(batch.rows) for piece in wanted for batch in source.read(piece)] == [
        piece.stop - piece.start for piece in wanted
    ]
    return wanted


json_lines = st.lists(
    st.one_of(
        st.integers(0, 90).map(lambda n: b'{"text": "%s"}' % (b"x" * n)),
        st.sampled_from([b"", b" ", b"\t\r", b"  {}", b"\x0b", b" " * 70, b" " * 70 + b"{}", b"\xff", b"[", b"\r"]),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(rows=json_lines, end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans(), width=st.integers(1, 200))
def test_jsonl_is_cut_as_in_one_pass(
    rows: list[bytes], end: bytes, last: bool, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("jsonl") / "x.jsonl"
    file.write_bytes(end.join(rows) + end * last)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, width)
        same(opened(file), file)


cells = st.one_of(
    st.text(st.sampled_from('ab,\n"\r'), max_size=12),
    st.text(st.sampled_from("a"), min_size=60, max_size=70),
)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, cells), max_size=40),
    damage=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.sampled_from([b'"', b"\n", b",", b'",', b'"\n'])), max_size=3
    ),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    width=st.integers(1, 120),
)
def test_csv_is_cut_as_in_one_pass_damaged_or_not(
    rows: list[tuple[str, str]],
    damage: list[tuple[int, bytes]],
    quoting: Any,
    width: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("csv") / "x.csv"
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=quoting).writerows(rows)
    data = sink.getvalue().encode()
    for place, more in damage:
        at = place % (len(data) + 1)
        data = data[:at] + more + data[at:]
    file.write_bytes(b"text,n\r\n" + data)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, width)
        same(opened(file), file)


def test_a_quoted_text_over_many_ranges_is_one_record(small: None, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    long = "\n".join(["line, 'x'"] * 3)
    rows = [f'"{long}",{i}' for i in range(20)] + [f"plain,{i}" for i in range(20)]
    file.write_text("text,n\n" + "\n".join(rows) + "\n")
    pieces = same(opened(file), file)
    assert pieces[-1].stop == 40
    assert sum(len(batch.faults) for piece in pieces for batch in opened(file).read(piece)) == 0


def test_several_files_keep_their_places(small: None, tmp_path: Path) -> None:
    for name, count in (("a", 13), ("b", 0), ("c", 7)):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "some words"}\n' * count)
    source = open_source(source="jsonl", path=str(tmp_path), content=TEXT, columns={}, labelled=False, client=False)
    assert [(piece.file_index, piece.start, piece.stop) for piece in source.pieces()] == [
        (0, 0, 5), (0, 5, 10), (0, 10, 13), (2, 0, 5), (2, 5, 7),
    ]  # fmt: skip


def test_one_line_as_long_as_many_ranges_is_read_once(small: None, tmp_path: Path, monkeypatch: Any) -> None:
    """No range but the one where it begins reads on to its end."""
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"text": "' + b"x" * 100_000 + b'"}\n{"text": "y"}')
    assert [(piece.start, piece.stop) for piece in same(opened(file), file)] == [(0, 2)]
    read: list[int] = []
    real = scanning.scan_lines
    monkeypatch.setattr(scanning, "scan_lines", lambda *given: read.append(1) or real(*given))
    opened(file).pieces()
    assert len(read) == 2


def test_a_file_that_shrinks_between_cutting_and_joining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, 400)
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "some words"}\n' * 50)
    source = opened(file)
    cuts = cutting.cut_parts(source, source.files())
    file.write_text("")
    with pytest.raises(DataError, match=r"data\.path: a JSONL file is not what it was when it was listed"):
        source.join_cuts(cuts)
