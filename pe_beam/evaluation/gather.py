"""Reads held-out records, training records and populations once, portion by portion, in bounded memory.

A portion is a sequence of pieces, shards or row groups. The data decide on it, never Beam's bundles. It gives its
moments and, in a file under `private/evaluation/work/`, its rows of a bounded subsample.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.contracts.cutting import in_order
from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import Piece, Source, SourceBatch
from pe_beam.engine import ingest
from pe_beam.engine.cuttable import Cuttable, Opened, Pieces
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.manifests import candidate_count
from pe_beam.engine.populations import population_rows
from pe_beam.engine.records import Place, join_records
from pe_beam.engine.run import Run
from pe_beam.engine.shards import listed
from pe_beam.engine.tables import ROW_GROUP, load_array
from pe_beam.errors import DataError, PeBeamError, StorageError
from pe_beam.evaluation.kept import embedded
from pe_beam.evaluation.own_metrics import metrics_of
from pe_beam.evaluation.progress import note_portions
from pe_beam.evaluation.setting import HELD_OUT, TRAINING, VOTED, WORK, Setting, population
from pe_beam.metrics.moments import Moments
from pe_beam.recipe.sources import private_source
from pe_beam.storage.parquet import parquet_file, read_parquet
from pe_beam.subsamples import REAL_ROWS, chosen_of_range, chosen_rows
from pe_beam.voting.nearest import normalise_rows
from pe_beam.voting.votes import read_batch

MOST_PORTIONS = 256
"""Largest number of portions of a group. It bounds the data between stages for any number of records."""
CHANGED = "changed since they voted"
_GROUPS_AT_A_TIME = 8
_PIECE = "pe_beam.piece"


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


@dataclass(frozen=True)
class Rows:
    """Records that can be used.

    Attributes:
      vectors: float32 (n, d).
      codes: int32 (n,), positions in the declared list of labels.
      rows: int64 (n,), rows of the group, ascending.
      payload: n rows, if a metric of the modality needs them.
    """

    vectors: np.ndarray
    codes: np.ndarray
    rows: np.ndarray
    payload: pa.Table | None = None


def cuttable(run: Run) -> dict[str, Cuttable]:
    """Returns the sources that an evaluation cuts into pieces, by group. Raises as `sources_of`."""
    return {name: each for name, each in sources_of(run).items() if _transform(run, name, each.source) is None}


def transforms_of(run: Run) -> dict[str, Any]:
    """Returns the transforms that yield records, by group, of sources that are not cut. Raises as `sources_of`.

    Records that voted are left out if their files are gone.
    """
    found = {}
    for name, each in sources_of(run).items():
        transform = _transform(run, name, each.source)
        with contextlib.suppress(*([each.forgives] if each.forgives else [])):
            if transform is not None and each.source.files():
                found[name] = transform
    return found


def _transform(run: Run, group: str, source: Source) -> Any:
    return source.transform(Opened(run.store.uri, sources_of, group))


def land_records(run: Run, group: str, place: Place, parts: Iterable[bytes]) -> Piece:
    """Keeps the records of a piece that a transform has yielded, for the portion that reads it. Returns the piece."""
    piece, table = join_records(place, parts)
    piece = replace(piece, stop=piece.start + len(table))
    told = {_PIECE: json.dumps([piece.file, piece.file_index, piece.start, piece.stop])}
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema.with_metadata(told)) as writer:
        writer.write_table(table)
    run.store.commit(_landed(group, piece), sink.getvalue(), replace=True)
    return piece


def voted_pieces(run: Run) -> dict[str, Piece]:
    """Returns the pieces of the records that voted, by name. Raises PeBeamError if they cannot be listed."""
    source = private_source(run.recipe)
    if _transform(run, VOTED, source) is None:
        return {piece.name: piece for piece in source.pieces()}
    found = [
        Piece(*json.loads(pa.ipc.open_stream(run.store.read(name)).schema.metadata[_PIECE.encode()]))
        for name in run.store.list_files(f"{WORK}/records/{VOTED}")
    ]
    return {piece.name: piece for piece in found}


def voted_source(run: Run, piece: Piece) -> Source:
    """Returns the source that reads a piece of the records that voted."""
    return private_source(run.recipe, _records(run, VOTED, piece))


def _landed(group: str, piece: Piece) -> str:
    return f"{WORK}/records/{group}/{piece.name}.arrow"


def _records(run: Run, group: str, piece: Piece) -> pa.Table | None:
    """Returns the records of a piece that a transform has yielded; None: the source reads the piece itself."""
    name = _landed(group, piece)
    return pa.ipc.open_stream(run.store.read(name)).read_all() if run.store.exists(name) else None


def sources_of(run: Run) -> dict[str, Cuttable]:
    """Returns the sources that an evaluation reads, by group. Raises InputError if the recipe has no holdout."""
    setting = Setting.load(run)
    found = {HELD_OUT: Cuttable(setting.held_out(run))}
    if metrics_of(run.modality) and not setting.no_training:
        # Records that were moved stop nothing: the result says that they are left out.
        found[VOTED] = Cuttable(private_source(run.recipe), is_digested=True, forgives=PeBeamError)
    return found


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


def shard_rows(run: Run, name: str) -> int:
    """Returns the number of records in a frozen shard. Raises DataError if it is missing or damaged."""
    try:
        with parquet_file(run.store, name) as file:
            return int(file.metadata.num_rows)
    except (OSError, StorageError, pa.ArrowException):
        raise damaged_shard() from None


def damaged_shard() -> DataError:
    """Returns the error for embeddings that differ from the frozen ones of the run."""
    return DataError("private/embeddings: a frozen shard is missing or damaged; restore it, or delete that folder")


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
            kept.append(_only(rows, REAL_ROWS, self._portion.total))
            if rows.payload is not None:
                few = _only(rows, self._metric_rows, self._portion.total)
                if few.payload is not None and len(few.rows):
                    labels = pa.array([self._run.recipe.label_list[code] for code in few.codes], pa.string())
                    payloads.append(few.payload.append_column("label", labels))
                    vectors.append(few.vectors)
        name = f"{self._portion.group}/{self._portion.place:06d}"
        _save(self._run, f"{name}.vectors", [_vector_table(rows, self._run.embedder.dimension) for rows in kept])
        if payloads:
            _save(self._run, f"{name}.payload", payloads)
            sink = io.BytesIO()
            np.save(sink, np.concatenate(vectors))
            self._run.store.commit(f"{WORK}/{name}.payload.npy", sink.getvalue(), replace=True)
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
            records = _records(self._run, self._portion.group, piece)
            source = opened(records) if source is None or records is not None else source
            yield source, piece

    def _held_out(self) -> Iterator[Rows]:
        """Yields held-out records. They are embedded as in a run, or have vectors of an earlier evaluation."""
        run, at = self._run, self._portion.first
        for source, piece in self._pieces(lambda records: self._setting.held_out(run, records)):
            for batch in ingest._joined(source.read(piece), run.embedder.batch_size):
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
            frozen = _Frozen(run, piece.name)
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


class _Frozen:
    """The frozen vectors and label codes of a piece, in the order of its records that were not rejected."""

    def __init__(self, run: Run, piece: str) -> None:
        shards = shards_of(run)
        name = next(shard["shard"] for shard in shards if shard["piece"] == piece)
        self._groups = read_shard(run, name)
        self._vectors = np.empty((0, run.embedder.dimension), dtype=np.float32)
        self._codes = np.empty(0, dtype=np.int32)

    def next(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the next `count` vectors and codes. Raises DataError if there are fewer."""
        while len(self._codes) < count:
            found = next(self._groups, None)
            if found is None:
                raise damaged_shard()
            self._vectors = np.concatenate([self._vectors, found[0]])
            self._codes = np.concatenate([self._codes, found[1]])
        taken = self._vectors[:count], self._codes[:count]
        self._vectors, self._codes = self._vectors[count:], self._codes[count:]
        return taken


def rejected_rows(run: Run, piece: str) -> set[str] | None:
    """Returns the places of a piece's records that ingest rejected, or None if its list of them is not complete."""
    name, about = f"private/rejects/{piece}.jsonl", f"private/embeddings/{piece}.json"
    if not run.store.exists(about):
        return None
    lines = run.store.read(name).decode().splitlines() if run.store.exists(name) else []
    rejected = {json.loads(line)["where"] for line in lines}
    return rejected if len(rejected) == json.loads(run.store.read(about))["rejects"] else None


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


def read_shard(run: Run, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the vectors and label codes of a frozen shard, one row group at a time.

    Raises:
      DataError: the shard is missing or has changed.
    """
    known = {shard["shard"]: shard["sha256"] for shard in shards_of(run)}
    if not run.store.exists(name) or run.store.digest(name) != known.get(name):
        raise damaged_shard()
    with parquet_file(run.store, name) as file:
        for group in range(file.num_row_groups):
            rows = listed(file.read_row_group(group, columns=["label", "vector"]).combine_chunks())
            vectors, codes, _ = read_batch(rows)
            yield vectors, codes


def _only(rows: Rows, most: int, total: int) -> Rows:
    """Returns the rows that are in the subsample."""
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


def gathered_files(run: Run, group: str, ending: str = "") -> list[str]:
    """Returns the sorted names of the files that were gathered for a group."""
    return [name for name in run.store.list_files(f"{WORK}/{group}") if name.endswith(ending)]


def load_rows(run: Run, group: str) -> Rows:
    """Returns the subsample of a group. It is the whole group if this has at most `REAL_ROWS` records."""
    files = gathered_files(run, group, ".vectors.parquet")
    table = pa.concat_tables([read_parquet(run.store, file) for file in files]).combine_chunks()
    if not table.num_rows:
        return Rows(np.empty((0, run.embedder.dimension), np.float32), np.empty(0, np.int32), np.empty(0, np.int64))
    vectors, codes, _ = read_batch(table)
    return Rows(vectors, codes, table["row"].to_numpy())


def load_payload(run: Run, group: str) -> tuple[pa.Table, np.ndarray] | None:
    """Returns the payload and vectors of the smaller subsample, for the modality's own metrics; None without one."""
    files = gathered_files(run, group, ".payload.parquet")
    if not files:
        return None
    table = pa.concat_tables([read_parquet(run.store, file) for file in files]).combine_chunks()
    vectors = np.concatenate([load_array(run.store.read(f"{file.removesuffix('.parquet')}.npy")) for file in files])
    return table.select(["label", *run.modality.payload.names]), vectors
