"""CSV and JSONL sources: cuts, what is decided record by record, and that a piece is read on its own."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source, SourceBatch
from pe_beam.errors import DataError, RecipeError
from pe_beam.recipe.sources import open_source
from pe_beam.sources import csv_files, csv_parsing, jsonl, lines

TEXT = FieldContent(pa.schema([("text", pa.string())]))


def opened(path: Path, **more: Any) -> Source:
    kind = {".csv": "csv", ".jsonl": "jsonl"}.get(path.suffix, "csv")
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": True, "client": False, **more}
    return open_source(**{"source": kind, "path": str(path), **options})


def batches(source: Source) -> list[SourceBatch]:
    return [batch for piece in source.pieces() for batch in source.read(piece)]


def texts(found: list[SourceBatch]) -> list[Any]:
    return [x for batch in found for x in batch.payload["text"].to_pylist()]


def faults(found: list[SourceBatch]) -> dict[str, str]:
    return {batch.rows[i]: fault.kind for batch in found for i, fault in batch.faults.items()}


cells = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=30), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_gives_back_what_was_written_however_it_is_cut(
    rows: list[tuple[str, str]], end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("csv") / "x.csv"
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["label", "text"])
    writer.writerows(rows)
    file.write_bytes(sink.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SHARD_ROWS", 4)
        patch.setattr(base, "BATCH_ROWS", 3)
        source = opened(file)
        pieces = source.pieces()
        assert [piece.stop - piece.start for piece in pieces][:-1] == [4] * (len(pieces) - 1)
        assert [a.end for a in pieces[:-1]] == [b.offset for b in pieces[1:]]
        # Backwards, each on its own: nothing depends on the piece before.
        read = [list(source.read(piece)) for piece in reversed(pieces)]
        found = [batch for piece in reversed(read) for batch in piece]
    assert texts(found) == [row[1] for row in rows]
    assert [x for batch in found for x in batch.labels] == [row[0] for row in rows]
    assert len({source.digest(piece) for piece in pieces}) == len(pieces)


def test_csv_faults_are_those_of_single_records(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    rows = [
        b"a,good,1",
        b"a,two",
        b"a,too,many,fields",
        b"",
        b"a,\xff\xfe,4",
        b'a,"quoted, with ""quotes""\nand lines",5',
        b'a,in"side,6',
        b'\xff,"other column",7',
        b"a,,8",
    ]
    file.write_bytes(b"\xef\xbb\xbflabel,text,n\r\n" + b"\r\n".join(rows))
    source = opened(file)
    found = batches(source)
    assert texts(found)[0] == "good" and texts(found)[5:6] == ['in"side']
    assert texts(found)[4] == 'quoted, with "quotes"\nand lines' and texts(found)[7] == ""
    assert list(faults(found).items()) == [
        (f"{file}:1", "row with a wrong number of fields"),
        (f"{file}:2", "row with a wrong number of fields"),
        (f"{file}:3", "text that is not UTF-8"),
        (f"{file}:6", "text that is not UTF-8"),
    ]


def test_records_that_are_too_long_cost_themselves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, csv_files, csv_parsing, jsonl):
        monkeypatch.setattr(module, "MAX_RECORD", 100)
    long = "x" * 350
    file = tmp_path / "x.csv"
    file.write_text(f'label,text\na,1\na,{long}\na,2\na,"{long}\n{long}"\na,3\n')
    found = batches(opened(file))
    assert [x for x in texts(found) if x] == ["1", "2", "3"]
    # The quote that was cut away with a long line makes the rest of its record one more reject, and no more.
    assert set(faults(found).values()) == {lines.TOO_LONG.kind}
    file = tmp_path / "x.jsonl"
    rows = [{"label": "a", "text": text} for text in ("1", long, "2")]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = batches(opened(file))
    assert texts(found) == ["1", None, "2"]
    assert faults(found) == {f"{file}:1": lines.TOO_LONG.kind}


def test_jsonl_is_decided_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    rows = [
        b'{"text": "a", "label": "l", "who": 7}',
        b"",
        b"[1]",
        b'{"text": "half',
        b'{"text": "\xff"}',
        b'{"text": {"deep": 1}}',
        b'{"text": "\\ud800"}',
        b'{"label": "l"}',
        b'{"text": 1.50, "label": 3, "who": true}',
        b"[" * 100_000,
        b'{"text": "a", "text": "b"}',
    ]
    file.write_bytes(b"\n".join(rows))
    found = batches(opened(file, columns={"client": "who"}, client=True))
    assert texts(found) == ["a", None, None, None, None, None, None, "1.50", None, None]
    assert found[0].labels[0] == "l" and found[0].labels[7] == "3"
    assert found[0].clients[0] == "7" and found[0].clients[7] == "true" and found[0].clients[6] is None
    kinds = list(faults(found).values())
    assert sorted(kinds) == sorted(
        [
            "line that is not a JSON object",
            "line that is not a JSON object",
            "text that is not UTF-8",
            "value that is no text, number, true, false or null",
            "text that is not UTF-8",
            "missing text",
            "line that is not a JSON object",
            "line with the same name twice in an object",
        ]
    )


def test_label_columns_combine(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("text,kind,stars\n1,Bars,5\n2,Bars | Pubs,5\n3,Arts,4\n")
    found = batches(opened(file, columns={"label": ["kind", "stars"]}))
    assert found[0].labels == ["Bars | 5", None, "Arts | 4"]
    with pytest.raises(RecipeError, match="only label may be a list"):
        opened(file, columns={"text": ["text", "kind"]})
    with pytest.raises(RecipeError, match="two roles"):
        opened(file, columns={"label": "text"})


@pytest.mark.parametrize("body", [b"", b"\xff\xfe,text\n1,2\n", b"label,other\n1,2\n", b"label,text,text\n1,2,3\n"])
def test_headers_that_will_not_do(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(body)
    with pytest.raises(DataError, match="data\\."):
        opened(file).pieces()


@pytest.mark.parametrize(("sign", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_separator_is_told_without_the_header(tmp_path: Path, sign: str, word: str) -> None:
    (tmp_path / "x.csv").write_text(f"Anna{sign}text\n1{sign}2\n")
    with pytest.raises(
        DataError, match=rf"data\.path: .* one column with {word} in it; commas are wanted between columns, or data.sep"
    ) as caught:
        opened(tmp_path / "x.csv").pieces()
    assert "Anna" not in str(caught.value)


def test_files_folders_nothing_and_changes(tmp_path: Path) -> None:
    for name in ("b.csv", "sub/a.CSV", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"label,text\nl,{name}\n")
    folder = opened(tmp_path)
    assert texts(batches(folder)) == ["b.csv", "sub/a.CSV"]
    piece = folder.pieces()[0]
    before = folder.digest(piece)
    (tmp_path / "b.csv").write_text("label,text\nl,B.csv\n")
    assert folder.digest(piece) != before
    (tmp_path / "b.csv").write_text("label,text\n")
    with pytest.raises(DataError, match="not what it was"):
        list(folder.read(piece))
    for path in (tmp_path / "none.csv", tmp_path / "b.csv"):
        with pytest.raises(DataError, match=r"data\.path"):
            opened(path).pieces()


def test_memory_and_bytes_read_do_not_grow_with_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 100)
    file = tmp_path / "x.csv"
    file.write_text("label,text\n" + "".join(f"a,row {i}\n" for i in range(2000)))
    source = opened(file)
    seen: list[int] = []
    whole = lines.LineReader.read

    def counted(self: lines.LineReader) -> bytes:
        line = whole(self)
        seen.append(len(line))
        return line

    pieces = source.pieces()
    monkeypatch.setattr(lines.LineReader, "read", counted)
    for piece in pieces:
        assert sum(len(batch.rows) for batch in source.read(piece)) == 100
    assert sum(seen) < 1.1 * file.stat().st_size
