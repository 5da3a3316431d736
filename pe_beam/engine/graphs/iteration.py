"""Iteration: population t-1 -> population t. The input is one start token and the output one manifest name, so that
jobs of one iteration and an unrolled graph use the same transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pe_beam.contracts.source import BATCH_BYTES
from pe_beam.contracts.votes import Tally
from pe_beam.engine import indexes, matrices, populations, steps
from pe_beam.engine.ahead import ReadAhead
from pe_beam.engine.cells import CliqueCells, read_bins
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.graphs.base import Hints, RunFn, RunTransform, start
from pe_beam.engine.handles import RunBallots, RunGeneration, RunMechanism, RunSelection
from pe_beam.engine.manifests import candidate_count
from pe_beam.engine.queries import measurement_of, query_of
from pe_beam.engine.shards import dimension_of, listed
from pe_beam.engine.spending import coins_of
from pe_beam.engine.tables import HISTOGRAM
from pe_beam.privacy.coins import Coins
from pe_beam.storage.parquet import parquet_file
from pe_beam.transforms.generate import Generate
from pe_beam.transforms.histogram import NoisyHistogram
from pe_beam.transforms.plain import PlainFn
from pe_beam.transforms.select import Select
from pe_beam.transforms.spread import Spread
from pe_beam.transforms.vote import Vote, added, sum_tallies
from pe_beam.voting.threads import limit_threads

# Runners show Beam metrics, so metrics may count only public things. Generators see candidates only, which are public.
# Votes, records and the times of private stages are never metrics (DESIGN, privacy rule 7).
_GENERATOR_CALLS = Metrics.counter("pe_beam", "generator_calls")
_CANDIDATES_EMBEDDED = Metrics.counter("pe_beam", "candidates_embedded")
_READING = {"pre_buffer": False, "buffer_size": 4 << 20}
"""Settings for the read of a shard: a few megabytes at a time."""


class _StageFn(RunFn):
    """A DoFn of one iteration of one run."""

    def __init__(self, root: str, iteration: int) -> None:
        super().__init__(root)
        self._iteration = iteration


class _ListCandidatesFn(_StageFn):
    def process(self, _: Any) -> Iterator[tuple[int, int]]:
        with self.guarded("ListCandidates"):
            run = self.open()
            ranges = populations.chunk_ranges(run, candidate_count(run, self._iteration - 1))
        yield from ranges


class _EmbedCandidatesFn(_StageFn):
    def process(self, span: tuple[int, int]) -> Iterator[tuple[int, int]]:
        with self.guarded("EmbedCandidates"):
            limit_threads(self.open().recipe.execution.blas_threads)
            calls = matrices.embed_candidates(self.open(), self._iteration, *span)
        _GENERATOR_CALLS.inc(calls)
        _CANDIDATES_EMBEDDED.inc(span[1] - span[0])
        yield 0, span[0]


class _CommitMatrixFn(_StageFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("CommitMatrix"):
            shards = matrices.commit_matrix(self.open(), self._iteration)
            indexes.commit_index(self.open(), self._iteration)
        yield from shards


@beam.typehints.with_input_types(str)
@beam.typehints.with_output_types(pa.RecordBatch)
class _ReadShardFn(_StageFn):
    """Shard name -> Arrow batches, read one by one, because a row group of long vectors has half a gigabyte.

    The next batch is read while this one is voted on. So a shard's last batch comes out with the next shard, or when
    the bundle ends.
    """

    def __init__(self, root: str, iteration: int) -> None:
        super().__init__(root, iteration)
        self._coins: Coins | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_coins": None}

    def start_bundle(self) -> None:
        self.teardown()
        self._ahead = ReadAhead[pa.RecordBatch]()

    def process(self, shard: str) -> Iterator[pa.RecordBatch]:
        yield from self._ahead.follow(self._batches(shard))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for batch in self._ahead.drain():
            yield WindowedValue(batch, MIN_TIMESTAMP, [GlobalWindow()])

    def teardown(self) -> None:
        if ahead := getattr(self, "_ahead", None):  # a bundle that failed has left a read
            ahead.drop()

    def _batches(self, shard: str) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """Gives the batches of a shard, and with each whether it is the last. A thread that reads ahead runs it."""
        with self.guarded("ReadShards"), parquet_file(self.open().store, shard, **_READING) as file:
            count = file.metadata.num_rows
            if not count:  # a shard without records still needs a histogram of zeros
                yield listed(pa.RecordBatch.from_pylist([], file.schema_arrow)), True
                return
            most = max(1, BATCH_BYTES // (4 * dimension_of(file.schema_arrow)))
            size = min(self.open().recipe.execution.vote_batch, most)
            row = 0
            for batch in file.iter_batches(size):
                row += batch.num_rows
                yield self._sampled(listed(batch), shard, row - batch.num_rows), row == count

    def _sampled(self, batch: pa.RecordBatch, shard: str, first: int) -> pa.RecordBatch:
        """Returns the rows that vote in this iteration, from row `first` of a shard on. Which they are is private."""
        if self._coins is None and self._iteration > 0 and self.open().recipe.privacy.sampling_rate < 1:
            self._coins = coins_of(self.open(), self._iteration)
        if self._coins is None:
            return batch
        if self.open().recipe.vote_unit == "client":
            return batch.filter(pa.array(self._coins.of_clients(batch["client"].to_pylist())))
        return batch.filter(pa.array(self._coins.of_rows(shard, first, batch.num_rows)))


class _OneKeyFn(PlainFn):
    """Gives all elements one key. A graph holds the name of a class, but all of a lambda."""

    def process(self, receipt: Any) -> Iterator[tuple[int, Any]]:
        yield 0, receipt


class _NoVotesFn(PlainFn):
    """Gives the histogram of iteration 0, on which nobody votes."""

    def process(self, _: Any) -> Iterator[pa.Table]:
        yield HISTOGRAM.empty_table()


class _CommitIterationFn(_StageFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("CommitIteration"):
            steps.commit_iteration(self.open(), self._iteration)
        yield self.open().layout.public(self._iteration, "manifest.json")


class _IterationTransform(beam.PTransform):
    """A transform of one iteration of one run."""

    def __init__(self, run_dir: str, iteration: int) -> None:
        super().__init__()
        self._at = (run_dir, iteration)


class EmbedCandidates(_IterationTransform):
    """Start token -> names of the private shards, after the candidate matrix is committed. It is a barrier."""

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListCandidates" >> beam.ParDo(_ListCandidatesFn(*self._at))
            | "SpreadCandidates" >> Spread()
            | "EmbedCandidates" >> beam.ParDo(_EmbedCandidatesFn(*self._at))  # (0, first row)
            | "GatherCandidates" >> beam.GroupByKey()
            | "CommitMatrix" >> beam.ParDo(_CommitMatrixFn(*self._at))  # shard names
            | "SpreadShards" >> Spread()
        )


class Count(_IterationTransform):
    """Shard names -> one tally of all candidates. Read and search are one fused stage."""

    def __init__(self, run_dir: str, iteration: int, *, unit: str) -> None:
        super().__init__(run_dir, iteration)
        self._unit = unit

    def expand(self, shards: beam.PCollection) -> beam.PCollection:  # noqa: D102
        batches = shards | "ReadShards" >> beam.ParDo(_ReadShardFn(*self._at))  # Arrow batches
        grid = RunMechanism(*self._at)
        return batches | "Vote" >> Vote(RunBallots(*self._at), unit=self._unit, grid=grid, traces=self._at[0])


class Commit(_IterationTransform):
    """A histogram -> the name of the committed manifest. It selects, generates, and commits both."""

    def __init__(self, run_dir: str, iteration: int, *, hints: Hints) -> None:
        super().__init__(run_dir, iteration)
        self._hints = hints.get("generate", {})

    def expand(self, histogram: beam.PCollection) -> beam.PCollection:  # noqa: D102
        root = self._at[0]
        return (
            histogram
            | "Select" >> Select(RunSelection(*self._at), traces=root)
            | "Generate" >> Generate(RunGeneration(*self._at), traces=root).with_resource_hints(**self._hints)
            | "OneKey" >> beam.ParDo(_OneKeyFn())
            | "GatherChunks" >> beam.GroupByKey()
            | "CommitIteration" >> beam.ParDo(_CommitIterationFn(*self._at))
        )


class _ListShardsFn(_StageFn):
    """Gives the index entries of all shards, after what is counted is fixed."""

    def process(self, _: Any) -> Iterator[dict[str, Any]]:
        with self.guarded("ListShards"):
            query_of(self.open(), self._iteration).prepare()
        yield from shards_of(self.open())


class _ShardNameFn(PlainFn):
    """Index entry of a shard -> its name."""

    def process(self, shard: dict[str, Any]) -> Iterator[str]:
        yield shard["shard"]


@beam.typehints.with_input_types(dict[str, Any])
@beam.typehints.with_output_types(tuple[int, Tally])
class _CountCellsFn(_StageFn):
    """Index entry of a shard -> (0, exact counts), one of a bundle. It reads bins, and no vectors."""

    def start_bundle(self) -> None:
        self._cells: CliqueCells | None = None
        self._tally: Tally | None = None

    def process(self, shard: dict[str, Any]) -> None:
        with self.guarded("CountCells"):
            self._cells = self._cells or measurement_of(self.open(), self._iteration).ballots()
            bins = read_bins(self.open(), shard, sliced=self._cells.sliced)
            self._tally = added(self._tally, self._cells.tally(bins))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._tally is not None:
            yield WindowedValue((0, self._tally), MIN_TIMESTAMP, [GlobalWindow()])


class CountCells(_IterationTransform):
    """Index entries of shards -> one tally of all cells of an initial measurement."""

    def __init__(self, run_dir: str, iteration: int, *, unit: str) -> None:
        super().__init__(run_dir, iteration)
        self._unit = unit

    def expand(self, shards: beam.PCollection) -> beam.PCollection:  # noqa: D102
        if self._unit == "client":
            return shards | "ShardNames" >> beam.ParDo(_ShardNameFn()) | "Count" >> Count(*self._at, unit=self._unit)
        return sum_tallies(shards | "CountCells" >> beam.ParDo(_CountCellsFn(*self._at)))


class LabelShares(RunTransform):
    """Start token -> a noisy initial measurement (pa.Table) after its commit. It spends the budget of its iteration."""

    def __init__(self, run_dir: str, *, unit: str, iteration: int = 0) -> None:
        super().__init__(run_dir)
        self._unit, self._iteration = unit, iteration

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListShards" >> beam.ParDo(_ListShardsFn(self._root, self._iteration))
            | "SpreadShards" >> Spread()
            | "Count" >> CountCells(self._root, self._iteration, unit=self._unit)
            | "Noise" >> NoisyHistogram(RunMechanism(self._root, self._iteration), commit=self._root)
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an iteration. Everything else is in the run directory.

    Attributes:
      run_dir: run directory with frozen embeddings, and the iteration's ledger line if it spends.
      iteration: 0 to T, or below 0 an initial measurement before that of iteration 0.
      unit: the privacy unit, record or client.
      label_shares: whether iteration 0 starts with an initial measurement.
      hints: resource hints by stage.
    """

    run_dir: str
    iteration: int
    unit: str
    label_shares: bool = False
    hints: Hints = field(default_factory=dict)


class Iteration(beam.PTransform):
    """One iteration: start token -> name of the manifest of its population; below 0 a measurement (pa.Table)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        of = self._config
        at = of.run_dir, of.iteration
        if of.iteration < 0:
            return start | "LabelShares" >> LabelShares(of.run_dir, unit=of.unit, iteration=of.iteration)
        if of.iteration:
            histogram = (
                start
                | "Embed" >> EmbedCandidates(*at).with_resource_hints(**of.hints.get("embed", {}))
                | "Count" >> Count(*at, unit=of.unit).with_resource_hints(**of.hints.get("vote", {}))
                | "Noise" >> NoisyHistogram(RunMechanism(*at), commit=of.run_dir)
            )
        else:
            if of.label_shares:
                start = start | "LabelShares" >> LabelShares(of.run_dir, unit=of.unit)
            histogram = start | "NoVotes" >> beam.ParDo(_NoVotesFn()).with_output_types(pa.Table)
        return histogram | "Vary" >> Commit(*at, hints=of.hints)


def build(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph of one iteration, for any runner. It gives the name of the manifest, or the measurement."""
    return start(root) | "Iteration" >> Iteration(config)
