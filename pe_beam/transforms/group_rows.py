"""GroupRows: brings all rows of a key together, such as all rows of a client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pe_beam.errors import InputError
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.shuffle import GroupClients


class GroupRows(beam.PTransform):
    """`PCollection[pa.Table]` -> `PCollection[tuple[int, pa.Table]]`: buckets, each with all rows of its keys.

    A key's bucket follows from the key alone. A bucket's rows are in memory together, in any order. Buckets without
    rows are left out. `--client_shuffle_key` encrypts the rows where they are shuffled.

    Args:
      key: the column of the keys: text, without nulls.
      buckets: number of buckets, 1 or more.

    Raises:
      InputError: buckets is below 1.

    >>> rows = pa.table({"client": ["a", "b", "a"], "event": [1, 2, 3]})
    >>> with beam.Pipeline() as pipeline:
    ...     found = pipeline | beam.Create([rows.slice(0, 2), rows.slice(2)]) | GroupRows("client", buckets=1)
    ...     _ = found | beam.Map(lambda keyed: print(keyed[0], sorted(keyed[1]["event"].to_pylist())))
    0 [1, 2, 3]
    """

    def __init__(self, key: str, *, buckets: int) -> None:
        super().__init__()
        if buckets < 1:
            raise InputError(f"GroupRows: buckets: {buckets}; 1 or more is wanted")
        self._key, self._buckets = key, buckets

    def expand(self, rows: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            rows
            | "SplitRows" >> beam.ParDo(_SplitRowsFn(self._key, self._buckets))
            | "GroupBuckets" >> GroupClients()
            | "JoinRows" >> beam.ParDo(_JoinRowsFn())
        )


def bucket_of(key: str, buckets: int) -> int:
    """Returns the bucket of a key, 0 to buckets - 1, the same on every machine."""
    digest = hashlib.sha256(b"pe_beam bucket 1\0" + key.encode("utf-8", "backslashreplace")).digest()
    return int.from_bytes(digest[:8]) % buckets


def buckets_of(keys: pa.ChunkedArray, buckets: int) -> np.ndarray:
    """Returns the bucket of each row's key, int64 (n,)."""
    if buckets == 1:
        return np.zeros(len(keys), dtype=np.int64)
    codes = pa.chunked_array(keys).combine_chunks().dictionary_encode()
    own = np.array([bucket_of(key, buckets) for key in codes.dictionary.to_pylist()], dtype=np.int64)
    return own[codes.indices.to_numpy()] if len(codes) else np.zeros(0, dtype=np.int64)


@beam.typehints.with_output_types(tuple[int, bytes])
class _SplitRowsFn(PlainFn):
    def __init__(self, key: str, buckets: int) -> None:
        self._key, self._buckets = key, buckets

    def process(self, rows: pa.Table) -> Iterator[tuple[int, bytes]]:
        with guarded(None, "SplitRows"):
            places = buckets_of(rows[self._key], self._buckets)
            for bucket in np.unique(places).tolist():
                yield bucket, _packed(rows.take(pa.array(np.flatnonzero(places == bucket))))


@beam.typehints.with_input_types(tuple[int, Iterable[bytes]])
class _JoinRowsFn(PlainFn):
    def process(self, keyed: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, pa.Table]]:
        with guarded(None, "JoinRows"):
            joined = pa.concat_tables(pa.ipc.open_stream(part).read_all() for part in keyed[1])
        yield keyed[0], joined


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
