"""A cut of any source: a record's side follows from the record alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.modalities.tabular import modality_of
from pe_beam.recipe.sources import open_source

TEXT = FieldContent(pa.schema([("text", pa.string())]))
PARTS = ("train", "test")


def side(part: str, kind: str, path: Path, *, share: float = 0.3, state: int = 0, **more: Any) -> Source:
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": False, "client": False, **more}
    made = open_source(**{"source": kind, "path": str(path), "part": (part, share, state), **options})
    return pickle.loads(pickle.dumps(made))  # noqa: S301


def rows(source: Source, field: str = "rows") -> list[Any]:
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert all(len(batch.labels) == batch.payload.num_rows == len(batch.clients) > 0 for batch in batches)
    if field in ("rows", "labels", "clients"):
        return [x for batch in batches for x in getattr(batch, field)]
    return [x for batch in batches for x in batch.payload[field].to_pylist()]


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("text,label,client\n" + "".join(f"{text},{i % 2},c{i % 50}\n" for i, text in enumerate(texts)))
    return path


def test_sides_are_disjoint_and_whole_and_about_the_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 100)
    texts = [f"text {i}" for i in range(2000)]
    file = write(tmp_path / "x.csv", texts)
    train, test = (rows(side(part, "csv", file), "text") for part in PARTS)
    assert sorted(train + test) == sorted(texts) and not set(train) & set(test)
    # A binomial of 2000 and 0.3 has a standard deviation of 20.5: five of them.
    assert abs(len(test) - 600) < 103
    labels = rows(side("test", "csv", file, labelled=True), "labels")
    assert abs(labels.count("0") - 300) < 73 and abs(labels.count("1") - 300) < 73
    assert set(rows(side("test", "csv", file, state=1), "text")) != set(test)
    pieces = [side(part, "csv", file).pieces() for part in PARTS]
    assert pieces[0] == pieces[1] and len(pieces[0]) == 20


def test_one_record_more_or_fewer_moves_no_other(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(300)]
    before = {part: set(rows(side(part, "csv", write(tmp_path / "x.csv", texts)), "text")) for part in PARTS}
    changed = ["one more", *texts[:100], *texts[101:]]
    after = {part: set(rows(side(part, "csv", write(tmp_path / "x.csv", changed)), "text")) for part in PARTS}
    for part in PARTS:
        assert before[part] - {texts[100]} == after[part] - {"one more"}


def test_equal_records_are_on_one_side_whatever_file_or_label_they_have(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(60)]
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, texts)
    train, test = (rows(side(part, "csv", tmp_path), "text") for part in PARTS)
    assert not set(train) & set(test) and all(found.count(x) == 2 for found in (train, test) for x in found)
    pq.write_table(pa.table({"text": texts}), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    for kind in ("parquet", "jsonl"):
        assert set(rows(side("test", kind, tmp_path), "text")) == set(test)


def test_all_records_of_a_client_are_on_one_side(tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", [f"text {i}" for i in range(1000)])
    train, test = (rows(side(part, "csv", file, client=True), "clients") for part in PARTS)
    assert not set(train) & set(test) and len(train) + len(test) == 1000
    assert all(found.count(client) == 20 for found in (train, test) for client in set(found))


def test_rows_of_tables_are_the_same_record_in_every_type(tmp_path: Path) -> None:
    columns = {"n": {"type": "integer", "min": 0, "max": 99}, "x": {"type": "float", "min": -9, "max": 9}}
    content = modality_of({"columns": {**columns, "day": {"type": "date", "min": "2020-01-01", "max": "2030-01-01"}}})
    lines = [f"{i},{i / 8},2024-01-{1 + i % 28:02d}" for i in range(60)]
    (tmp_path / "x.csv").write_text("n,x,day\n-0,-0.0,2024-01-01\n" + "\n".join(lines))
    (tmp_path / "y.csv").write_text("day,n,x\n2024-01-01,0,0\n" + "".join(
        f"2024-01-{1 + i % 28:02d},{i}.0,{i / 8}00\n" for i in range(60)
    ))  # fmt: skip
    found = [
        set(rows(side("test", "csv", tmp_path / name, content=content.reader()), "n")) for name in ("x.csv", "y.csv")
    ]
    assert found[0] == found[1] and 5 < len(found[0]) < 35


def test_images_are_cut_by_their_bytes_and_rejects_stay_with_those_that_vote(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i}.png").write_bytes(b"picture %d" % (i % 50))
    image = FieldContent(base.IMAGE_SCHEMA)
    train, test = (rows(side(part, "folder", tmp_path, content=image), "image") for part in PARTS)
    assert not set(train) & set(test) and len(train) + len(test) == 100 and len(test) % 2 == 0
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n' + "no\n" * 30 + '{"text": null}\n')
    wrong = [side(part, "jsonl", tmp_path) for part in PARTS]
    faults = [sum(len(batch.faults) for piece in s.pieces() for batch in s.read(piece)) for s in wrong]
    assert faults == [31, 0]
