"""Messages of a Kafka topic, of one window of a stream: the ranges of offsets that its members name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pe_beam.contracts import source as base
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import EmptyInputError, RecipeError
from pe_beam.sources.kafka_client import KafkaOptions, Topic, gone
from pe_beam.sources.messages import Messages

LATE = Fault("message stamped before the window, behind later ones that it was cut by")
PRODUCERS = Fault("message with a stamp of its producer's; the broker's is wanted")
_OTHERS = Fault("message of another window")  # nowhere told
_BY_BROKER = 2  # TIMESTAMP_LOG_APPEND_TIME


@dataclass(frozen=True)
class Members:
    """The messages of a window: those of `ranges` whose stamp is in `[start, stop)`.

    Attributes:
      topic_id: the id of the topic.
      start: ms since 1970, UTC.
      stop: the same.
      ranges: partition -> (first offset, offset behind the last, offset from which on no window before has looked).
    """

    topic_id: str
    start: int
    stop: int
    ranges: Mapping[int, tuple[int, int, int]]

    @classmethod
    def of(cls, members: Mapping[str, Any]) -> Members:
        """Returns what `KafkaStream.cut` has found."""
        start, stop = members["stamps"]
        ranges = {
            int(partition): (first, members["looked"][partition][1], members["looked"][partition][0])
            for partition, (first, _) in members["partitions"].items()
        }
        return cls(members["topic_id"], start, stop, dict(sorted(ranges.items())))


class KafkaSource(Source):
    """The messages of one window of a topic, as `KafkaStream` has cut it. `pe-beam stream` alone reads it.

    `Messages` says what a record is. Keys and headers are not read. Messages of aborted transactions are none.
    """

    Options: ClassVar[type[Options]] = KafkaOptions
    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def on_disk(cls, path: str) -> bool:
        """See Source: the path is a name."""
        return False

    @classmethod
    def open(cls, request: SourceRequest) -> KafkaSource:
        """See Source."""
        if request.members is None:
            raise RecipeError(
                f"{request.key}: a topic has no end: source kafka is read window by window, by `pe-beam stream` with "
                "stream.source: kafka"
            )
        options = KafkaOptions.model_validate(request.options.model_dump())
        return cls(Topic(request.path, options, request.key), Messages(request, options), Members.of(request.members))

    def __init__(self, topic: Topic, messages: Messages, members: Members) -> None:
        self._topic = topic
        self._messages = messages
        self._members = members

    def pieces(self) -> list[Piece]:
        """See Source. Also raises DataError if messages of the window are no longer in the topic."""
        self._messages.check()
        topic_id, _ = self._topic.about()
        ranges = {partition: place for partition, place in self._members.ranges.items() if place[0] < place[1]}
        left = self._topic.ends(ranges)
        if topic_id != self._members.topic_id or any(left[at][0] > first for at, (first, _, _) in ranges.items()):
            raise gone(self._topic.key)
        return [
            Piece(str(partition), partition, first + start, first + stop)
            for partition, (first, end, _) in ranges.items()
            for start, stop in base.cut(end - first)
        ]

    def check_pieces(self, pieces: Any) -> None:
        """See Source."""
        if not pieces:
            raise EmptyInputError(f"{self._topic.key}: the window has no messages")

    def read(self, piece: Piece) -> Iterator[SourceBatch]:
        """See Source."""
        held: list[bytes | Fault | None] = []
        rows: list[str] = []
        size = 0
        for message in self._topic.messages(piece.file_index, piece.start, piece.stop):
            fault = self._fault(message)
            if fault is _OTHERS:
                continue
            value = message.value() if fault is None else fault
            weight = len(value) if isinstance(value, bytes) else 0
            if held and (size + weight > base.BATCH_BYTES or len(held) == base.BATCH_ROWS):
                yield self._messages.batch(held, rows)
                held, rows, size = [], [], 0
            held.append(value)
            rows.append(f"{piece.file}:{message.offset()}")
            size += weight
        if held:
            yield self._messages.batch(held, rows)

    def _fault(self, message: Any) -> Fault | None:
        """Returns why a message is no record of this window; None: it is one."""
        kind, stamp = message.timestamp()
        _, _, looked = self._members.ranges[message.partition()]
        if stamp >= self._members.stop:
            return _OTHERS
        if stamp < self._members.start:
            return LATE if message.offset() >= looked else _OTHERS
        return None if kind == _BY_BROKER else PRODUCERS

    def digest(self, piece: Piece) -> str:
        """Returns SHA-256 over offset, stamp and value of each message, and the window's stamps."""
        window = (self._members.start, self._members.stop, piece.start, piece.stop)
        total = hashlib.sha256(b"pe_beam kafka 1\0" + struct.pack(">4q", *window))
        for message in self._topic.messages(piece.file_index, piece.start, piece.stop):
            kind, stamp = message.timestamp()
            value = message.value()
            size = -1 if value is None else len(value)
            total.update(struct.pack(">4q", message.offset(), kind, stamp, size) + (value or b""))
        return total.hexdigest()

    def refuse(self, seen: Collection[str]) -> None:
        """See Source."""
        self._messages.roles.refuse(seen)
