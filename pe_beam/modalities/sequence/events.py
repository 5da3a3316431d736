"""Event sequences as arrays: from a payload, from the rows of a file, and back. NumPy and Arrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.gathering import ClientContent, ClientTable
from pe_beam.contracts.record import Fault
from pe_beam.modalities.sequence.schema import EVENTS, GAP, KIND, SequenceSchema
from pe_beam.modalities.tabular.codec import TableContent, decode_payload, encode_payload
from pe_beam.modalities.tabular.marginals import bin_of

NO_GAP = -1
"""The gap of the first event."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of events, one after the other.

    Attributes:
      lengths: int64 (n,), numbers of events.
      kinds: int64 (events,), positions in the declared kinds; -1: not declared.
      gaps: int64 (events,), bins; `NO_GAP` for the first event of a sequence and for what is no declared bin.
      codes: float64 (events, attributes), as of tables; NaN is a missing value.
    """

    lengths: np.ndarray
    kinds: np.ndarray
    gaps: np.ndarray
    codes: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """The first event of each sequence, int64 (n,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def owners(self) -> np.ndarray:
        """The sequence of each event, int64 (events,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def is_first(self) -> np.ndarray:
        """Which events are the first of their sequence, bool (events,)."""
        found = np.zeros(len(self.kinds), dtype=bool)
        found[self.starts[self.lengths > 0]] = True
        return found

    def bins(self, schema: SequenceSchema) -> dict[str, np.ndarray]:
        """Returns gap and attributes -> bin of each event, int64 (events,); a first event's gap is `NO_GAP`."""
        own = {name: bin_of(self.codes[:, i], column) for i, (name, column) in enumerate(schema.attributes.items())}
        return {GAP: self.gaps, **own}


def read_payload(table: pa.Table, schema: SequenceSchema) -> Sequences:
    """Returns the sequences of a table that has the payload."""
    column = table[EVENTS].combine_chunks() if isinstance(table[EVENTS], pa.ChunkedArray) else table[EVENTS]
    if isinstance(column, pa.ChunkedArray):  # of a table without rows
        column = pa.array([], column.type)
    lengths = np.array(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)
    events = column.flatten()
    names = [field.name for field in schema.event_fields]
    fields = dict(zip(names, events.flatten(), strict=True))
    kinds = _position(fields[KIND], schema.kinds)
    gaps = _position(fields[GAP], schema.gaps.names)
    attributes = schema.attribute_table()
    codes = np.empty((len(kinds), 0))
    if attributes is not None:
        codes = encode_payload(pa.table({name: fields[name] for name in schema.attributes}), attributes)
    return Sequences(lengths, kinds, gaps, codes)


def _position(values: pa.Array, among: Sequence[str]) -> np.ndarray:
    found = pc.index_in(values, value_set=pa.array(among, pa.string())).fill_null(-1)
    return np.array(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def write_payload(sequences: Sequences, schema: SequenceSchema) -> pa.Table:
    """Returns the payload of sequences of declared values."""
    gaps = pa.array(np.maximum(sequences.gaps, 0), mask=sequences.gaps < 0)
    arrays = [
        pa.array(schema.kinds, pa.string()).take(pa.array(sequences.kinds)),
        pa.array(schema.gaps.names, pa.string()).take(gaps),
    ]
    attributes = schema.attribute_table()
    if attributes is not None:
        made = decode_payload(sequences.codes, attributes)
        arrays += [made[name].combine_chunks() for name in schema.attributes]
    events = pa.StructArray.from_arrays(arrays, fields=schema.event_fields)
    offsets = np.concatenate([[0], np.cumsum(sequences.lengths)]).astype(np.int32)
    field = schema.payload.field(EVENTS)
    lists = pa.ListArray.from_arrays(pa.array(offsets), events).cast(field.type)
    return pa.table([lists], schema=schema.payload)


@dataclass(frozen=True)
class SequenceContent(ClientContent):
    """Makes a client's sequence of the rows of its events: in order of time, each with the gap since the one before.

    Events of one time are in order of kind and attributes, as they are declared. Of a client with more events than
    `most` the first or last stay, as declared; the first of those has no gap.
    """

    schema: SequenceSchema

    @property
    def payload(self) -> pa.Schema:
        """See Content."""
        return self.schema.payload

    @property
    def tables(self) -> Mapping[str, ClientTable]:  # type: ignore[override]
        """See ClientContent."""
        return {EVENTS: ClientTable(TableContent(self.schema.rows()), self.schema.most, "data.schema.most")}

    def wanted(self, name: str, kind: pa.DataType) -> str | None:
        """See Content. Records are made of rows, so that only what was released has this form."""
        own = self.payload.field(name).type
        return None if kind == own else str(own)

    def convert(self, columns: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """See Content."""
        faults = faults_of(read_payload(columns, self.schema), self.schema)
        return columns.select(self.payload.names), faults

    def order(self, table: str, rows: pa.Table) -> np.ndarray:
        """See ClientContent."""
        codes = encode_payload(rows, self.schema.rows())
        keys = np.where(np.isnan(codes), np.inf, codes)
        return -keys if self.schema.keep == "last" else keys

    def gather(self, rows: Mapping[str, pa.Table], ends: Mapping[str, np.ndarray]) -> pa.Table:
        """See ClientContent."""
        codes = encode_payload(rows[EVENTS], self.schema.rows())
        last = ends[EVENTS]
        lengths = np.diff(last, prepend=0)
        if self.schema.keep == "last":  # they come from the last to the first
            starts = np.repeat(last - lengths, lengths)
            codes = codes[starts + np.repeat(last, lengths) - 1 - np.arange(len(codes))]
        made = Sequences(lengths, codes[:, 1].astype(np.int64), np.full(len(codes), NO_GAP), codes[:, 2:])
        first = made.is_first
        steps = np.diff(codes[:, 0], prepend=0.0)
        gaps = np.where(first, NO_GAP, self.schema.gap_bins(np.where(first, 0.0, steps)))
        return write_payload(Sequences(lengths, made.kinds, gaps, made.codes), self.schema)


def faults_of(sequences: Sequences, schema: SequenceSchema) -> dict[int, Fault]:
    """Returns the sequences that the schema does not allow, and why."""
    faults: dict[int, Fault] = {}
    wrong = (sequences.lengths < 1) | (sequences.lengths > schema.most)
    faults |= {row: Fault(f"not 1 to {schema.most} events") for row in np.flatnonzero(wrong).tolist()}
    bad = sequences.kinds < 0
    bad |= (sequences.gaps < 0) != sequences.is_first
    for i, column in enumerate(schema.attributes.values()):
        values = sequences.codes[:, i]
        fits = (values >= column.low) & (values <= column.high)
        bad |= ~(fits | np.isnan(values) if column.missing else fits)
    for row in np.unique(sequences.owners[bad]).tolist():
        faults.setdefault(row, Fault("event with a value that is not declared"))
    return faults
