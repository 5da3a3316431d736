"""The cells in which private records count in an initial measurement, and the bins by which they are counted.

Where records are the privacy unit, ingest writes the bins of each shard beside it, and their slices if these are
counted: a byte or two a column in place of a vector, so that measurements cost little beside the ingest. Bins follow
from the vectors of their shard. The index has the digests of their files, to which the fingerprint binds, and each read
checks them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.embedder import Embedder
from pe_beam.contracts.votes import Tally, Unit
from pe_beam.engine.run import Run
from pe_beam.engine.shards import listed
from pe_beam.errors import DataError
from pe_beam.measuring.cells import CellCounter
from pe_beam.measuring.cliques import Clique
from pe_beam.measuring.slices import Sliced, sliced
from pe_beam.storage.parquet import parquet_file, parse_parquet
from pe_beam.voting.votes import read_batch

_ROWS = 8192
"""Rows whose vectors are looked at together."""
Binned = tuple[np.ndarray, np.ndarray]
"""Bins of records, whole numbers (n * parts, columns), and their labels, int32 (n,)."""


def counts_by_bins(run: Run) -> bool:
    """Returns whether shards have bins: columns are counted, by record. Counts by client take a shuffle anyway."""
    return run.recipe.privacy.counts_columns and run.recipe.vote_unit == "record"


def bin_rows(run: Run, rows: pa.Table) -> pa.Table:
    """Returns the bins of the rows of a shard: columns `label`, and `bins`, which are packed as whole numbers.

    If the recipe counts slices of bins, they follow the bins.
    """
    told = run.recipe.privacy.measure
    sliced = told is not None and told.slices is not None
    width, kind = _layout(run.embedder, sliced=sliced)
    schema = pa.schema([("label", pa.int32()), ("bins", pa.binary(width * kind.itemsize))])
    batches = []
    for batch in rows.to_batches(_ROWS):
        vectors, labels, _ = read_batch(listed(batch))
        codes = np.ascontiguousarray(_bins_of(run.embedder, vectors, sliced=sliced), dtype=kind)
        packed = pa.Array.from_buffers(schema.types[1], len(vectors), [None, pa.py_buffer(codes)])
        batches.append(pa.RecordBatch.from_arrays([pa.array(labels), packed], schema=schema))
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def commit_bins(run: Run, piece: str, bins: pa.Table) -> dict[str, str]:
    """Commits what `bin_rows` gives of a piece, and returns what the index says of it (private).

    Returns:
      `bins`: name of the file, with a part of its digest; `bins_sha256`: digest of its bytes (hex).
    """
    sink = io.BytesIO()
    pq.write_table(bins, sink, compression="none", use_dictionary=False, write_statistics=False)
    data = sink.getvalue()
    sha = hashlib.sha256(data).hexdigest()
    name = f"private/bins/{piece}-{sha[:16]}.parquet"
    run.store.commit(name, data)
    return {"bins": name, "bins_sha256": sha}


def columns_in_slices(embedder: Embedder) -> list[Sliced]:
    """Returns the columns whose bins have slices that can be counted."""
    return sliced(embedder.marginal_sizes(), embedder.marginal_ordered(), embedder.marginal_slices())


def _layout(embedder: Embedder, *, sliced: bool) -> tuple[int, np.dtype[Any]]:
    """Returns how many bins a record has, with those of slices or without, and the smallest type that holds them."""
    sizes = list(embedder.marginal_sizes().values())
    if sliced:
        sizes += [each.size for each in columns_in_slices(embedder)]
    return embedder.marginal_parts * len(sizes), np.min_scalar_type(max(sizes) - 1).newbyteorder("<")


def read_bins(run: Run, shard: Mapping[str, Any], *, sliced: bool = False) -> Iterator[Binned]:
    """Yields the bins of a shard's records.

    Args:
      run: that counts columns, or labels alone; of these there are bins of no column.
      shard: its entry in the index. One that an older version has frozen has no bins: they are computed.
      sliced: whether slices of bins have to follow the bins; if not, they may all the same.

    Raises:
      DataError: the file of the bins has changed.
    """
    if "bins" in shard:
        bins, labels = _unpacked(run.embedder, _checked(run, shard))
        if not sliced or bins.shape[1] > len(run.embedder.marginal_sizes()):  # an older version froze none
            yield bins, labels
            return
    by_column = run.recipe.privacy.counts_columns
    with parquet_file(run.store, shard["shard"]) as file:
        for batch in file.iter_batches(_ROWS, columns=["label", "vector"] if by_column else ["label"]):
            if by_column:
                vectors, labels, _ = read_batch(listed(batch))
                yield _bins_of(run.embedder, vectors, sliced=sliced), labels
            else:
                yield _no_bins(batch.num_rows), batch["label"].to_numpy()


def _checked(run: Run, shard: Mapping[str, Any]) -> pa.Table:
    data = run.store.read(shard["bins"])
    if hashlib.sha256(data).hexdigest() != shard["bins_sha256"]:
        raise DataError(
            "private/bins: a frozen file is damaged; delete it and run again, which makes it as it was, or start a new "
            "run directory (its budget adds up with what is spent here)"
        )
    return parse_parquet(data)


def _unpacked(embedder: Embedder, table: pa.Table) -> Binned:
    packed = table["bins"].combine_chunks()
    layouts = [_layout(embedder, sliced=sliced) for sliced in (False, True)]
    [(width, kind), *_] = [own for own in layouts if own[0] * own[1].itemsize == packed.type.byte_width]
    codes = np.empty(0, kind)  # NumPy takes no buffer of no bytes
    if len(packed):
        codes = np.frombuffer(packed.buffers()[1], kind, len(packed) * width, packed.offset * width * kind.itemsize)
    parts = embedder.marginal_parts
    return codes.reshape(len(packed) * parts, width // parts), table["label"].to_numpy()


def _bins_of(embedder: Embedder, vectors: np.ndarray, *, sliced: bool) -> np.ndarray:
    bins = embedder.marginal_bins(vectors)
    return np.concatenate([bins, embedder.sliced_bins(vectors)], axis=1) if sliced else bins


class CliqueCells:
    """The cells of cliques in which records count, as `Ballots`.

    Attributes:
      digest: of what was chosen; empty if the cells are declared.
      width: number of cells.
      votes_per_record: the squared norm of what one record adds, at most.
      sliced: whether cliques may be of slices of bins, which `tally` is then given besides.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        cliques: Sequence[Clique],
        labels: int,
        *,
        digest: str,
        votes_per_record: int,
        sliced: bool = False,
    ) -> None:
        """Takes what is counted, in order, and the number of labels; without an embedder labels alone are counted."""
        self.sliced = sliced
        self._embedder, self._counter = embedder, CellCounter(cliques, labels)
        self.digest, self.width, self.votes_per_record = digest, self._counter.width, votes_per_record

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Ballots`."""
        if self._embedder is None:
            return self._counter.ballots(_no_bins(len(vectors)), labels)
        parts = self._embedder.marginal_parts
        bins = _bins_of(self._embedder, vectors, sliced=self.sliced)
        rows, cells = self._counter.ballots(bins, np.repeat(labels, parts))
        return rows // parts, cells

    def tally(self, records: Iterable[Binned]) -> Tally:
        """Returns the exact counts of records, which are the privacy unit; of none zeros."""
        counts = np.zeros(self.width, dtype=np.int64)
        for bins, labels in records:
            counts += self._counter.count(bins, np.repeat(labels, len(bins) // max(len(labels), 1)))
        return Tally(self.digest, counts, Unit.RECORD, self.votes_per_record, 0)


def _no_bins(rows: int) -> np.ndarray:
    return np.empty((rows, 0), dtype=np.uint8)
