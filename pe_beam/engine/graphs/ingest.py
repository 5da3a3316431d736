"""Ingest: turns private records into frozen embedding shards, once per run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from pe_beam.contracts.source import Piece
from pe_beam.engine import ingest, records
from pe_beam.engine.cuttable import Cuttable, Opened, Pieces
from pe_beam.engine.frozen import INDEX, shards_of
from pe_beam.engine.graphs.base import Hints, RunFn, RunTransform, start
from pe_beam.engine.graphs.cutting import CutSources
from pe_beam.engine.run import Run
from pe_beam.errors import EmptyInputError
from pe_beam.recipe.sources import private_source
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.shuffle import GroupClients
from pe_beam.transforms.spread import Spread
from pe_beam.transforms.windows import demand_one_window


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the graph.

    Attributes:
      run_dir: run directory with recipe.yaml. The shards are written to it.
      hints: resource hints by stage.
      records: `private_records` of the run.
    """

    run_dir: str
    hints: Hints = field(default_factory=dict)
    records: Any = None


def build(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph that freezes the private embeddings, for any runner. It gives the name of the index."""
    return start(root) | "Ingest" >> Ingest(config.run_dir, config.records).with_resource_hints(
        **config.hints.get("ingest", {})
    )


def build_check(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph that compares the source with the embedded data. It gives the name of the index."""
    return start(root) | "CheckSource" >> CheckSource(config.run_dir, config.records)


def private_cuttable(run: Run) -> dict[str, Cuttable]:
    """Returns the source of the private records. Under `data.never_stop` it may be empty."""
    forgives = EmptyInputError if run.recipe.data.never_stop else None
    return {"": Cuttable(private_source(run.recipe), is_digested=True, forgives=forgives)}


def private_records(run: Run) -> Any:
    """Returns the transform that yields the private records; None: the source is cut into pieces."""
    return private_source(run.recipe).transform(Opened(run.store.uri, private_cuttable, ""))


class _ListPiecesFn(RunFn):
    def process(self, keyed: tuple[int, Iterable[Pieces]]) -> Iterator[Piece]:
        with self.guarded("ListPieces"):
            pieces = ingest.list_pieces(self.open(), [piece for _, found in keyed[1] for piece in found or ()])
        yield from pieces


class _EmbedPieceFn(RunFn):
    def process(self, piece: Piece) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.guarded("EmbedPieces"):
            summary = ingest.embed_piece(self.open(), piece)
        yield 0, summary


class _FreezeFn(RunFn):
    def process(self, keyed: tuple[int, Iterable[dict[str, Any] | None]]) -> Iterator[str]:
        with self.guarded("Freeze"):
            ingest.commit_index(self.open(), [summary for summary in keyed[1] if summary is not None])
        yield INDEX


class _CheckPieceFn(RunFn):
    def process(self, piece: Piece) -> Iterator[tuple[int, str]]:
        with self.guarded("CheckPieces"):
            ingest.check_piece(self.open(), piece)
        yield 0, piece.name


class _CheckAllFn(RunFn):
    def process(self, keyed: tuple[int, Iterable[str | None]]) -> Iterator[str]:
        with self.guarded("CheckAll"):
            if sorted(name for name in keyed[1] if name is not None) != [
                shard["piece"] for shard in shards_of(self.open())
            ]:
                raise ingest.changed_data()
        yield INDEX


@beam.typehints.with_output_types(tuple[records.Place, bytes])
class SplitRecordsFn(RunFn):
    """A batch that a transform yields -> its rows by their places, as Arrow streams."""

    def process(self, batch: Any) -> Iterator[tuple[records.Place, bytes]]:  # noqa: D102
        with self.guarded("SplitRecords"):
            found = list(records.split_batch(batch))
        yield from found


class _EmbedRecordsFn(RunFn):
    def process(self, keyed: tuple[records.Place, Iterable[bytes]]) -> Iterator[tuple[int, dict[str, Any]]]:
        with self.guarded("EmbedRecords"):
            run = self.open()
            piece, table = records.join_records(*keyed)
            summary = ingest.embed_piece(run, piece, private_source(run.recipe, table))
        yield 0, summary


class _CheckRecordsFn(RunFn):
    def process(self, keyed: tuple[records.Place, Iterable[bytes]]) -> Iterator[tuple[int, str]]:
        with self.guarded("CheckRecords"):
            run = self.open()
            piece, table = records.join_records(*keyed)
            ingest.check_piece(run, piece, private_source(run.recipe, table))
        yield 0, piece.name


class _Private(RunTransform):
    """A transform of the private records."""

    def __init__(self, run_dir: str, transform: Any = None) -> None:
        """Takes the run directory, and the transform that yields the records if pieces are not cut."""
        super().__init__(run_dir)
        self._transform = transform

    def pieces(self, start: beam.PCollection) -> beam.PCollection:
        """Returns the pieces of the source, spread over workers."""
        return (
            start
            | "CutSources" >> CutSources(self._root, private_cuttable)
            | "ListPieces" >> beam.ParDo(_ListPiecesFn(self._root))
            | "SpreadPieces" >> Spread()
        )

    def records(self, start: beam.PCollection) -> beam.PCollection:
        """Returns ((source, range), rows as Arrow streams) of the records that the transform yields."""
        read = start.pipeline | "ReadRecords" >> self._transform
        demand_one_window(read, "data.path")
        return read | "SplitRecords" >> beam.ParDo(SplitRecordsFn(self._root)) | "GroupRecords" >> GroupClients()

    def with_token(self, start: beam.PCollection, found: beam.PCollection) -> beam.PCollection:
        """Returns the same elements, and (0, None), so that no records at all are seen as well."""
        return (found, start | "Token" >> beam.ParDo(_TokenFn())) | "WithToken" >> beam.Flatten()


class _TokenFn(PlainFn):
    """Gives an element without records. A graph holds the name of a class, but all of a lambda, its file's path too."""

    def process(self, _: Any) -> Iterator[tuple[int, None]]:
        yield 0, None


class Ingest(_Private):
    """Reads, embeds and freezes the private records: one start token -> the name of the frozen index."""

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        if self._transform is None:
            embedded = self.pieces(start) | "EmbedPieces" >> beam.ParDo(_EmbedPieceFn(self._root))
        else:
            found = self.records(start) | "EmbedRecords" >> beam.ParDo(_EmbedRecordsFn(self._root))
            embedded = self.with_token(start, found)
        return (
            embedded  # (0, summary of a shard)
            | "GatherShards" >> beam.GroupByKey()
            | "Freeze" >> beam.ParDo(_FreezeFn(self._root))
        )


class CheckSource(_Private):
    """Checks that the source has the embedded bytes: one start token -> the name of the index."""

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        if self._transform is None:
            checked = self.pieces(start) | "CheckPieces" >> beam.ParDo(_CheckPieceFn(self._root))
        else:
            found = self.records(start) | "CheckRecords" >> beam.ParDo(_CheckRecordsFn(self._root))
            checked = self.with_token(start, found)
        return (
            checked  # (0, piece name)
            | "GatherPieces" >> beam.GroupByKey()
            | "CheckAll" >> beam.ParDo(_CheckAllFn(self._root))
        )
