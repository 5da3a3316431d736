"""Cuts sources into pieces, spread over workers: list files, cut each file or byte range, join the cuts of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apache_beam as beam

from pe_beam.contracts import cutting
from pe_beam.contracts.source import FileCut, FilePart, Piece, Source
from pe_beam.engine.cuttable import Cuttable, Opener, Pieces, noted
from pe_beam.engine.graphs.base import RunFn
from pe_beam.errors import DataError, PeBeamError
from pe_beam.transforms.spread import Spread


class _CuttingFn(RunFn):
    def __init__(self, root: str, opener: Opener) -> None:
        super().__init__(root)
        self._opener = opener

    def sources(self) -> Mapping[str, Cuttable]:
        return self._opener(self.open())


class _ListFilesFn(_CuttingFn):
    def process(self, _: object) -> Iterator[tuple[str, tuple[FilePart, ...]]]:
        with self.guarded("ListFiles"):
            found = [(name, group) for name, cuttable in self.sources().items() for group in _groups(cuttable)]
        yield from found


def _groups(cuttable: Cuttable) -> list[tuple[FilePart, ...]]:
    """Returns the groups of parts to cut. One group without parts stands for a source that cannot be listed."""
    try:
        return cutting.group_parts(cuttable.source.files())
    except PeBeamError as error:
        if cuttable.forgives is None or not isinstance(error, cuttable.forgives):
            raise
        return [()]


class _CutFilesFn(_CuttingFn):
    def process(self, named: tuple[str, tuple[FilePart, ...]]) -> Iterator[tuple[tuple[str, int], FileCut | None]]:
        name, parts = named
        cuts: Sequence[FileCut | None] = [None]
        with self.guarded("CutFiles"):
            cuttable = self.sources()[name]
            try:
                cuts = cutting.cut_parts(cuttable.source, parts) if parts else cuts
            except PeBeamError as error:
                if cuttable.forgives is None or not isinstance(error, cuttable.forgives):
                    raise self._noted(error, cuttable.source, parts) from None
        for cut in cuts:
            yield (name, -1 if cut is None else cut.part.file_index), cut

    def _noted(self, error: PeBeamError, source: Source, parts: Sequence[FilePart]) -> PeBeamError:
        """Returns the error with where to look for the file that it is about, which no message may name (rule 7)."""
        if not isinstance(error, DataError):
            return error
        bad = next((part.file for part in parts if _is_bad(source, part)), None)
        if not bad:  # "" is the whole source, and says nothing
            return error
        return noted(self.open().store, error, bad)


def _is_bad(source: Source, part: FilePart) -> bool:
    try:
        source.cut_file(part)
    except PeBeamError:
        return True
    return False


class _JoinCutsFn(_CuttingFn):
    def process(self, keyed: tuple[tuple[str, int], Iterable[FileCut | None]]) -> Iterator[tuple[int, Pieces]]:
        (name, _), group = keyed
        with self.guarded("JoinCuts"):
            cuts = [cut for cut in group if cut is not None]
            pieces = self._joined(self.sources()[name], cuts) if cuts else None
        yield 0, (name, pieces)

    def _joined(self, cuttable: Cuttable, cuts: list[FileCut]) -> list[Piece] | None:
        """Returns the pieces of a file; None: they cannot be had, and that is forgiven."""
        try:
            pieces = cutting.join_file(cuttable.source, cuts)
            return list(cuttable.source.digested(pieces)) if cuttable.is_digested else pieces
        except PeBeamError as error:
            if cuttable.forgives is None or not isinstance(error, cuttable.forgives):
                raise
            return None


class CutSources(beam.PTransform):
    """Start token -> one (0, iterable of `Pieces`), with at least one element for each source.

    A file is cut where its part arrives; only listings, and the cuts of one file, are ever in one place.
    """

    def __init__(self, run_dir: str, opener: Opener) -> None:
        """Takes the run directory, and what opens the sources on a worker."""
        super().__init__()
        self._root, self._opener = run_dir, opener

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListFiles" >> beam.ParDo(_ListFilesFn(self._root, self._opener))
            | "SpreadFiles" >> Spread()
            | "CutFiles" >> beam.ParDo(_CutFilesFn(self._root, self._opener))  # ((source, file), cut of a part)
            | "GatherCuts" >> beam.GroupByKey()
            | "JoinCuts" >> beam.ParDo(_JoinCutsFn(self._root, self._opener))  # (0, pieces of a file)
            | "GatherPieces" >> beam.GroupByKey()
        )
