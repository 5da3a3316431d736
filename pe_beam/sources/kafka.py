"""Messages of a Kafka topic, of one window of a stream: the ranges of offsets that its members name."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from pe_beam.contracts import source as base
from pe_beam.contracts.options import Options
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch, SourceRequest
from pe_beam.errors import EmptyInputError, RecipeError
from pe_beam.sources.kafka_client import KafkaOptions, Topic, gone
from pe_beam.sources.lines import MAX_RECORD, TOO_LONG, Wanted
from pe_beam.sources.objects import ObjectReader
from pe_beam.sources.roles import Roles

NO_VALUE = Fault("message without a value")
LATE = Fault("message stamped before the window, behind later ones that it was cut by")
PRODUCERS = Fault("message with a stamp of its producer's; the broker's is wanted")
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

    `format: json`: the value of a message is an object in UTF-8 (`ObjectReader`). `format: value`: it is the record, a
    text or a picture's bytes; there are no labels and clients then. A message without a value, or that is no object, is
    a reject. Keys and headers are not read. Messages of aborted transactions are none.
    """

    Options: ClassVar[type[Options]] = KafkaOptions
    takes = frozenset({"columns", "client", "chat", "never_stop", "members"})

    @classmethod
    def open(cls, request: SourceRequest) -> KafkaSource:
        """See Source."""
        if request.members is None:
            raise RecipeError(
                f"{request.key}: a topic has no end: source kafka is read window by window, by `pe-beam stream` with "
                "stream.source: kafka"
            )
        options = KafkaOptions.model_validate(request.options.model_dump())
        roles = Roles.asked(request)
        if options.format == "value" and (request.labelled or request.client or len(request.content.payload) != 1):
            raise RecipeError(
                "data.options.format: value: a message is the record then, without labels, clients and further "
                "columns; allowed: json"
            )
        return cls(Topic(request.path, options, request.key), roles, Members.of(request.members), chat=request.chat)

    def __init__(self, topic: Topic, roles: Roles, members: Members, *, chat: bool = False) -> None:
        self._topic = topic
        self._roles = roles
        self._members = members
        self._objects = ObjectReader(roles, chat=chat, noun="message")
        self._is_json = topic.options.format == "json"

    def pieces(self) -> list[Piece]:
        """See Source. Also raises DataError if messages of the window are no longer in the topic."""
        if self._is_json:
            self._roles.check(pa.schema([(column, pa.string()) for column in self._roles.columns()]))
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
        held: list[tuple[int, bytes | Fault]] = []
        size = 0
        for message in self._topic.messages(piece.file_index, piece.start, piece.stop):
            value = self._value(message)
            if value is None:
                continue
            weight = 0 if isinstance(value, Fault) else len(value)
            if held and (size + weight > base.BATCH_BYTES or len(held) == base.BATCH_ROWS):
                yield self._batch(held, piece)
                held, size = [], 0
            held.append((message.offset(), value))
            size += weight
        if held:
            yield self._batch(held, piece)

    def _value(self, message: Any) -> bytes | Fault | None:
        """Returns the value of a message, a fault, or None for a message that is another window's."""
        kind, stamp = message.timestamp()
        _, _, looked = self._members.ranges[message.partition()]
        if stamp >= self._members.stop:
            return None
        if stamp < self._members.start:
            return LATE if message.offset() >= looked else None
        if kind != _BY_BROKER:
            return PRODUCERS
        value: bytes | None = message.value()
        if value is None:
            return NO_VALUE
        return TOO_LONG if len(value) > MAX_RECORD else value

    def _batch(self, held: list[tuple[int, bytes | Fault]], piece: Piece) -> SourceBatch:
        rows = [f"{piece.file}:{offset}" for offset, _ in held]
        faults = {row: value for row, (_, value) in enumerate(held) if isinstance(value, Fault)}
        values = [None if isinstance(value, Fault) else value for _, value in held]
        if not self._is_json:
            return self._roles.batch(self._payload(values), rows, faults)
        wanted = Wanted(self._roles.columns(), None)
        nothing: list[str | None] = [None] * len(wanted.columns)
        texts = []
        for row, value in enumerate(values):
            found, fault = (nothing, None) if value is None else self._objects.read(value, wanted)
            if fault is not None:
                faults[row] = fault
            texts.append(found if fault is None else nothing)
        arrays = [pa.array([found[at] for found in texts], pa.string()) for at in range(len(wanted.columns))]
        return self._roles.batch(pa.table(arrays, names=wanted.columns), rows, faults, wanted.seen)

    def _payload(self, values: list[bytes | None]) -> pa.Table:
        """Returns the one column of a payload. The content judges texts that are not UTF-8."""
        (field,) = self._roles.content.payload
        (column,) = self._roles.columns()
        array = pa.array(values, pa.binary())
        if pa.types.is_string(field.type):
            array = pa.StringArray.from_buffers(len(array), *array.buffers()[1:], array.buffers()[0], array.null_count)
        return pa.table([array], names=[column])

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
        self._roles.refuse(seen)
