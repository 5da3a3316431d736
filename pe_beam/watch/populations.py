"""Reads released populations: columns of ids whole, contents only of the rows that are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pe_beam.contracts.record import population_files
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.populations import HISTOGRAM, read_population
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.storage.parquet import read_parquet
from pe_beam.watch.shelf import Shelf

_KEPT = 32 << 20  # bytes of columns that are kept: ten populations of 100,000
_WHOLE = 32 << 20  # bytes, uncompressed, of a row group that is read at once; a larger one is read in pieces
_PIECE = 32  # rows of a piece
_BUFFER = 1 << 20


@dataclass(frozen=True, eq=False)
class Columns:
    """A population without its content. All arrays have one entry per candidate, in order of id.

    Attributes:
      ids: int64, candidate ids.
      codes: int32, position of the label in the declared list.
      before: int64, id in the previous population of its parent, or of the candidate itself if it was kept; -1: none.
      kept: bool, whether the candidate was kept unchanged.
      votes: float64, noisy votes; None if there was no vote on this population yet.
    """

    ids: np.ndarray
    codes: np.ndarray
    before: np.ndarray
    kept: np.ndarray
    votes: np.ndarray | None

    def of_label(self, code: int, *, by_votes: bool) -> np.ndarray:
        """Returns the rows of a label, int64: by id, or those with most noisy votes first."""
        rows = np.flatnonzero(self.codes == code)
        if not by_votes or self.votes is None:
            return rows
        return rows[np.lexsort((self.ids[rows], -self.votes[rows]))]

    def row_of(self, candidate: int) -> int | None:
        """Returns the row of a candidate, or None if it is not in the population."""
        row = int(np.searchsorted(self.ids, candidate))
        return row if row < len(self.ids) and self.ids[row] == candidate else None

    def of_parent(self, candidate: int) -> np.ndarray:
        """Returns the rows, int64, that came of a candidate of the previous population."""
        return np.flatnonzero(self.before == candidate)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (self.ids, self.codes, self.before, self.kept, self.votes)
        return sum(array.nbytes for array in arrays if array is not None)


@dataclass(frozen=True, eq=False)
class Populations:
    """The populations of a run, as far as they are released.

    Attributes:
      run: whose release is read.
      count: number of populations that exist, 0 to count - 1.
      epoch: tells apart what lay in the run's directory at different times.
      shelf: keeps columns.
    """

    run: Run
    count: int
    epoch: str
    shelf: Shelf[Columns]

    @staticmethod
    def new_shelf() -> Shelf[Columns]:
        """Returns an empty shelf for columns."""
        return Shelf(_KEPT, lambda columns: columns.nbytes)

    def columns(self, t: int) -> Columns:
        """Returns a population without its content."""
        voted = t + 1 < self.count
        return self.shelf.get((self.epoch, t, voted), lambda: self._columns(t, voted=voted))

    def _columns(self, t: int, *, voted: bool) -> Columns:
        table = read_population(self.run, t, ["candidate_id", "parent_id", "label", "origin"])
        labels = pa.array(self.run.recipe.label_list, pa.string())
        ids = table["candidate_id"].to_numpy()
        kept = pc.equal(table["origin"], "kept").to_numpy(zero_copy_only=False)
        named = pc.fill_null(table["parent_id"], -1).to_numpy()
        before = np.where(kept, ids, named) if t else np.full(len(ids), -1)
        codes = pc.index_in(table["label"], value_set=labels).to_numpy().astype(np.int32)
        votes = self.votes(t + 1) if voted else None
        if votes is not None and len(votes) != len(ids):
            raise InputError(f"iteration {t + 1}: its histogram is not over population {t}; restore the release")
        return Columns(ids, codes, before, kept, votes)

    def votes(self, t: int) -> np.ndarray:
        """Returns the noisy votes of iteration t on population t - 1: float64, in order of candidate_id."""
        return read_parquet(self.run.store, self.run.layout.public(t, HISTOGRAM))["noisy_votes"].to_numpy()

    def records(self, t: int, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Returns some rows of a population with their content, by row. Memory does not grow with the population."""
        found: dict[int, dict[str, Any]] = {}
        wanted, start = np.unique(np.fromiter(rows, np.int64)), 0
        for name, count in population_files(manifest_of(self.run, t)):
            mine = wanted[(wanted >= start) & (wanted < start + count)] - start
            if len(mine):
                with self.run.store.open(self.run.layout.public(t, name)) as source:
                    found |= {start + row: record for row, record in _rows_of(source, mine)}
            start += count
        return found


def _rows_of(source: Any, rows: np.ndarray) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yields rows of a Parquet file, by position, in order. It reads the row groups that have them."""
    with pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as file:
        start = 0
        for group in range(file.num_row_groups):
            about = file.metadata.row_group(group)
            mine = rows[(rows >= start) & (rows < start + about.num_rows)] - start
            if len(mine):
                size = about.num_rows if about.total_byte_size <= _WHOLE else _PIECE
                yield from ((start + row, record) for row, record in _rows_of_group(file, group, mine, size))
            start += about.num_rows


def _rows_of_group(
    file: pq.ParquetFile, group: int, rows: np.ndarray, size: int
) -> Iterable[tuple[int, dict[str, Any]]]:
    """Yields rows of a row group, which is read in pieces up to the last of them."""
    start = 0
    for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
        mine = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        for place, record in zip(mine.tolist(), batch.take(pa.array(mine)).to_pylist(), strict=True):
            yield start + place, record
        start += batch.num_rows
        if start > rows[-1]:
            return
