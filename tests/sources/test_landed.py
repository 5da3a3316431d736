"""Messages that land as they arrive, and the windows of a stream that they are in."""

from __future__ import annotations

import itertools
import json
import pickle
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream

from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.landed import SCHEMA, parse_slot, slot_name, slot_of
from pe_beam.contracts.stream import Cut, Span, StreamRequest
from pe_beam.errors import DataError, InputError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import open_source
from pe_beam.sources.stream_landed import LandedStream
from pe_beam.streams.loop import Surroundings
from pe_beam.streams.loop import stream as run_stream
from pe_beam.transforms import landing
from pe_beam.transforms.landing import Arrival, Land
from pipelines.land import ArrivalFn
from tests.sources.test_kafka import ROWS
from tests.sources.test_sources import refused

FIRST = datetime(2026, 12, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEXTS = FieldContent(pa.schema([("text", pa.string())]))


def arrival(position: Any, hours: float, value: Any) -> Arrival:
    stamp = FIRST + hours * HOUR
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Arrival(str(position), int(stamp.timestamp() * 1_000_000), raw)


def land(folder: Path, arrivals: Sequence[Arrival], **settings: Any) -> set[str]:
    with beam.Pipeline() as pipeline:
        made = pipeline | beam.Create(arrivals, reshuffle=False) | Land(str(folder), **settings)
        _ = made | beam.Map(lambda name: (folder.parent / "names").open("a").write(name + "\n"))
    names = (folder.parent / "names").read_text().split()
    (folder.parent / "names").unlink()
    assert all((folder / name).is_file() for name in names)
    return set(names)


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Slot -> the messages in its files."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for file in sorted(folder.glob("slot=*/*.parquet")):
        table = pq.read_table(file, partitioning=None)
        assert table.schema.equals(SCHEMA)
        found.setdefault(file.parent.name, []).extend(tuple(row.values()) for row in table.to_pylist())
    return {slot: sorted(messages) for slot, messages in found.items()}


def opened(folder: Path, members: Any, **more: Any) -> Any:
    given: dict[str, Any] = {"content": TEXTS, "columns": {}, "labelled": False, "client": False, **more}
    return open_source(source="landed", path=str(folder), members=members, **given)


def stream(folder: Path) -> LandedStream:
    return LandedStream.open(
        StreamRequest(data_source="landed", path=str(folder), listing=lambda: opened(folder, None).listed())
    )


def texts(folder: Path, members: Any) -> list[str]:
    source = pickle.loads(pickle.dumps(opened(folder, members)))  # noqa: S301
    return [
        batch.faults[row].kind if row in batch.faults else batch.payload["text"][row].as_py()
        for piece in source.pieces()
        for batch in source.read(piece)
        for row in range(len(batch.rows))
    ]


def window(folder: Path, start: int, stop: int) -> Cut:
    return stream(folder).cut(Span(FIRST + start * HOUR, FIRST + stop * HOUR), None)


def test_messages_land_in_their_slots_whatever_order_they_come_in(tmp_path: Path) -> None:
    arrivals = [arrival(i, i / 8, {"text": str(i)}) for i in range(20)]
    one, two = tmp_path / "one", tmp_path / "two"
    names = land(one, arrivals)
    shuffled = [*arrivals, *arrivals[:5]]
    random.Random(0).shuffle(shuffled)
    assert land(two, shuffled) == names
    assert [len(messages) for messages in rows(one).values()] == [8, 8, 4]
    assert rows(one) == rows(two)
    assert list(rows(one)) == [f"slot=20261201T0{hour}0000Z_3600" for hour in range(3)]
    assert land(one, arrivals) == names and rows(one) == rows(two)  # a job that is repeated
    position, stamp, value = rows(one)["slot=20261201T000000Z_3600"][0]
    assert (position, stamp, value) == ("0", FIRST, b'{"text": "0"}')


def test_messages_that_never_end_are_gathered_for_a_while(tmp_path: Path) -> None:
    """Each interval of the workers' clock makes a file of a slot; late and repeated messages are written too."""
    batches = [[arrival(i, i / 8, {"text": str(i)}) for i in range(4)], [arrival(1, 1 / 8, {"text": "1"})]]
    source = test_stream.TestStream()
    for hours, batch in enumerate([*batches, [arrival("late", -5, {"text": "late"})]]):
        instant = FIRST.timestamp() + 3600 * hours
        source = source.add_elements(batch).advance_watermark_to(instant).advance_processing_time(61)
    folder = tmp_path / "in"
    with beam.Pipeline(options=PipelineOptions(["--streaming"])) as pipeline:
        _ = pipeline | source.advance_watermark_to_infinity() | Land(str(folder))
    assert [len(messages) for messages in rows(folder).values()] == [1, 5]
    assert len(list(folder.glob("slot=*/*"))) == 3


def test_files_are_bounded_and_shards_share_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "FILE_ROWS", 3)
    arrivals = [arrival(i, 0, {"text": str(i)}) for i in range(10)]
    assert len(land(tmp_path / "few", arrivals)) == 4
    monkeypatch.setattr(landing, "FILE_BYTES", 30)
    assert len(land(tmp_path / "small", arrivals)) == 5
    assert len(land(tmp_path / "shards", arrivals, shards=3, slot=60)) >= 5
    assert list(rows(tmp_path / "shards")) == ["slot=20261201T000000Z_60"]


def test_what_pubsub_says_is_what_lands() -> None:
    moment = FIRST + timedelta(microseconds=5)
    message = SimpleNamespace(message_id="17", publish_time=moment, data=b"x", attributes={"ts": "1"})
    (found,) = ArrivalFn().process(message)
    assert found == Arrival("17", int(FIRST.timestamp()) * 1_000_000 + 5, b"x")


def test_slots() -> None:
    for seconds in (1, 60, 3600, 86400):
        slot = slot_of(FIRST + 0.7 * HOUR, seconds)
        assert parse_slot(slot_name(slot)) == slot and slot.has(FIRST + 0.7 * HOUR)
    for wrong in ("slot=20261201T000001Z_3600", "slot=20261301T000000Z_3600", "slot=20261201T000000Z_0", "other"):
        assert parse_slot(wrong) is None


def test_a_message_counts_once_in_the_window_of_its_stamp(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    land(folder, [arrival(i, i / 2, {"text": str(i)}) for i in range(8)])
    land(folder, [arrival(i, i / 2, {"text": str(i)}) for i in (1, 2)])  # delivered again
    first, second = window(folder, 0, 2), window(folder, 2, 4)
    twice = "message that was delivered again"
    assert sorted(texts(folder, first.members)) == ["0", "1", "2", "3", twice, twice]
    assert sorted(texts(folder, second.members)) == ["4", "5", "6", "7"]
    assert not set(first.positions) & set(second.positions) and set(second.late) == set(first.positions)
    land(folder, [arrival(0, 0, {"text": "0"}), arrival("late", 1.5, {"text": "late"})])
    assert texts(folder, first.members) and sorted(texts(folder, second.members)) == ["4", "5", "6", "7"]
    late = set(window(folder, 2, 4).late) - set(second.late)
    assert {name.partition("/")[0] for name in late} == set(rows(folder)) & {
        slot_name(slot_of(FIRST, 3600)),
        slot_name(slot_of(FIRST + HOUR, 3600)),
    }
    assert window(folder, 8, 9).members == {"files": [], "twice": {}}


def test_pieces_digests_and_what_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    land(folder, [arrival(i, 0, {"text": str(i)}) for i in range(3)])
    members = window(folder, 0, 1).members
    source = opened(folder, members)
    (piece,) = source.pieces()
    (batch,) = source.read(piece)
    assert batch.rows == [f"{Path(piece.file).relative_to(folder)}:{row}" for row in range(3)]
    again = {**members, "twice": {piece.file: [1]}}
    assert source.digest(piece) != opened(folder, again).digest(piece)
    Path(piece.file).write_bytes(b"other")
    refused(source.pieces, DataError, "data.path", "changed")


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    land(folder, [arrival(0, 0, {"text": "0"})])
    slot = next(folder.glob("slot=*"))
    pq.write_table(pa.table({"x": [1]}), slot / "other.parquet")
    (slot / "torn.parquet").write_bytes(b"PAR1")
    (folder / "elsewhere").mkdir()
    pq.write_table(pa.table({"x": [1]}), folder / "elsewhere/other.parquet")
    found = window(folder, 0, 1)
    assert len(found.positions) == 3
    source = opened(folder, found.members)
    fine = [part for part in source.files() if "other" not in part.file and "torn" not in part.file]
    for part in source.files():
        if part not in fine:
            refused(lambda part=part: source.cut_file(part), DataError, "data.path")
    left = stream(folder).without(found.members, {f"{slot.name}/other.parquet", f"{slot.name}/torn.parquet"})
    assert texts(folder, left) == ["0"]


def test_what_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    land(folder, [arrival(0, 0, {"text": "0"})])
    half = Span(FIRST, FIRST + HOUR / 2)
    refused(lambda: stream(folder).cut(half, None), InputError, "stream.window", "--slot")
    refused(opened(folder, None).pieces, RecipeError, "data.path", "pe-beam stream")
    request = StreamRequest(data_source="landed", path="x", listing=list, stamp="%Y-%m-%d")
    refused(lambda: LandedStream.open(request), RecipeError, "stream.stamp")


def test_a_stream_of_what_has_landed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    values = {0: [1, 2, 2], 1: [3] * 5}
    ids = itertools.count()
    every = [arrival(next(ids), day * 24 + i, {"x": x}) for day, xs in values.items() for i, x in enumerate(xs)]
    land(folder, every)
    land(folder, every[2:4])
    recipe = parse_recipe(
        {
            **ROWS,
            "data": {**ROWS["data"], "source": "landed", "path": str(folder)},
            "stream": {
                "source": "landed",
                "fresh": 1,
                "keep_private": True,
                "window": {"every": "1d", "anchor": FIRST.isoformat()},
            },
        }
    )
    for day in (1, 2):
        run_stream(recipe, tmp_path / "s", once=True, around=Surroundings(now=lambda day=day: FIRST + day * 24 * HOUR))
        land(folder, [arrival("late", 1, {"x": 9})])
    for day, xs in values.items():
        name = f"{FIRST + day * 24 * HOUR:%Y%m%dT%H%M%SZ}"
        table = pq.read_table(tmp_path / f"s/windows/{name}/private/counts/iteration=0001.parquet")
        assert sum(table["count"].to_pylist()) == len(xs)
