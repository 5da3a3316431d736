"""Land: writes messages that never end to Parquet files as they arrive. It is no part of a private graph."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.transforms import trigger, window

from pe_beam.contracts.landed import FILE_ROWS, SCHEMA, slot_name, slot_of
from pe_beam.storage import open_store
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn

FILE_BYTES = 64 << 20
"""Bytes of values at which a file ends early (a single larger message is a file of its own)."""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Arrival(NamedTuple):
    """A message as its source gives it.

    Attributes:
      position: its id at the source: one for each message, the same whenever it is delivered.
      stamp: microseconds since 1970, UTC: the instant that the source fixed when it took the message, the same whenever
        it is delivered. Never a clock of ours.
      value: its bytes.
    """

    position: str
    stamp: int
    value: bytes


class Land(beam.PTransform):
    """`PCollection[Arrival]` -> names of files below a prefix, each written once (`contracts.landed`).

    A message is in the file of its slot, by its stamp. It is in several if it was delivered several times; their reader
    counts it once. What a file is called follows from its messages, so a bundle that is repeated writes it again.

    Args:
      prefix: a folder, or the URL of a bucket's.
      slot: seconds of a slot; windows of a stream have to be whole slots.
      every: seconds for which messages are gathered, by the clocks of workers. No window depends on it.
      shards: files of a slot that are written side by side.
    """

    def __init__(self, prefix: str, *, slot: int = 3600, every: int = 60, shards: int = 1) -> None:
        super().__init__()
        self._prefix, self._slot, self._every, self._shards = prefix, slot, every, shards

    def expand(self, arrivals: beam.PCollection) -> beam.PCollection:  # noqa: D102
        keyed = arrivals | "KeyBySlot" >> beam.ParDo(_KeyBySlotFn(self._slot, self._shards))
        if not arrivals.is_bounded:  # Beam's own runner knows no such trigger for input that ends
            keyed |= "Gather" >> beam.WindowInto(
                window.GlobalWindows(),  # drop nothing, however late it is
                trigger=trigger.Repeatedly(trigger.AfterProcessingTime(self._every)),
                accumulation_mode=trigger.AccumulationMode.DISCARDING,
            )
        return keyed | "GatherSlots" >> beam.GroupByKey() | "WriteFiles" >> beam.ParDo(_WriteFilesFn(self._prefix))


class _KeyBySlotFn(PlainFn):
    """Keys a message by its slot's folder and a shard."""

    def __init__(self, slot: int, shards: int) -> None:
        self._slot, self._shards = slot, shards

    def process(self, arrival: Arrival) -> Iterator[tuple[tuple[str, int], tuple[str, int, bytes]]]:
        with guarded(None, "KeyBySlot"):
            position, stamp, value = arrival
            slot = slot_of(_BEGINNING + timedelta(microseconds=stamp), self._slot)
            keyed = (slot_name(slot), zlib.crc32(position.encode()) % self._shards), (position, stamp, value)
        yield keyed


class _WriteFilesFn(PlainFn):
    """Writes the messages of a key to one file or several. Yields their names."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def process(self, keyed: tuple[tuple[str, int], Iterable[tuple[str, int, bytes]]]) -> Iterator[str]:
        with guarded(None, "WriteFiles"):
            (folder, _), arrivals = keyed
            names = [self._write(folder, rows) for rows in _files(sorted(set(arrivals)))]
        yield from names

    def _write(self, folder: str, rows: list[tuple[str, int, bytes]]) -> str:
        total = hashlib.sha256(b"pe_beam landed 1\0")
        for position, stamp, value in rows:
            named = position.encode()
            total.update(struct.pack(">QqQ", len(named), stamp, len(value)) + named + value)
        name = f"{folder}/{total.hexdigest()[:40]}.parquet"
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), SCHEMA.types, strict=True)]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=SCHEMA), sink)
        open_store(self._prefix).commit(name, sink.getvalue())
        return name


def _files(rows: list[tuple[str, int, bytes]]) -> Iterator[list[tuple[str, int, bytes]]]:
    """Yields the rows of each file."""
    held: list[tuple[str, int, bytes]] = []
    size = 0
    for row in rows:
        if held and (len(held) == FILE_ROWS or size + len(row[2]) > FILE_BYTES):
            yield held
            held, size = [], 0
        held.append(row)
        size += len(row[2])
    if held:
        yield held
