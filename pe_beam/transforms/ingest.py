"""Ingest: private records -> frozen embedding shards, once a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from pe_beam.runs import ingest
from pe_beam.runs.run import open_run
from pe_beam.sources.base import Piece
from pe_beam.transforms.guard import guarded


class _ListPiecesFn(beam.DoFn):
    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, _: Any) -> Iterator[Piece]:
        with guarded(self._root, "ListPieces"):
            pieces = ingest.list_pieces(open_run(self._root))
        yield from pieces


class _EmbedPieceFn(beam.DoFn):
    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, piece: Piece) -> Iterator[tuple[int, dict[str, Any]]]:
        with guarded(self._root, "EmbedPieces"):
            summary = ingest.embed_piece(open_run(self._root), piece)
        yield 0, summary


class _FreezeFn(beam.DoFn):
    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, keyed: tuple[int, Iterable[dict[str, Any]]]) -> Iterator[str]:
        with guarded(self._root, "Freeze"):
            ingest.commit_index(open_run(self._root), list(keyed[1]))
        yield ingest.INDEX


class _CheckPieceFn(beam.DoFn):
    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, piece: Piece) -> Iterator[tuple[int, str]]:
        with guarded(self._root, "CheckPieces"):
            ingest.check_piece(open_run(self._root), piece)
        yield 0, piece.name


class _CheckAllFn(beam.DoFn):
    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, keyed: tuple[int, Iterable[str]]) -> Iterator[str]:
        with guarded(self._root, "CheckAll"):
            index = open_run(self._root).index() or {"shards": []}
            if sorted(keyed[1]) != [shard["piece"] for shard in index["shards"]]:
                raise ingest.changed_data()
        yield ingest.INDEX


class Ingest(beam.PTransform):
    """One start token -> the name of the frozen index. Reads, embeds and freezes the private records."""

    def __init__(self, run_dir: str) -> None:
        super().__init__()
        self._root = run_dir

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListPieces" >> beam.ParDo(_ListPiecesFn(self._root))
            | "SpreadPieces" >> beam.Reshuffle()
            | "EmbedPieces" >> beam.ParDo(_EmbedPieceFn(self._root))  # (0, summary of a shard)
            | "GatherShards" >> beam.GroupByKey()
            | "Freeze" >> beam.ParDo(_FreezeFn(self._root))
        )


class CheckSource(beam.PTransform):
    """One start token -> the name of the index, if the source's bytes are those that were embedded."""

    def __init__(self, run_dir: str) -> None:
        super().__init__()
        self._root = run_dir

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListPieces" >> beam.ParDo(_ListPiecesFn(self._root))
            | "SpreadPieces" >> beam.Reshuffle()
            | "CheckPieces" >> beam.ParDo(_CheckPieceFn(self._root))  # (0, piece name)
            | "GatherPieces" >> beam.GroupByKey()
            | "CheckAll" >> beam.ParDo(_CheckAllFn(self._root))
        )
