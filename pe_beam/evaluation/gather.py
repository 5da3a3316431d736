"""Reads held-out records, training records and populations once, portion by portion, in bounded memory.

A portion is a sequence of pieces, shards or row groups. The data decide on it, never Beam's bundles. It gives its
moments and, in a file under `private/evaluation/work/`, its rows of a bounded subsample.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.cutting import in_order
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch
from pe_beam.engine import ingest
from pe_beam.engine.cuttable import Cuttable, Pieces
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.manifests import candidate_count
from pe_beam.engine.populations import population_rows
from pe_beam.engine.run import Run
from pe_beam.engine.tables import ROW_GROUP
from pe_beam.errors import DataError, PeBeamError
from pe_beam.evaluation.kept import embedded
from pe_beam.evaluation.own_metrics import metrics_of
from pe_beam.evaluation.progress import note_portions
from pe_beam.evaluation.rows import Rows, save_payload, save_rows, subsample
from pe_beam.evaluation.setting import HELD_OUT, TRAINING, VOTED, WORK, Setting, population
from pe_beam.evaluation.sources import records_of, sources_of
from pe_beam.evaluation.training import Frozen, read_shard, rejected_rows, shard_rows
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.sources import private_source
from pe_beam.subsamples import REAL_ROWS, chosen_of_range
from pe_beam.voting.nearest import normalise_rows

MOST_PORTIONS = 256
"""Largest number of portions of a group. It bounds the data between stages for any number of records."""
CHANGED = "changed since they voted"
_GROUPS_AT_A_TIME = 8


@dataclass(frozen=True)
class Portion:
    """A part of a group of records.

    Attributes:
      group: held-out, training, voted, or a population's name.
      place: its number in the group, from 0.
      first: its first row in the group.
      total: number of rows of the whole group.
      parts: pieces of a source, names of shards, or (first row group, end row group).
    """

    group: str
    place: int
    first: int
    total: int
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Gathered:
    """The result of a portion: moments, the number of records that cannot be used, and their kinds of faults."""

    moments: Moments
    rejected: int = 0
    kinds: frozenset[str] = frozenset()

    def merged(self, other: Gathered) -> Gathered:
        """Returns the result of both portions together."""
        return Gathered(self.moments.merged(other.moments), self.rejected + other.rejected, self.kinds | other.kinds)


def list_portions(run: Run, setting: Setting, cut: Iterable[Pieces]) -> list[Portion]:
    """Returns all portions that an evaluation reads.

    Args:
      run: the complete run.
      setting: the evaluation's.
      cut: pieces of the files of the sources that `cuttable` opens, and pieces of those of `transforms_of`.

    Raises:
      DataError: the holdout is empty or damaged.
    """
    found, sources = list(cut), sources_of(run)
    portions = _of_source(HELD_OUT, sources[HELD_OUT], found)
    portions += training_portions(run, setting)
    if VOTED in sources:
        with contextlib.suppress(PeBeamError):
            portions += _of_source(VOTED, sources[VOTED], found)
    for iteration in setting.populations:
        rows = candidate_count(run, iteration)
        sizes = [min(ROW_GROUP, rows - start) for start in range(0, rows, ROW_GROUP)]
        spans = [(a, min(a + _GROUPS_AT_A_TIME, len(sizes))) for a in range(0, len(sizes), _GROUPS_AT_A_TIME)]
        portions += _portions(population(iteration), spans, [sum(sizes[a:b]) for a, b in spans])
    note_portions(run, len(portions))
    return portions


def training_portions(run: Run, setting: Setting) -> list[Portion]:
    """Returns the portions of the frozen embeddings of training records, or none if they are left out."""
    if setting.no_training:
        return []
    names = [shard["shard"] for shard in shards_of(run)]
    return _portions(TRAINING, names, [shard_rows(run, name) for name in names])


def _of_source(group: str, cuttable: Cuttable, cut: Iterable[Pieces]) -> list[Portion]:
    mine = [pieces for name, pieces in cut if name == group]
    if None in mine:  # it cannot be read, and that stops nothing
        return []
    pieces = in_order(cuttable.source, (piece for found in mine for piece in found or ()))
    return _portions(group, pieces, [piece.stop - piece.start for piece in pieces])


def _portions(group: str, parts: Sequence[Any], sizes: Sequence[int]) -> list[Portion]:
    step = -(-len(parts) // MOST_PORTIONS)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist()
    return [
        Portion(group, place, starts[at], starts[-1], tuple(parts[at : at + step]))
        for place, at in enumerate(range(0, len(parts), max(step, 1)))
    ]


def gather(run: Run, portion: Portion) -> Gathered:
    """Reads a portion, commits its rows of the subsamples, and returns the result over all its rows."""
    return _Gatherer(run, Setting.load(run), portion).gather()


class _Gatherer:
    def __init__(self, run: Run, setting: Setting, portion: Portion) -> None:
        self._run, self._setting, self._portion = run, setting, portion
        self._moments = Moments.none(run.embedder.dimension)
        self._rejected = 0
        self._kinds: set[str] = set()

    @cached_property
    def _metric_rows(self) -> int:
        return self._setting.metric_rows if metrics_of(self._run.modality) else 0

    def gather(self) -> Gathered:
        kept: list[Rows] = []
        payloads: list[pa.Table] = []
        vectors: list[np.ndarray] = []
        for rows in self._read():
            self._moments = self._moments.merged(Moments.of(rows.vectors))
            kept.append(subsample(rows, REAL_ROWS, self._portion.total))
            if rows.payload is not None:
                few = subsample(rows, self._metric_rows, self._portion.total)
                if few.payload is not None and len(few.rows):
                    labels = pa.array([self._run.recipe.label_list[code] for code in few.codes], pa.string())
                    payloads.append(few.payload.append_column("label", labels))
                    vectors.append(few.vectors)
        name = f"{self._portion.group}/{self._portion.place:06d}"
        save_rows(self._run, name, kept)
        if payloads:
            save_payload(self._run, name, pa.concat_tables(payloads), np.concatenate(vectors))
        self._run.store.commit(f"{WORK}/{name}.done", b"", replace=True)
        return Gathered(self._moments, self._rejected, frozenset(self._kinds))

    def _read(self) -> Iterator[Rows]:
        if self._portion.group == TRAINING:
            return self._shards()
        if self._portion.group == HELD_OUT:
            return self._held_out()
        if self._portion.group == VOTED:
            return self._voted()
        return self._population()

    def _pieces(self, opened: Callable[[pa.Table | None], Source]) -> Iterator[tuple[Source, Piece]]:
        """Yields the pieces of the portion, each with the source that reads it."""
        source: Source | None = None
        for piece in self._portion.parts:
            records = records_of(self._run, self._portion.group, piece)
            source = opened(records) if source is None or records is not None else source
            yield source, piece

    def _held_out(self) -> Iterator[Rows]:
        """Yields held-out records. They are embedded as in a run, or have vectors of an earlier evaluation."""
        run, at = self._run, self._portion.first
        for source, piece in self._pieces(lambda records: self._setting.held_out(run, records)):
            for batch in ingest.joined(source.read(piece), run.embedder.batch_size):
                count = len(batch.labels)

                def make(batch: SourceBatch = batch) -> tuple[np.ndarray, dict[int, Fault]]:
                    return ingest.embed_batch(run, batch, holdout=True)

                vectors, faults = embedded(run, HELD_OUT, batch, make)
                self._rejected += len(faults)
                self._kinds |= {fault.kind for fault in faults.values()}
                good = np.flatnonzero([row not in faults for row in range(count)])
                codes = run.recipe.codes(batch.labels[i] for i in good.tolist())
                payload = batch.payload.take(pa.array(good)) if self._metric_rows else None
                yield Rows(vectors[good], codes, at + good, payload)
                at += count

    def _voted(self) -> Iterator[Rows]:
        """Yields the few training records that metrics use, with their frozen vectors. None is embedded again."""
        run, at = self._run, self._portion.first
        for source, piece in self._pieces(lambda records: private_source(run.recipe, records)):
            rejected = rejected_rows(run, piece.name) if self._unchanged(source, piece) else None
            if rejected is None:
                self._kinds.add(CHANGED)
                continue
            frozen = Frozen(run, piece.name)
            for batch in source.read(piece):
                count = len(batch.labels)
                good = np.flatnonzero([where not in rejected for where in batch.rows])
                vectors, codes = frozen.next(len(good))
                chosen = chosen_of_range(self._portion.total, self._metric_rows, "rows", at, at + count) - at
                wanted = np.isin(good, chosen)
                yield Rows(
                    vectors[wanted], codes[wanted], at + good[wanted], batch.payload.take(pa.array(good[wanted]))
                )
                at += count

    def _unchanged(self, source: Source, piece: Piece) -> bool:
        known = {shard["piece"]: shard["source"] for shard in shards_of(self._run)}
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
        last = candidate_count(self._run, iteration)
        for group in (group for part in self._portion.parts for group in range(*part)):
            rows = np.arange(group * ROW_GROUP, min((group + 1) * ROW_GROUP, last))
            table = population_rows(self._run, iteration, rows)
            vectors = self._candidates(table)
            payload = table.select(self._run.modality.payload.names) if self._metric_rows else None
            codes = self._run.recipe.codes(table["label"].to_pylist())
            yield Rows(vectors, codes, at + np.arange(len(vectors)), payload)
            at += len(vectors)

    def _candidates(self, table: pa.Table) -> np.ndarray:
        run, payload = self._run, table.select(["state", *self._run.modality.payload.names])

        def make() -> tuple[np.ndarray, dict[int, Fault]]:
            return embed_candidates(run, table), {}

        count = table.num_rows
        batch = SourceBatch(payload, table["label"].to_pylist(), [None] * count, [""] * count)
        return embedded(run, "population", batch, make)[0]


def embed_candidates(run: Run, table: pa.Table) -> np.ndarray:
    """Returns vectors of candidates, float32 (n, d), embedded as records are for votes.

    Raises:
      DataError: a candidate cannot be embedded.
    """
    embedded = run.embedder.embed(table)
    vectors = embedded.vectors
    if embedded.faults or not np.isfinite(vectors).all():
        raise DataError(f"{run.layout.release}: a candidate there cannot be embedded; put the release back as it was")
    return normalise_rows(vectors)[0] if run.recipe.evolution.distance == "cosine" else vectors
