"""Source python: shards follow from `source` and `row` alone; a resume compares; what cannot be a record is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.transforms import window

from pe_beam.contracts import source as base
from pe_beam.driver.loop import embed_only
from pe_beam.engine import records
from pe_beam.engine.frozen import read_index
from pe_beam.errors import DataError, InputError, PeBeamError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from tests.whole_runs import UNASKED

HERE = "tests.engine.test_records"
WORDS = ["cat", "dog", "bird", "fish", "tree", "stone"]


def rows_of(count: int) -> pa.Table:
    texts = [f"{WORDS[i % 6]} {WORDS[i // 6 % 6]} number {i % 10}" for i in range(count)]
    names = ["b.log" if i % 3 else "a.log" for i in range(count)]
    return pa.table(
        {"source": names, "row": pa.array(range(count), pa.int64()), "text": texts, "unused": [None] * count}
    )


class Given(beam.PTransform):
    """Yields a table in batches of some size and order."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self._batches = batches

    def expand(self, root: Any) -> beam.PCollection:
        return root | beam.Create(self._batches, reshuffle=False)


def in_batches(count: int = 120, size: int = 7, seed: int = 0) -> Given:
    batches = rows_of(count).combine_chunks().to_batches(max_chunksize=size)
    random.Random(seed).shuffle(batches)
    return Given(batches)


def broken(kind: str) -> Given:
    table = rows_of(20)
    made: list[Any] = table.to_batches()
    if kind == "twice":
        made = [*made, *table.slice(3, 1).to_batches()]
    elif kind == "no row":
        made = table.drop_columns(["row"]).to_batches()
    elif kind == "null":
        made = table.set_column(1, "row", pa.array([None] * 20, pa.int64())).to_batches()
    elif kind == "below 0":
        made = table.set_column(1, "row", pa.array(range(-1, 19), pa.int64())).to_batches()
    elif kind == "floats":
        made = table.set_column(1, "row", pa.array([float(i) for i in range(20)])).to_batches()
    elif kind == "no batch":
        made = [{"source": "zzsecret", "row": 1}]
    elif kind == "other columns":
        made = [*made, *rows_of(30).slice(20).rename_columns(["source", "row", "body", "unused"]).to_batches()]
    elif kind == "no column":
        made = table.rename_columns(["source", "row", "body", "unused"]).to_batches()
    elif kind == "nothing":
        made = []
    return Given(made)


class Sliding(beam.PTransform):
    """Yields each batch in three windows."""

    def expand(self, root: Any) -> beam.PCollection:
        return root | in_batches() | beam.WindowInto(window.SlidingWindows(30, 10))


def in_windows() -> Sliding:
    return Sliding()


def no_transform() -> int:
    return 1


def raises() -> int:
    raise OSError("zzsecret")


def recipe(function: str, **arguments: Any) -> dict[str, Any]:
    data = {"source": "python", "path": f"{HERE}:{function}", "options": {"arguments": arguments}}
    return {**UNASKED, "name": "records", "data": data}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 16)


def embedded(path: Path, function: str = "in_batches", flags: tuple[str, ...] = (), **arguments: Any) -> dict[str, Any]:
    run = embed_only(parse_recipe(recipe(function, **arguments)), path, list(flags))
    found = read_index(run)
    assert found is not None
    return found


def test_shards_do_not_depend_on_batches_order_or_workers(tmp_path: Path) -> None:
    several = ("--direct_num_workers=2", "--direct_running_mode=multi_threading")
    found = [
        embedded(tmp_path / "one", size=120),
        embedded(tmp_path / "two", size=1, seed=1),
        embedded(tmp_path / "three", flags=several, size=9, seed=2),
    ]
    assert len({each["fingerprint"] for each in found}) == 1
    assert [shard["source"] for shard in found[0]["shards"]] == [shard["source"] for shard in found[1]["shards"]]
    assert len(found[0]["shards"]) == 16  # of both sources: eight ranges of 16 rows


def test_records_in_windows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.path: records in windows"):
        embedded(tmp_path / "run", "in_windows")


def test_a_resume_compares_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = embedded(tmp_path / "run")
    assert embedded(tmp_path / "run")["fingerprint"] == before["fingerprint"]
    real = rows_of

    def changed(count: int) -> pa.Table:
        table = real(count)
        texts = table["text"].to_pylist()
        texts[5] += "!"
        return table.set_column(2, "text", pa.array(texts))

    monkeypatch.setattr(f"{HERE}.rows_of", changed)
    with pytest.raises(DataError, match="the private data differ"):
        embedded(tmp_path / "run")
    monkeypatch.setattr(f"{HERE}.rows_of", lambda count: real(count - 1))
    with pytest.raises(DataError, match="the private data differ"):
        embedded(tmp_path / "run")
    monkeypatch.setattr(f"{HERE}.rows_of", lambda count: real(0))
    with pytest.raises(DataError, match="the private data differ"):
        embedded(tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("twice", "a pair of source and row twice"),
        ("no row", "one column row of whole numbers"),
        ("null", "one column row of whole numbers"),
        ("floats", "one column row of whole numbers"),
        ("below 0", "number below 0"),
        ("no batch", "no Arrow batch"),
        ("other columns", "differ in their columns"),
        ("no column", "'text': no column of that name"),
        ("nothing", "there is no record that can be used"),
    ],
)
def test_what_is_no_record_stops_where_nothing_is_spent_yet(kind: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as caught:
        embed_only(parse_recipe(recipe("broken", kind=kind)), tmp_path / "run")
    assert "zzsecret" not in str(caught.value) and "a.log" not in str(caught.value)
    ledger = tmp_path / "run" / "ledger.jsonl"
    assert not ledger.exists() or not ledger.read_bytes()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nothing", r"package\.module:function is wanted"),
        ("no.such.module:f", "cannot be imported"),
        (f"{HERE}:nosuch", "cannot be imported"),
        (f"{HERE}:no_transform", "returns no PTransform"),
        (f"{HERE}:raises", "raised OSError when it was called"),
        (f"{HERE}:broken", "does not take them"),
    ],
)
def test_functions_that_cannot_be_used(path: str, told: str, tmp_path: Path) -> None:
    plain = recipe("in_batches")
    plain["data"]["path"] = path
    with pytest.raises(RecipeError, match=told):
        embed_only(parse_recipe(plain), tmp_path / "run")


def test_never_stop_and_other_readers_are_refused(tmp_path: Path) -> None:
    plain = recipe("in_batches")
    plain["data"]["never_stop"] = True
    with pytest.raises(RecipeError, match="never_stop: refused for source python"):
        parse_recipe(plain)
    from pe_beam.recipe.sources import private_source

    with pytest.raises(InputError, match="cut where they arrive"):
        private_source(parse_recipe(recipe("in_batches"))).pieces()


def test_ranges_are_split_and_joined_by_rows() -> None:
    table = rows_of(50)
    parts: dict[Any, list[bytes]] = {}
    for batch in table.to_batches(max_chunksize=4):
        for place, packed in records.split_batch(batch):
            parts.setdefault(place, []).append(packed)
    assert sorted(parts) == [(name, block) for name in ("a.log", "b.log") for block in range(4)]
    found = [records.join_records(place, reversed(packed)) for place, packed in parts.items()]
    assert sorted(row for _, each in found for row in each["row"].to_pylist()) == list(range(50))
    assert all(each["row"].to_pylist() == sorted(each["row"].to_pylist()) for _, each in found)
    assert all(piece.start <= min(each["row"].to_pylist()) for piece, each in found)


def test_the_example_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs/examples/parts"))
    (tmp_path / "notes").mkdir()
    for name in ("a", "b"):
        (tmp_path / "notes" / f"{name}.txt").write_text("\n".join(f"{name} {word}" for word in WORDS * 5))
    plain = recipe("", pattern=str(tmp_path / "notes/*.txt"))
    plain["data"]["path"] = "own_records:notes"
    index = read_index(embed_only(parse_recipe(plain), tmp_path / "run"))
    assert index is not None and len(index["shards"]) == 4
    about = [json.loads(file.read_text()) for file in (tmp_path / "run/private/embeddings").glob("*-*.json")]
    assert sum(each["rows"] for each in about) == 60
    with pytest.raises(PeBeamError, match="does not take them"):
        plain["data"]["options"] = {"arguments": {"nosuch": 1}}
        embed_only(parse_recipe(plain), tmp_path / "other")
