"""Windows of a Kafka topic, on a real broker."""

from __future__ import annotations

import itertools
import json
import pickle
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import SHARD_ROWS, Source, SourceBatch
from pe_beam.contracts.stream import Span, StreamRequest
from pe_beam.errors import DataError, InputError, RecipeError, ServiceError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import open_source
from pe_beam.sources.kafka import KafkaSource
from pe_beam.sources.kafka_client import KafkaOptions
from pe_beam.sources.stream_kafka import KafkaStream, KafkaStreamOptions
from pe_beam.streams.ledger import read_lines
from pe_beam.streams.loop import Surroundings
from pe_beam.streams.loop import stream as run_stream
from tests.sources.kafka_broker import Broker, missing
from tests.sources.test_sources import joined, refused

pytestmark = pytest.mark.xdist_group("kafka")
TEXTS = FieldContent(pa.schema([("text", pa.string())]))
PICTURES = FieldContent(pa.schema([("image", pa.binary())]))
ROWS: dict[str, Any] = {
    "name": "messages",
    "data": {
        "source": "kafka",
        "never_stop": True,
        "schema": {"columns": {"x": {"type": "integer", "min": 0, "max": 9}}},
    },
    "modality": "tabular",
    "generator": {"name": "tabular"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 1, "samples": 20},
    "privacy": {"epsilon": 2, "delta": 1e-5},
}
_PAST = datetime(2026, 1, 1, tzinfo=UTC)
_NEXT = itertools.count()
Members = dict[str, Any]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    made = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def topic(broker: Broker) -> str:
    return broker.topic(f"t{next(_NEXT)}")


def now() -> datetime:
    """An instant that no message has: those before are stamped earlier, those behind later."""
    time.sleep(0.003)
    found = datetime.now(UTC)
    time.sleep(0.003)
    return found


def options(broker: Broker, **more: Any) -> KafkaOptions:
    return KafkaOptions.model_validate({"servers": [broker.server], "patience": 20, **more})


def stream(broker: Broker, topic: str, skew: float = 0.0, **more: Any) -> KafkaStream:
    own = KafkaStreamOptions(skew=skew)
    return KafkaStream.open(
        StreamRequest(
            data_source="kafka",
            path=topic,
            listing=list,
            close_after=timedelta(hours=1),
            data_options=options(broker, **more),
            options=own,
        )
    )


def cut(broker: Broker, topic: str, span: Span, before: Members | None = None, skew: float = 0.0) -> Members:
    found = stream(broker, topic, skew).cut(span, before)
    assert not found.positions and not found.late and not found.unstamped
    return dict(found.members)


def cut_when_decided(broker: Broker, topic: str, span: Span) -> Members:
    """The cut, once the broker has marked the ends of transactions, a moment after it was told of them."""
    for _ in range(100):
        try:
            return cut(broker, topic, span)
        except ServiceError:
            time.sleep(0.05)
    return cut(broker, topic, span)


def source(broker: Broker, topic: str, members: Members, **more: Any) -> Source:
    given: dict[str, Any] = {
        "content": TEXTS,
        "columns": {},
        "labelled": False,
        "client": False,
        "never_stop": True,
        "options": options(broker, **more.pop("options", {})),
        **more,
    }
    return open_source(source="kafka", path=topic, members=members, **given)


def texts(broker: Broker, topic: str, members: Members, **more: Any) -> list[Any]:
    """The texts of a window, and the kind of the fault where there is one."""
    opened = pickle.loads(pickle.dumps(source(broker, topic, members, **more)))  # noqa: S301
    batches = [batch for piece in opened.pieces() for batch in opened.read(piece)]
    return [
        batch.faults[row].kind if row in batch.faults else batch.payload.column(0)[row].as_py()
        for batch in batches
        for row in range(len(batch.rows))
    ]


def words(batches: list[SourceBatch]) -> list[str]:
    return [text for batch in batches for text in batch.payload["text"].to_pylist()]


def test_windows_tile_and_each_message_is_in_one(broker: Broker) -> None:
    topic = broker.topic("tiles", partitions=2)
    instants, sent = [now()], []
    for window in range(3):
        sent.append([f"{window}-{i}" for i in range(4)])
        for i, text in enumerate(sent[-1]):
            broker.send(topic, [{"text": text}], partition=i % 2)
        instants.append(now())
        broker.send(topic, [{"text": f"{window}-last"}] if window == 1 else [])
        sent[-1] += ["1-last"] if window == 1 else []
        instants[-1] = now()
    before = None
    found = []
    for start, stop in itertools.pairwise(instants):
        members = cut(broker, topic, Span(start, stop), before)
        assert members == cut(broker, topic, Span(start, stop), before)
        for partition, (first, _) in members["partitions"].items():
            assert before is None or first == before["partitions"][partition][1]
        found.append(texts(broker, topic, members))
        before = members
    assert [sorted(window) for window in found] == [sorted(window) for window in sent]
    empty = cut(broker, topic, Span(instants[-1], now()), before)
    assert texts(broker, topic, empty) == []
    assert source(broker, topic, empty).pieces() == []


def test_a_cut_stays_as_it_is_when_more_comes(broker: Broker, topic: str) -> None:
    start = now()
    broker.send(topic, [{"text": "a"}, {"text": "b"}])
    span = Span(start, now())
    members = cut(broker, topic, span)
    assert members["partitions"] == {"0": [0, 2]}
    broker.send(topic, [{"text": "c"}])
    broker.grow(topic, 3)
    assert cut(broker, topic, span) == members
    broker.send(topic, [{"text": "new"}], partition=2)
    following = cut(broker, topic, Span(span.stop, now()), members)
    assert following["partitions"] == {"0": [2, 3], "2": [0, 1]}
    assert texts(broker, topic, following) == ["c", "new"]


def test_pieces_rows_batches_and_digests(broker: Broker, topic: str) -> None:
    start = now()
    broker.send(topic, [{"text": str(i), "label": "a", "who": i % 3} for i in range(SHARD_ROWS + 10)])
    members = cut(broker, topic, Span(start, now()))
    opened = source(
        broker, topic, members, labelled=True, client=True, columns={"client": "who"}, options={"format": "json"}
    )
    first, last = opened.pieces()
    assert (first.start, first.stop, last.start, last.stop) == (0, SHARD_ROWS, SHARD_ROWS, SHARD_ROWS + 10)
    assert first.name == "000000-000000000000"
    batches = [*opened.read(first), *opened.read(last)]
    assert [len(batch.rows) for batch in batches] == [1024] * 8 + [10]
    assert joined(batches, "rows") == [f"0:{i}" for i in range(SHARD_ROWS + 10)]
    assert words(batches) == [str(i) for i in range(SHARD_ROWS + 10)]
    assert joined(batches, "clients")[:4] == ["0", "1", "2", "0"] and set(joined(batches, "labels")) == {"a"}
    assert opened.digest(first) == source(broker, topic, members).digest(first) != opened.digest(last)


def test_what_is_a_reject(broker: Broker, topic: str) -> None:
    start = now()
    odd = [None, b"", b"[1]", b"\xff", b'{"text": "a", "text": "b"}', {"text": [1]}, {"other": 1}, {"text": "fine"}]
    broker.send(topic, odd)
    members = cut(broker, topic, Span(start, now()))
    assert texts(broker, topic, members) == [
        "message without a value",
        "message that is not a JSON object",
        "message that is not a JSON object",
        "text that is not UTF-8",
        "message with the same name twice in an object",
        "value that is no text, number, true, false or null",
        "missing text",
        "fine",
    ]
    values = {"options": {"format": "value"}}
    assert texts(broker, topic, members, **values)[:5] == [
        "message without a value",
        "",
        "[1]",
        "text that is not UTF-8",
        '{"text": "a", "text": "b"}',
    ]
    assert texts(broker, topic, members, **values, content=PICTURES)[3] == b"\xff"
    refused(lambda: source(broker, topic, members, **values, labelled=True), RecipeError, "format", "json")


def test_transactions_count_when_they_are_committed(broker: Broker, topic: str) -> None:
    start = now()
    writer = broker.producer(**{"transactional.id": topic})
    writer.init_transactions(20)
    for text, end in (("aborted", writer.abort_transaction), ("kept", writer.commit_transaction)):
        writer.begin_transaction()
        broker.send(topic, [{"text": text}], producer=writer)
        end(20)
    writer.begin_transaction()
    broker.send(topic, [{"text": "open"}], producer=writer)
    span = Span(start, now())
    broker.send(topic, [{"text": "later"}])
    refused(lambda: cut(broker, topic, span), ServiceError, "transaction", "close_after")
    writer.commit_transaction(20)
    members = cut_when_decided(broker, topic, span)
    assert members["partitions"] == {"0": [0, 5]}  # two markers
    assert texts(broker, topic, members) == ["kept", "open"]
    following = cut(broker, topic, Span(span.stop, now()), members)
    assert texts(broker, topic, following) == ["later"]  # and the last marker


def test_a_range_that_ends_in_what_was_aborted(broker: Broker, topic: str) -> None:
    start = now()
    broker.send(topic, [{"text": "first"}])
    writer = broker.producer(**{"transactional.id": topic})
    writer.init_transactions(20)
    writer.begin_transaction()
    broker.send(topic, [{"text": "aborted"}] * 3, producer=writer)
    writer.abort_transaction(20)
    time.sleep(0.1)  # the marker is written a moment later
    assert texts(broker, topic, cut_when_decided(broker, topic, Span(start, now()))) == ["first"]


def test_a_clock_that_goes_back_moves_no_other_message(broker: Broker, topic: str) -> None:
    """A message is another window's by its own stamp, within the skew; beyond it is a reject, once."""
    start = now()
    broker.send(topic, [{"text": "a"}])
    middle = now()
    broker.send(topic, [{"text": "b"}])
    stop = now()
    broker.send(topic, [{"text": "c"}])
    end = now()
    # As if the clock had said `end` before `b` came: with and without skew, ranges differ, and records do not.
    wide = (stop - middle).total_seconds()
    one = cut(broker, topic, Span(start, middle), skew=wide)
    assert (one["partitions"], one["looked"]) == ({"0": [0, 1]}, {"0": [0, 2]})
    assert texts(broker, topic, one) == ["a"]
    two = cut(broker, topic, Span(middle, stop), one, skew=wide)
    assert (two["partitions"], two["looked"]["0"][0]) == ({"0": [1, 2]}, 2)
    assert texts(broker, topic, two) == ["b"]
    late = {**two, "stamps": [int(stop.timestamp() * 1000) + 1, int(end.timestamp() * 1000) + 1]}
    late |= {"partitions": {"0": [0, 3]}, "looked": {"0": [1, 3]}}
    assert texts(broker, topic, late) == [
        "message stamped before the window, behind later ones that it was cut by",
        "c",
    ]


STAMPS = [0, 900, 200, 3100, 1300, 3400, 2800, 2999, 3000, 6200, 4500, 5900, 7000, 8900, 6999, 9100]
"""Milliseconds since the first window of three seconds begins: they go back by 1,800 at most."""


def _stamped(broker: Broker, stamps: Sequence[int]) -> str:
    """A topic whose stamps are chosen, as no broker's clock can be set here; each message says its own."""
    topic = broker.topic(f"t{next(_NEXT)}", message_timestamp_type="CreateTime")
    writer = broker.producer()
    for stamp in stamps:
        moment = int(_PAST.timestamp() * 1000) + stamp
        writer.produce(topic, value=json.dumps({"text": str(stamp)}), partition=0, timestamp=moment)
    assert writer.flush(20) == 0
    return topic


def _windows(broker: Broker, topic: str, skew: float) -> list[list[str]]:
    before, found = None, []
    for start in range(0, 12, 3):
        span = Span(_PAST + timedelta(seconds=start), _PAST + timedelta(seconds=start + 3))
        before = cut(broker, topic, span, before, skew)
        found.append(texts(broker, topic, before))
    return found


def test_one_message_more_moves_no_other_while_clocks_go_back_by_less_than_the_skew(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pe_beam.sources.kafka._BY_BROKER", 1)
    monkeypatch.setattr(KafkaStream, "check", lambda _: None)
    whole = [[str(s) for s in STAMPS if start <= s < start + 3000] for start in range(0, 12000, 3000)]
    assert _windows(broker, _stamped(broker, STAMPS), 2) == whole
    for left_out in (3100, 3400, 6200, 9100):  # those by which windows are cut
        topic = _stamped(broker, [s for s in STAMPS if s != left_out])
        assert _windows(broker, topic, 2) == [[text for text in texts if text != str(left_out)] for texts in whole]
    late = "message stamped before the window, behind later ones that it was cut by"
    without_skew = [text for texts in _windows(broker, _stamped(broker, STAMPS), 0) for text in texts]
    behind = {"1300", "2800", "2999", "4500", "5900"}  # of an earlier window than the message before them
    assert without_skew.count(late) == len(behind)
    assert {text for texts in whole for text in texts} - set(without_skew) == behind


def test_stamps_of_the_broker_are_demanded(broker: Broker) -> None:
    chosen = broker.topic("chosen", message_timestamp_type="CreateTime")
    refused(stream(broker, chosen).check, InputError, "data.path", "LogAppendTime")
    compacted = broker.topic("compacted", cleanup_policy="compact")
    refused(stream(broker, compacted).check, InputError, "cleanup.policy", "delete")
    refused(lambda: cut(broker, chosen, Span(now(), now())), InputError, "LogAppendTime")
    refused(stream(broker, "nowhere").check, InputError, "data.path", "no topic")
    members = {"topic_id": stream(broker, chosen)._topic.about()[0], "stamps": [0, 1 << 60]}
    broker.send(chosen, [{"text": "a"}])
    members |= {"partitions": {"0": [0, 1]}, "looked": {"0": [0, 1]}}
    assert texts(broker, chosen, members) == ["message with a stamp of its producer's; the broker's is wanted"]


def test_messages_that_retention_took_are_missed(broker: Broker, topic: str) -> None:
    start = now()
    broker.send(topic, [{"text": str(i)} for i in range(5)])
    span = Span(start, now())
    members = cut(broker, topic, span)
    opened = source(broker, topic, members)
    (piece,) = opened.pieces()
    broker.send(topic, [{"text": "next"}] * 5)
    end = now()
    broker.delete_records(topic, 0, 3)
    refused(lambda: list(opened.read(piece)), DataError, "data.path", "no longer")
    refused(lambda: opened.digest(piece), DataError, "no longer")
    refused(opened.pieces, DataError, "no longer")
    assert cut(broker, topic, Span(span.stop, end), members)["partitions"] == {"0": [5, 10]}
    refused(lambda: cut(broker, topic, span), InputError, "first window", "anchor")
    broker.delete_records(topic, 0, 6)
    refused(lambda: cut(broker, topic, Span(span.stop, end), members), InputError, "no window has had")
    other = {**members, "topic_id": "another"}
    refused(lambda: cut(broker, topic, Span(span.stop, end), other), InputError, "made anew")


def test_a_broker_that_is_killed_and_started_again_while_it_is_read(broker: Broker, topic: str) -> None:
    start = now()
    broker.send(topic, [{"text": str(i), "fill": "x" * 20_000} for i in range(3000)])
    members = cut(broker, topic, Span(start, now()))
    opened = source(broker, topic, members)
    (piece,) = opened.pieces()
    whole = opened.digest(piece)
    batches = opened.read(piece)
    got = [next(batches)]
    broker.kill()
    refused(lambda: stream(broker, topic, patience=1).check(), ServiceError, "data.options.servers", "goes on")
    hasty = source(broker, topic, members, options={"patience": 1})
    refused(lambda: hasty.digest(piece), ServiceError, "nothing is lost")
    broker.start()
    got += batches
    assert words(got) == [str(i) for i in range(3000)]
    assert opened.digest(piece) == whole
    assert cut(broker, topic, Span(start, now())) | {"stamps": members["stamps"]} == members


def test_recipes_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = {"servers": ["host:9092"]}
    for wrong, word in (
        ({}, "servers"),
        ({"servers": ["kafka://host:9092"]}, "without a scheme"),
        ({**fine, "settings": {"sasl.password": "zzsecret"}}, "secrets"),
        ({**fine, "settings": {"isolation.level": "read_uncommitted"}}, "allowed"),
        ({**fine, "secrets": {"sasl.password": "zzsecret"}}, "not a value"),
        ({**fine, "secrets": {"auto.offset.reset": "env:X"}}, "allowed"),
    ):
        with pytest.raises(ValueError, match=word):
            KafkaOptions.model_validate(wrong)
    asked: dict[str, Any] = {"content": TEXTS, "columns": {}, "labelled": False, "client": False}
    refused(lambda: open_source(source="kafka", path="t", **asked), RecipeError, "data.path", "pe-beam stream")
    usual: dict[str, Any] = {"data_source": "kafka", "listing": list, "close_after": timedelta(hours=1)}
    request = StreamRequest(**usual, path="a/b", data_options=KafkaOptions.model_validate(fine))
    refused(lambda: KafkaStream.open(request), RecipeError, "data.path", "topic")
    request = StreamRequest(**usual, path="t", stamp="%Y", data_options=KafkaOptions.model_validate(fine))
    refused(lambda: KafkaStream.open(request), RecipeError, "stream.stamp")
    request = StreamRequest(
        **{**usual, "close_after": timedelta(seconds=59)}, path="t", data_options=request.data_options
    )
    refused(lambda: KafkaStream.open(request), RecipeError, "stream.window.close_after", "skew")
    monkeypatch.delenv("NOWHERE", raising=False)
    (tmp_path / "empty").touch()
    for secret, word in (
        ("env:NOWHERE", "not set"),
        (f"file:{tmp_path}/no", "cannot be read"),
        (f"file:{tmp_path}/empty", "empty"),
    ):
        given = KafkaOptions.model_validate({**fine, "secrets": {"sasl.password": secret}})
        made = KafkaStream.open(StreamRequest(**usual, path="t", data_options=given))
        refused(made.check, RecipeError, "data.options.secrets.sasl.password", word)
    (tmp_path / "given").write_text("zzsecret\n")
    given = KafkaOptions.model_validate(
        {
            **fine,
            "settings": {"security.protocol": "zzsecret"},
            "secrets": {"sasl.password": f"file:{tmp_path}/given"},
        }
    )
    made = KafkaStream.open(StreamRequest(**usual, path="t", data_options=given))
    refused(made.check, RecipeError, "data.options", "librdkafka")


def test_a_window_within_one_millisecond_is_empty(broker: Broker, topic: str) -> None:
    broker.send(topic, [{"text": "before"}])
    start = now()
    members = cut(broker, topic, Span(start, start + timedelta(microseconds=1)))
    assert members["partitions"] == {"0": [1, 1]}
    assert texts(broker, topic, members) == []


def test_a_stream_whose_broker_is_killed_in_the_middle_of_a_window(broker: Broker, tmp_path: Path) -> None:
    """Messages before the first window count nowhere; each other one in the window of its stamp, once."""
    topic = broker.topic("whole", partitions=2)
    stamps = broker.send(topic, [{"x": 0}])
    anchor = _second_ahead()
    for window, values in enumerate(([1, 2, 2], [3, 3, 3, 3])):
        _wait_until(anchor + timedelta(seconds=window))
        for place, x in enumerate(values):
            stamps += broker.send(topic, [{"x": x}], partition=place % 2)
    _wait_until(anchor + timedelta(seconds=2))
    recipe = parse_recipe(
        {
            **ROWS,
            "data": {**ROWS["data"], "path": topic, "options": {"servers": [broker.server], "patience": 5}},
            "stream": {
                "source": "kafka",
                "options": {"skew": 0},
                "fresh": 1,
                "keep_private": True,
                "window": {"every": "1s", "anchor": anchor.isoformat()},
            },
        }
    )
    real = KafkaSource.read

    def dies(*given: Any) -> Iterator[SourceBatch]:
        broker.kill()
        return real(*given)

    around = Surroundings(now=lambda: anchor + timedelta(seconds=2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ServiceError, match="has not answered"):
        patch.setattr(KafkaSource, "read", dies)
        run_stream(recipe, tmp_path, once=True, around=around)
    broker.start()
    broker.wait(topic, 2)
    store = run_stream(recipe, tmp_path, once=True, around=around)
    names = [f"{anchor + timedelta(seconds=window):%Y%m%dT%H%M%SZ}" for window in range(2)]
    assert [line["window"] for line in read_lines(store)] == names
    found = [pq.read_table(tmp_path / f"windows/{name}/private/counts/iteration=0001.parquet") for name in names]
    begins = int(anchor.timestamp()) * 1000
    wanted = [sum(begins + 1000 * at <= stamp < begins + 1000 * (at + 1) for stamp in stamps) for at in range(2)]
    assert [sum(table["count"].to_pylist()) for table in found] == wanted and wanted[0]


def _second_ahead() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)


def _wait_until(instant: datetime) -> None:
    time.sleep(max(0.0, (instant - datetime.now(UTC)).total_seconds()) + 0.003)
