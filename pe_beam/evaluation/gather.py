"""Reads held-out records, training records and populations once, portion by portion, in bounded memory.

A portion is a run of pieces, shards or row groups: a property of the data, never of bundles. What stays of it are its
moments and, in a file under `private/evaluation/work/`, its rows of a bounded subsample.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.errors import DataError, PeBeamError
from pe_beam.evaluation.moments import Moments
from pe_beam.evaluation.sampling import REAL_ROWS, chosen_of_range, chosen_rows
from pe_beam.evaluation.setting import HELD_OUT, TRAINING, VOTED, WORK, Setting, population
from pe_beam.modalities.base import Fault
from pe_beam.runs import ingest
from pe_beam.runs.run import Run
from pe_beam.runs.steps import POPULATION
from pe_beam.sources.base import Piece, Source
from pe_beam.voting.nearest import normalise_rows
from pe_beam.voting.votes import read_batch

MOST_PORTIONS = 256
"""Of a group: what travels between stages is bounded by it, however many records there are."""
CHANGED = "changed since they voted"
_GROUPS_AT_A_TIME = 8


@dataclass(frozen=True)
class Portion:
    """A part of a group of records.

    Attributes:
      group: held-out, training, voted, or a population's name.
      place: its number in the group, from 0.
      first: the group's row at which it begins.
      total: rows of the whole group.
      parts: pieces of a source, names of shards, or (first row group, end row group).
    """

    group: str
    place: int
    first: int
    total: int
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Gathered:
    """What travels from a portion to the whole: moments, and what could not be used."""

    moments: Moments
    rejected: int = 0
    kinds: frozenset[str] = frozenset()

    def merged(self, other: Gathered) -> Gathered:
        """Of both portions."""
        return Gathered(self.moments.merged(other.moments), self.rejected + other.rejected, self.kinds | other.kinds)


@dataclass(frozen=True)
class Rows:
    """Records that can be used.

    Attributes:
      vectors: float32 (n, d).
      codes: int32 (n,), positions in the declared list of labels.
      rows: int64 (n,), rows of the group, ascending.
      payload: n rows, where a metric of the modality wants them.
    """

    vectors: np.ndarray
    codes: np.ndarray
    rows: np.ndarray
    payload: pa.Table | None = None


def list_portions(run: Run, setting: Setting) -> list[Portion]:
    """Everything that an evaluation reads. Raises DataError for a holdout that is not there."""
    portions = [*_of_source(HELD_OUT, setting.held_out(run)), *training_portions(run, setting)]
    if run.modality.metrics and not setting.no_training:
        with contextlib.suppress(PeBeamError):  # moved since: the result says that they are left out
            portions += _of_source(VOTED, run.source())
    for iteration in setting.populations:
        file = pq.ParquetFile(run.store.path(run.public(iteration, POPULATION))).metadata
        sizes = [file.row_group(group).num_rows for group in range(file.num_row_groups)]
        spans = [(a, min(a + _GROUPS_AT_A_TIME, len(sizes))) for a in range(0, len(sizes), _GROUPS_AT_A_TIME)]
        portions += _portions(population(iteration), spans, [sum(sizes[a:b]) for a, b in spans])
    return portions


def training_portions(run: Run, setting: Setting) -> list[Portion]:
    """The frozen embeddings of training records; none where they are left out."""
    if setting.no_training:
        return []
    names = [shard["shard"] for shard in (run.index() or {"shards": []})["shards"]]
    return _portions(TRAINING, names, [shard_rows(run, name) for name in names])


def shard_rows(run: Run, name: str) -> int:
    """Records in a frozen shard; DataError if it is not there."""
    try:
        return int(pq.ParquetFile(run.store.path(name)).metadata.num_rows)
    except (OSError, pa.ArrowException):
        raise damaged_shard() from None


def damaged_shard() -> DataError:
    """The message about embeddings that are not what the run has frozen."""
    return DataError("private/embeddings: a frozen shard is missing or damaged; restore it, or delete that folder")


def _of_source(group: str, source: Source) -> list[Portion]:
    pieces = source.pieces()
    return _portions(group, pieces, [piece.stop - piece.start for piece in pieces])


def _portions(group: str, parts: Sequence[Any], sizes: Sequence[int]) -> list[Portion]:
    step = -(-len(parts) // MOST_PORTIONS)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
    return [
        Portion(group, place, starts[at], starts[-1], tuple(parts[at : at + step]))
        for place, at in enumerate(range(0, len(parts), max(step, 1)))
    ]


def gather(run: Run, portion: Portion) -> Gathered:
    """Reads a portion, commits its share of the subsamples, and returns what all of it adds up to."""
    return _Gatherer(run, Setting.load(run), portion).gather()


class _Gatherer:
    def __init__(self, run: Run, setting: Setting, portion: Portion) -> None:
        self._run, self._setting, self._portion = run, setting, portion
        self._moments = Moments.none(run.embedder.dimension)
        self._rejected = 0
        self._kinds: set[str] = set()

    @cached_property
    def _metric_rows(self) -> int:
        return self._run.modality.metric_rows if self._run.modality.metrics else 0

    def gather(self) -> Gathered:
        kept: list[Rows] = []
        payloads: list[pa.Table] = []
        for rows in self._read():
            self._moments = self._moments.merged(Moments.of(rows.vectors))
            kept.append(_only(rows, REAL_ROWS, self._portion.total))
            if rows.payload is not None:
                few = _only(rows, self._metric_rows, self._portion.total)
                if few.payload is not None and len(few.rows):
                    labels = pa.array([self._run.recipe.label_list[code] for code in few.codes], pa.string())
                    payloads.append(few.payload.append_column("label", labels))
        name = f"{self._portion.group}/{self._portion.place:06d}"
        _save(self._run, f"{name}.vectors", [_vector_table(rows, self._run.embedder.dimension) for rows in kept])
        if payloads:
            _save(self._run, f"{name}.payload", payloads)
        return Gathered(self._moments, self._rejected, frozenset(self._kinds))

    def _read(self) -> Iterator[Rows]:
        if self._portion.group == TRAINING:
            return self._shards()
        if self._portion.group == HELD_OUT:
            return self._source(self._setting.held_out(self._run), None)
        if self._portion.group == VOTED:
            return self._source(self._run.source(), self._metric_rows)
        return self._population()

    def _source(self, source: Source, few: int | None) -> Iterator[Rows]:
        """Records as they lie there; where only a few are wanted, the others are not embedded."""
        at = self._portion.first
        for piece in self._portion.parts:
            if few is not None and not self._unchanged(source, piece):
                self._kinds.add(CHANGED)
                continue
            for batch in source.read(piece):
                count = len(batch.labels)
                wanted = np.ones(count, dtype=bool)
                if few is not None:
                    wanted[:] = False
                    wanted[chosen_of_range(self._portion.total, few, "rows", at, at + count) - at] = True
                    for row in np.flatnonzero(~wanted).tolist():
                        batch.faults.setdefault(row, Fault(""))
                vectors, faults = ingest.embed_batch(self._run, batch, holdout=few is None)
                refused = {row: fault for row, fault in faults.items() if wanted[row]}
                self._rejected += len(refused)
                self._kinds |= {fault.kind for fault in refused.values()}
                good = np.flatnonzero([row not in faults for row in range(count)])
                codes = np.array([self._run.label_codes[batch.labels[i]] for i in good.tolist()], dtype=np.int32)
                payload = batch.payload.take(pa.array(good)) if self._metric_rows else None
                yield Rows(vectors[good], codes, at + good, payload)
                at += count

    def _unchanged(self, source: Source, piece: Piece) -> bool:
        known = {shard["piece"]: shard["source"] for shard in (self._run.index() or {"shards": []})["shards"]}
        return known.get(piece.name) == source.digest(piece)

    def _shards(self) -> Iterator[Rows]:
        at = self._portion.first
        for name in self._portion.parts:
            for vectors, codes in read_shard(self._run, name):
                yield Rows(vectors, codes, at + np.arange(len(codes)))
                at += len(codes)

    def _population(self) -> Iterator[Rows]:
        at = self._portion.first
        iteration = int(self._portion.group.rpartition("-")[2])
        with pq.ParquetFile(self._run.store.path(self._run.public(iteration, POPULATION))) as file:
            for group in (group for part in self._portion.parts for group in range(*part)):
                table = file.read_row_group(group)
                vectors = embed_candidates(self._run, table)
                payload = table.select(self._run.modality.payload.names) if self._metric_rows else None
                yield Rows(vectors, self._run.codes(table["label"].to_pylist()), at + np.arange(len(vectors)), payload)
                at += len(vectors)


def embed_candidates(run: Run, table: pa.Table) -> np.ndarray:
    """Vectors of candidates, float32 (n, d), as records are embedded for votes; DataError if one cannot be."""
    embedded = run.embedder.embed(table)
    vectors = embedded.vectors
    if embedded.faults or not np.isfinite(vectors).all():
        raise DataError(f"{run.release}: a candidate there cannot be embedded; put the release back as it was")
    return normalise_rows(vectors)[0] if run.recipe.evolution.distance == "cosine" else vectors


def read_shard(run: Run, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vectors and label codes of a frozen shard, a row group at a time.

    Raises:
      DataError: it is not what was frozen.
    """
    known = {shard["shard"]: shard["sha256"] for shard in (run.index() or {"shards": []})["shards"]}
    if not run.store.exists(name) or run.store.digest(name) != known.get(name):
        raise damaged_shard()
    with pq.ParquetFile(run.store.path(name)) as file:
        for group in range(file.num_row_groups):
            vectors, codes, _ = read_batch(file.read_row_group(group, columns=["label", "vector"]).combine_chunks())
            yield vectors, codes


def _only(rows: Rows, most: int, total: int) -> Rows:
    """Those of the subsample."""
    keep = np.isin(rows.rows, chosen_rows(total, most, "rows"), assume_unique=True)
    if keep.all():
        return rows
    payload = None if rows.payload is None else rows.payload.filter(pa.array(keep))
    return Rows(rows.vectors[keep], rows.codes[keep], rows.rows[keep], payload)


def _vector_table(rows: Rows, dimension: int) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(rows.vectors, dtype=np.float32).ravel(), pa.float32())
    columns = [pa.array(rows.codes, pa.int32()), pa.array(rows.rows, pa.int64())]
    return pa.table([*columns, pa.FixedSizeListArray.from_arrays(flat, dimension)], ["label", "row", "vector"])


def _save(run: Run, name: str, tables: Sequence[pa.Table]) -> None:
    sink = io.BytesIO()
    if tables:
        pq.write_table(pa.concat_tables(tables).combine_chunks(), sink, compression="none", use_dictionary=False)
        run.store.commit(f"{WORK}/{name}.parquet", sink.getvalue(), replace=True)


def load_rows(run: Run, group: str) -> Rows:
    """The subsample of a group: all of it where there are no more than `REAL_ROWS` records."""
    files = sorted(run.store.path(f"{WORK}/{group}").glob("*.vectors.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files]).combine_chunks()
    if not table.num_rows:
        return Rows(np.empty((0, run.embedder.dimension), np.float32), np.empty(0, np.int32), np.empty(0, np.int64))
    vectors, codes, _ = read_batch(table)
    return Rows(vectors, codes, table["row"].to_numpy())


def load_payload(run: Run, group: str) -> pa.Table | None:
    """The smaller subsample with its payload, for the modality's own metrics; None where there is none."""
    files = sorted(run.store.path(f"{WORK}/{group}").glob("*.payload.parquet"))
    if not files:
        return None
    table = pa.concat_tables([pq.read_table(file) for file in files]).combine_chunks()
    return table.select(["label", *run.modality.payload.names])
