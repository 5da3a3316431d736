"""The windows of a Kafka topic, by the stamps that its brokers set when they appended the messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field

from pe_beam.contracts.options import Options
from pe_beam.contracts.stream import Cut, Span, StreamRequest, StreamSource
from pe_beam.errors import InputError, RecipeError, ServiceError
from pe_beam.numbers import Real
from pe_beam.sources.kafka_client import KafkaOptions, Topic

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_STAMPS, _POLICY = "message.timestamp.type", "cleanup.policy"
Offsets = dict[int, int]


class KafkaStreamOptions(Options):
    """How far brokers may disagree about the time."""

    skew: Real = Field(
        60.0,
        ge=0,
        le=86400,
        description="seconds by which stamps of a partition may go back; window.close_after is as long or longer",
    )


class KafkaStream(StreamSource):
    """Windows of a topic whose stamps are LogAppendTime.

    `b(T)`, for an instant T, is the first offset of a partition that is stamped T or later, or the next offset if there
    is none yet. A window's members hold, by partition:

    - `partitions`: `[b(start), b(stop))`. These tile: each begins where the one before ends.
    - `looked`: `[b(stop of the window before + skew), b(stop + skew))`. These tile as well.

    Its records are those from `b(start)` to `b(stop + skew)` whose own stamp is in the window. Within the skew, one
    message more or less therefore moves no other message into another window, even if a new leader's clock is behind.
    A message that is stamped before the window and lies in `looked` came too late for its own: a reject, once.

    After `stop + skew` has passed on every broker, these offsets never change. A message keeps its offset and stamp. If
    one is stamped T or later, nothing comes before it any more; if none is, what comes will be stamped later than T.
    """

    Options: ClassVar[type[Options]] = KafkaStreamOptions
    reads = frozenset({"kafka"})

    @classmethod
    def open(cls, request: StreamRequest) -> KafkaStream:
        """See StreamSource."""
        if request.stamp is not None:
            raise RecipeError(
                "stream.stamp: refused for stream.source kafka, whose brokers stamp messages; allowed: null"
            )
        options = KafkaOptions.model_validate(request.data_options.model_dump())
        own = KafkaStreamOptions.model_validate(request.options.model_dump())
        skew = timedelta(seconds=own.skew)
        if request.close_after < skew:
            raise RecipeError(
                f"stream.window.close_after: at least stream.options.skew ({own.skew:g} s) is wanted, by which stamps "
                "of a partition may go back"
            )
        return cls(Topic(request.path, options), skew)

    def __init__(self, topic: Topic, skew: timedelta) -> None:
        self._topic = topic
        self._skew = skew

    def check(self) -> None:
        """See StreamSource.

        Raises:
          InputError: producers stamp the messages, or the topic is compacted.
          ServiceError: the cluster does not answer.
        """
        found = self._topic.configured(_STAMPS, _POLICY)
        if found[_STAMPS] != "LogAppendTime":
            raise InputError(
                f"data.path: the topic has {_STAMPS}={found[_STAMPS]}, by which a producer chooses the window of its "
                "messages; LogAppendTime is wanted, set before the first window begins"
            )
        if "compact" in found[_POLICY]:
            raise InputError(
                f"data.path: the topic has {_POLICY}={found[_POLICY]}, by which one message removes others of its key; "
                "delete is wanted"
            )

    def cut(self, span: Span, before: Mapping[str, Any] | None) -> Cut:
        """See StreamSource.

        Raises:
          InputError: as `check`, or messages are missing that no window has had.
          ServiceError: the cluster does not answer, or a transaction is open that may still write into the window.
        """
        self.check()
        topic_id, partitions = self._topic.about()
        ends = _Ends(before)
        if before is not None and (topic_id != before["topic_id"] or not set(ends.stops) <= set(partitions)):
            raise InputError(
                "data.path: it is not the topic of the windows before, but one made anew; start a new stream"
            )
        stamps = _milliseconds(span.start), _milliseconds(span.stop)
        # Asked first: a message that comes between the answers is in no window yet.
        following = {p: after for p, (_, after) in self._topic.ends(partitions).items()}
        stops = self._at(stamps[1], following)
        lasts = self._at(_milliseconds(span.stop + self._skew), following)
        firsts = self._at(stamps[0], following) if before is None else {p: ends.stops.get(p, 0) for p in partitions}
        looked = firsts if before is None else {p: ends.lasts.get(p, 0) for p in partitions}
        decided = self._topic.ends(partitions, decided=True)
        for p, (left, sure) in decided.items():
            _refuse_missing(left, firsts[p], following[p], is_first=before is None)
            _refuse_open(sure, lasts[p])
        # A partition without messages is left out: a cut is the same if one is added before it is repeated.
        used = [p for p in partitions if lasts[p] > 0]
        members = {
            "topic": self._topic.name,
            "topic_id": topic_id,
            "stamps": list(stamps),
            "partitions": {str(p): [firsts[p], max(firsts[p], stops[p])] for p in used},
            "looked": {str(p): [looked[p], max(looked[p], lasts[p])] for p in used},
        }
        return Cut(members)

    def _at(self, stamp: int, following: Offsets) -> Offsets:
        """Returns b(stamp) of each partition."""
        found = self._topic.offsets_at(stamp, following)
        return {p: following[p] if offset < 0 else offset for p, offset in found.items()}


def _refuse_missing(left: int, first: int, following: int, *, is_first: bool) -> None:
    if left > first or following < first:
        raise InputError(
            "data.path: messages that no window has had are no longer in the topic (retention or deletion took them); "
            "a stream without them would be another: start a new one, with a retention that outlasts its windows"
        )
    if is_first and 0 < left == first < following:
        raise InputError(
            "data.path: the topic begins within the first window, so retention or deletion may have taken messages of "
            "it; a later stream.window.anchor is wanted"
        )


def _refuse_open(sure: int, last: int) -> None:
    if sure < last:
        raise ServiceError(
            "data.path: a transaction that wrote into the window is still open; the same command goes on when it has "
            "ended (a close_after longer than the brokers' transaction.max.timeout.ms waits for it)"
        )


class _Ends:
    """Where the ranges of the window before end, by partition; empty for the first window."""

    def __init__(self, before: Mapping[str, Any] | None) -> None:
        self.stops = {int(p): stop for p, (_, stop) in (before or {}).get("partitions", {}).items()}
        self.lasts = {int(p): last for p, (_, last) in (before or {}).get("looked", {}).items()}


def _milliseconds(instant: datetime) -> int:
    """Returns the first whole millisecond since 1970 that is not before an instant."""
    return -((_BEGINNING - instant) // timedelta(milliseconds=1))
