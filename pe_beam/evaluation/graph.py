"""The Beam graph of `evaluate`: compares populations of a complete run with real records. Writes only to private/."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pe_beam.engine.cuttable import Pieces
from pe_beam.engine.graphs.base import RunFn, RunTransform, start
from pe_beam.engine.graphs.cutting import CutSources
from pe_beam.engine.graphs.ingest import SplitRecordsFn
from pe_beam.engine.records import Place
from pe_beam.evaluation import measure
from pe_beam.evaluation.gather import Gathered, Portion, gather, list_portions, training_portions
from pe_beam.evaluation.outcome import commit_outcome
from pe_beam.evaluation.progress import note_step
from pe_beam.evaluation.setting import CEILING, WORK, Setting
from pe_beam.evaluation.sources import cuttable, land_records
from pe_beam.metrics.memorisation import Nearest, nearer
from pe_beam.metrics.moments import Tree, add_leaf, join_trees, whole
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.shuffle import GroupClients
from pe_beam.transforms.spread import Spread


class _ListPortionsFn(RunFn):
    def process(self, keyed: tuple[int, Iterable[Pieces]]) -> Iterator[Portion]:
        with self.guarded("ListPortions"):
            run = self.open()
            portions = list_portions(run, Setting.load(run), keyed[1])
        yield from portions


class _LandRecordsFn(RunFn):
    def __init__(self, root: str, group: str) -> None:
        super().__init__(root)
        self._group = group

    def process(self, keyed: tuple[Place, Iterable[bytes]]) -> Iterator[tuple[int, list[Pieces]]]:
        with self.guarded("LandRecords"):
            piece = land_records(self.open(), self._group, *keyed)
        yield 0, [(self._group, [piece])]


class _FlatFn(PlainFn):
    """Joins what is gathered of several kinds of sources."""

    def process(self, keyed: tuple[int, Iterable[Iterable[Pieces]]]) -> Iterator[tuple[int, list[Pieces]]]:
        yield 0, [pieces for several in keyed[1] for pieces in several]


class _GatherFn(RunFn):
    def process(self, portion: Portion) -> Iterator[tuple[str, tuple[int, Gathered]]]:
        with self.guarded("ReadAndEmbed"):
            found = gather(self.open(), portion)
        yield portion.group, (portion.place, found)


class MergeGatheredCombineFn(beam.CombineFn):
    """Combines (place, result of a portion) into one result. It is the same to the last bit in any order of merging."""

    def create_accumulator(self) -> Tree[Gathered]:  # noqa: D102
        return {}

    def add_input(self, tree: Tree[Gathered], placed: tuple[int, Gathered]) -> Tree[Gathered]:  # noqa: D102
        add_leaf(tree, *placed)
        return tree

    def merge_accumulators(self, trees: Iterable[Tree[Gathered]]) -> Tree[Gathered]:  # noqa: D102
        return join_trees(trees)

    def extract_output(self, tree: Tree[Gathered]) -> Gathered:  # noqa: D102
        return whole(tree)


class _CommitGroupsFn(RunFn):
    def process(self, keyed: tuple[int, Iterable[tuple[str, Gathered]]]) -> Iterator[str]:
        with self.guarded("CommitGroups"):
            names = measure.commit_groups(self.open(), keyed[1])
        yield from names


class _MeasureFn(RunFn):
    def process(self, name: str) -> Iterator[tuple[int, str]]:
        with self.guarded("Measure"):
            measure.measure(self.open(), name)
        yield 0, name


class _ListTrainingFn(RunFn):
    """Yields the portions of training shards for the name of the ceiling, and nothing for other names."""

    def process(self, name: str) -> Iterator[Portion]:
        if name != CEILING:
            return
        with self.guarded("ListTraining"):
            run = self.open()
            note_step(run, "looking for the nearest training records")
            portions = training_portions(run, Setting.load(run))
        yield from portions


class _NearestFn(RunFn):
    """Finds the nearest record of each query in portions of training shards. It yields one result per bundle."""

    def start_bundle(self) -> None:
        self._vectors: np.ndarray | None = None
        self._best: Nearest | None = None

    def process(self, portion: Portion) -> None:
        with self.guarded("Nearest"):
            run = self.open()
            if self._vectors is None:
                _, self._vectors = measure.queries(run)
            found = measure.nearest_of_shards(run, portion.parts, portion.first, self._vectors)
            self._best = found if self._best is None else nearer(self._best, found)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._best is not None:
            yield WindowedValue((0, self._best), MIN_TIMESTAMP, [GlobalWindow()])
        self._vectors = self._best = None


class NearerCombineFn(beam.CombineFn):
    """Keeps the nearer record of each query. At equal distance it keeps the first record."""

    def create_accumulator(self) -> Nearest | None:  # noqa: D102
        return None

    def add_input(self, best: Nearest | None, found: Nearest) -> Nearest:  # noqa: D102
        return found if best is None else nearer(best, found)

    def merge_accumulators(self, several: Iterable[Nearest | None]) -> Nearest | None:  # noqa: D102
        best: Nearest | None = None
        for found in several:
            if found is not None:
                best = self.add_input(best, found)
        return best

    def extract_output(self, best: Nearest | None) -> Nearest | None:  # noqa: D102
        return best


class _CommitNearestFn(RunFn):
    def process(self, keyed: tuple[int, Nearest]) -> Iterator[tuple[int, str]]:
        with self.guarded("CommitNearest"):
            measure.commit_nearest(self.open(), keyed[1])
        yield 0, "nearest"


class _CommitOutcomeFn(RunFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("CommitOutcome"):
            name = commit_outcome(self.open())
        yield name


class _TidyFn(RunFn):
    def process(self, name: str) -> Iterator[str]:
        with self.guarded("Tidy"):
            self.open().store.delete_all(WORK)
        yield name


class Gather(RunTransform):
    """Start token -> names to measure. It is a barrier: they come after everything is read and committed."""

    def __init__(self, run_dir: str, records: Mapping[str, Any]) -> None:
        """Takes the run directory, and the transforms that yield records of sources that are not cut, by group."""
        super().__init__(run_dir)
        self._records = records

    def _pieces(self, start: beam.PCollection) -> beam.PCollection:
        """Returns (0, pieces of all sources). Where a transform yields the records, they are kept by pieces."""
        cut = start | "CutSources" >> CutSources(self._root, cuttable)
        landed = [
            start.pipeline
            | f"ReadRecords {group}" >> transform
            | f"SplitRecords {group}" >> beam.ParDo(SplitRecordsFn(self._root))
            | f"GroupRecords {group}" >> GroupClients()
            | f"LandRecords {group}" >> beam.ParDo(_LandRecordsFn(self._root, group))
            for group, transform in self._records.items()
        ]
        if not landed:
            return cut
        every = [cut, *landed] | "AllSources" >> beam.Flatten()
        return every | "GatherSources" >> beam.GroupByKey() | "FlatSources" >> beam.ParDo(_FlatFn())

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            self._pieces(start)
            | "ListPortions" >> beam.ParDo(_ListPortionsFn(self._root))
            | "SpreadPortions" >> Spread()
            | "ReadAndEmbed" >> beam.ParDo(_GatherFn(self._root))  # (group, (place, gathered))
            | "MergeMoments" >> beam.CombinePerKey(MergeGatheredCombineFn())  # (group, gathered)
            | "OneKey" >> beam.Map(lambda group: (0, group))
            | "GatherGroups" >> beam.GroupByKey()
            | "CommitGroups" >> beam.ParDo(_CommitGroupsFn(self._root))  # names
        )


class NearestRecords(RunTransform):
    """Names to measure -> (0, "nearest"), after the nearest training record of each query is committed."""

    def expand(self, names: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            names
            | "ListTraining" >> beam.ParDo(_ListTrainingFn(self._root))
            | "SpreadShards" >> Spread()
            | "Nearest" >> beam.ParDo(_NearestFn(self._root))  # (0, (squared distances, rows))
            | "KeepNearest" >> beam.CombinePerKey(NearerCombineFn())
            | "CommitNearest" >> beam.ParDo(_CommitNearestFn(self._root))
        )


class Evaluate(RunTransform):
    """Start token -> the name of the committed evaluation."""

    def __init__(self, run_dir: str, records: Mapping[str, Any]) -> None:
        """Takes what `Gather` takes."""
        super().__init__(run_dir)
        self._records = records

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        names = start | "Gather" >> Gather(self._root, self._records)
        measured = (
            names | "SpreadNames" >> Spread() | "Measure" >> beam.ParDo(_MeasureFn(self._root))  # (0, name)
        )
        nearest = names | "NearestRecords" >> NearestRecords(self._root)  # (0, "nearest")
        return (
            (measured, nearest)
            | "Both" >> beam.Flatten()
            | "GatherAll" >> beam.GroupByKey()
            | "CommitOutcome" >> beam.ParDo(_CommitOutcomeFn(self._root))
        )


class Tidy(RunTransform):
    """The name of the committed evaluation -> the same, after the work files are deleted. The shuffle is a barrier."""

    def expand(self, names: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return names | "AfterAll" >> Spread() | "Tidy" >> beam.ParDo(_TidyFn(self._root))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the graph. `evaluate` writes the setting of the evaluation into private/evaluation/work.

    Attributes:
      run_dir: the complete run.
      tidies: whether the job deletes the work files, because no driver waits for it.
      records: `transforms_of` the run: what yields records of sources that are not cut, by group.
    """

    run_dir: str
    tidies: bool = False
    records: Mapping[str, Any] = field(default_factory=dict)


def build(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph of an evaluation, for any runner. It gives the name of the result."""
    found = start(root) | "Evaluate" >> Evaluate(config.run_dir, config.records)
    return found | "Tidy" >> Tidy(config.run_dir) if config.tidies else found
