"""Iteration: population t-1 -> population t. One start token in, one manifest name out, so that jobs of one
iteration and an unrolled graph are made of the same transform.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from threadpoolctl import threadpool_limits

from pe_beam.contracts.source import BATCH_BYTES
from pe_beam.engine import steps
from pe_beam.engine.bought import cell_count, cells_of
from pe_beam.engine.graphs.base import RunFn, RunTransform
from pe_beam.engine.run import Run
from pe_beam.errors import InputError
from pe_beam.storage.parquet import parquet_file
from pe_beam.voting.client import client_ballot
from pe_beam.voting.votes import read_batch, read_clients

Hints = Mapping[str, Mapping[str, str]]
"""Stage (embed, vote, generate) -> Beam's resource hints."""

# What is public may be counted where a runner shows it: generators see candidates only. Votes, records and the
# times of private stages are never metrics (DESIGN, privacy rule 7).
_GENERATOR_CALLS = Metrics.counter("pe_beam", "generator_calls")
_CANDIDATES_EMBEDDED = Metrics.counter("pe_beam", "candidates_embedded")
_CHUNK_MILLISECONDS = Metrics.distribution("pe_beam", "generated_chunk_milliseconds")
_READING = {"pre_buffer": False, "buffer_size": 4 << 20}
"""How a shard is read: a few megabytes at a time."""


class _StageFn(RunFn):
    """A DoFn of one iteration of one run."""

    def __init__(self, root: str, iteration: int) -> None:
        super().__init__(root)
        self._iteration = iteration


class _ListCandidatesFn(_StageFn):
    def process(self, _: Any) -> Iterator[tuple[int, int]]:
        with self.guarded("ListCandidates"):
            run = self.open()
            ranges = steps.chunk_ranges(run, run.candidate_count(self._iteration - 1))
        yield from ranges


class _MathsFn(_StageFn):
    """A DoFn whose time goes into matrix products."""

    def setup(self) -> None:
        """Once a process: workers that share a machine are faster with a core each than with all of them each."""
        threads = self.open().recipe.execution.blas_threads
        if threads is not None:
            threadpool_limits(limits=threads)


class _EmbedCandidatesFn(_MathsFn):
    def process(self, span: tuple[int, int]) -> Iterator[tuple[int, int]]:
        with self.guarded("EmbedCandidates"):
            calls = steps.embed_candidates(self.open(), self._iteration, *span)
        _GENERATOR_CALLS.inc(calls)
        _CANDIDATES_EMBEDDED.inc(span[1] - span[0])
        yield 0, span[0]


class _CommitMatrixFn(_StageFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("CommitMatrix"):
            shards = steps.commit_matrix(self.open(), self._iteration)
        yield from shards


class _ReadShardFn(_StageFn):
    """Shard name -> Arrow batches, read as they are asked for: a row group of long vectors is half a gigabyte."""

    def process(self, shard: str) -> Iterator[pa.Table]:
        with self.guarded("ReadShards"), parquet_file(self.open().store, shard, **_READING) as file:
            if not file.num_row_groups:  # no record still is a histogram of zeros
                yield file.schema_arrow.empty_table()
            dimension = file.schema_arrow.field("vector").type.list_size
            size = min(self.open().recipe.execution.vote_batch, max(1, BATCH_BYTES // (4 * dimension)))
            for batch in file.iter_batches(size):
                yield pa.Table.from_batches([batch])


Tally = tuple[str, np.ndarray]
"""Digest of the candidate matrix that was voted on (empty in iteration 0), and int64 counts of all candidates."""


def _added(total: Tally | None, tally: Tally) -> Tally:
    """The sum of two tallies over one candidate matrix (rule 3); raises InputError over two."""
    if total is None:
        return tally
    if total[0] != tally[0]:
        raise InputError(
            "private/counts: workers voted on different candidate matrices; run again once no other worker is at work"
        )
    return total[0], total[1] + tally[1]


class _VoteFn(_MathsFn):
    """Arrow batches -> one tally a bundle; fused with the read."""

    def start_bundle(self) -> None:
        self._tally: Tally | None = None

    def process(self, batch: pa.Table) -> None:
        with self.guarded("Vote"):
            vectors, labels, _ = read_batch(batch)
            voter = steps.load_voter(self.open(), self._iteration)
            self._tally = _added(self._tally, (voter.digest, voter.count(vectors, labels)))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._tally is not None:
            yield WindowedValue((0, self._tally), MIN_TIMESTAMP, [GlobalWindow()])


Voting = tuple[str, str]
"""Digest of the candidate matrix that was voted on (empty in iteration 0), and the client: the key of its votes."""
_NOBODY = ""
"""Stands for an empty shard, which still is a histogram of zeros: no client has an empty id."""


class _ClientVoteFn(_MathsFn):
    """Arrow batches -> ((matrix, client), {candidate row: votes}), to be joined over all labels and bundles."""

    def process(self, batch: pa.Table) -> Iterator[tuple[Voting, dict[int, int]]]:
        with self.guarded("Vote"):
            vectors, labels, clients = read_clients(batch)
            voter = steps.load_voter(self.open(), self._iteration)
            rows, positions = voter.ballots(vectors, labels)
            ballots: dict[str, dict[int, int]] = {}
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
                ballot = ballots.setdefault(clients[row], {})
                ballot[position] = ballot.get(position, 0) + 1
        yield from _keyed(ballots, voter.digest)


def _keyed(ballots: dict[str, dict[int, int]], matrix: str) -> Iterator[tuple[Voting, dict[int, int]]]:
    for client, ballot in (ballots or {_NOBODY: {}}).items():
        yield (matrix, client), ballot


class _ClientLabelFn(_StageFn):
    """Arrow batches -> (("", client), {bought cell: records})."""

    def process(self, batch: pa.Table) -> Iterator[tuple[Voting, dict[int, int]]]:
        ballots: dict[str, dict[int, int]] = {}
        with self.guarded("CountLabels"):
            vectors, labels, clients = read_clients(batch)
            for client, cells in zip(clients, cells_of(self.open(), vectors, labels).tolist(), strict=True):
                ballot = ballots.setdefault(client, {})
                for cell in cells:
                    ballot[cell] = ballot.get(cell, 0) + 1
        yield from _keyed(ballots, "")


class _LabelFn(_StageFn):
    """Arrow batches -> (0, tally of records by bought cell)."""

    def process(self, batch: pa.Table) -> Iterator[tuple[int, Tally]]:
        with self.guarded("CountLabels"):
            run, (vectors, labels, _) = self.open(), read_batch(batch)
            counts = np.bincount(cells_of(run, vectors, labels).ravel(), minlength=cell_count(run))
        yield 0, ("", counts.astype(np.int64))


class MergeBallotsCombineFn(beam.CombineFn):
    """Adds sparse votes: {row: votes}. Integers, so any merge order gives the same."""

    def create_accumulator(self) -> dict[int, int]:  # noqa: D102
        return {}

    def add_input(self, total: dict[int, int], ballot: dict[int, int]) -> dict[int, int]:  # noqa: D102
        for row, votes in ballot.items():
            total[row] = total.get(row, 0) + votes
        return total

    def merge_accumulators(self, totals: Iterable[dict[int, int]]) -> dict[int, int]:  # noqa: D102
        merged: dict[int, int] = {}
        for total in totals:
            self.add_input(merged, total)
        return merged

    def extract_output(self, total: dict[int, int]) -> dict[int, int]:  # noqa: D102
        return total


class SumCountsCombineFn(beam.CombineFn):
    """Adds tallies over one candidate matrix; InputError over two."""

    def create_accumulator(self) -> Tally | None:  # noqa: D102
        return None

    def add_input(self, total: Tally | None, tally: Tally) -> Tally:  # noqa: D102
        return _added(total, tally)

    def merge_accumulators(self, totals: Iterable[Tally | None]) -> Tally | None:  # noqa: D102
        merged: Tally | None = None
        for total in totals:
            if total is not None:
                merged = _added(merged, total)
        return merged

    def extract_output(self, total: Tally | None) -> Tally | None:  # noqa: D102
        return total


class _ScaleClientsFn(_StageFn):
    """((matrix, client), all its votes) -> whole numbers of norm 2^b at most, summed within the bundle (rule 1)."""

    def start_bundle(self) -> None:
        self._tallies: dict[str, np.ndarray] = {}

    def process(self, keyed: tuple[Voting, dict[int, int]]) -> None:
        (matrix, _), votes_cast = keyed
        with self.guarded("ScaleClients"):
            if matrix not in self._tallies:
                self._tallies[matrix] = np.zeros(_width(self.open(), self._iteration), dtype=np.int64)
                self._bits = self.open().grid_bits(self._iteration)
            for row, votes in client_ballot(votes_cast, self._bits).items():
                self._tallies[matrix][row] += votes

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for tally in self._tallies.items():  # more than one is refused where they are summed
            yield WindowedValue((0, tally), MIN_TIMESTAMP, [GlobalWindow()])


def _width(run: Run, iteration: int) -> int:
    if iteration == 0:
        return cell_count(run)
    return run.candidate_count(iteration - 1)


class _CommitCountsFn(_StageFn):
    """Commits the exact counts once; what goes on is the same for the winner and for the loser."""

    def process(self, keyed: tuple[int, Tally]) -> Iterator[int]:
        matrix, counts = keyed[1]
        with self.guarded("CommitCounts"):
            steps.commit_counts(self.open(), self._iteration, counts, matrix)
        yield self._iteration


class _AddNoiseFn(_StageFn):
    def process(self, _: int) -> Iterator[int]:
        with self.guarded("AddNoise"):
            if self._iteration:
                steps.commit_histogram(self.open(), self._iteration)
            else:
                steps.commit_label_shares(self.open())
        yield self._iteration


class _SelectFn(_StageFn):
    def process(self, _: Any) -> Iterator[tuple[int, int]]:
        with self.guarded("Select"):
            rows = steps.commit_selection(self.open(), self._iteration)
            # No new row at all still has to reach the commit: an empty chunk carries the word on.
            ranges = steps.chunk_ranges(self.open(), rows) or [(0, 0)]
        yield from ranges


class _GenerateFn(_StageFn):
    def process(self, span: tuple[int, int]) -> Iterator[tuple[int, int]]:
        calls = 0
        began = time.monotonic()
        with self.guarded("Generate"):
            if span[1] > span[0]:
                calls = steps.generate_chunk(self.open(), self._iteration, *span)
        _GENERATOR_CALLS.inc(calls)
        if calls:
            _CHUNK_MILLISECONDS.update(int(1000 * (time.monotonic() - began)))
        yield 0, span[0]


class _CommitIterationFn(_StageFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("CommitIteration"):
            steps.commit_iteration(self.open(), self._iteration)
        yield self.open().public(self._iteration, "manifest.json")


class _IterationTransform(beam.PTransform):
    """A transform of one iteration of one run."""

    def __init__(self, run_dir: str, iteration: int) -> None:
        super().__init__()
        self._at = (run_dir, iteration)


class EmbedCandidates(_IterationTransform):
    """Start token -> names of the private shards, once the candidate matrix is committed: the barrier."""

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListCandidates" >> beam.ParDo(_ListCandidatesFn(*self._at))
            | "SpreadCandidates" >> beam.Reshuffle()
            | "EmbedCandidates" >> beam.ParDo(_EmbedCandidatesFn(*self._at))  # (0, first row)
            | "GatherCandidates" >> beam.GroupByKey()
            | "CommitMatrix" >> beam.ParDo(_CommitMatrixFn(*self._at))  # shard names
            | "SpreadShards" >> beam.Reshuffle()
        )


class Vote(_IterationTransform):
    """Shard names -> (0, tally of all candidates). The read and the search are one fused stage."""

    def __init__(self, run_dir: str, iteration: int, *, unit: str) -> None:
        super().__init__(run_dir, iteration)
        self._unit = unit

    def expand(self, shards: beam.PCollection) -> beam.PCollection:  # noqa: D102
        labels = self._at[1] == 0
        batches = shards | "ReadShards" >> beam.ParDo(_ReadShardFn(*self._at))  # Arrow table
        if self._unit == "client":
            count = _ClientLabelFn(*self._at) if labels else _ClientVoteFn(*self._at)
            partial = (
                batches
                | "VoteByClient" >> beam.ParDo(count)  # ((matrix, client), {row: votes})
                | "JoinClients" >> beam.CombinePerKey(MergeBallotsCombineFn())
                | "ScaleClients" >> beam.ParDo(_ScaleClientsFn(*self._at))  # (0, tally on the grid)
            )
        else:
            count = _LabelFn(*self._at) if labels else _VoteFn(*self._at)
            partial = batches | "Vote" >> beam.ParDo(count)  # (0, tally)
        return partial | "SumVotes" >> beam.CombinePerKey(SumCountsCombineFn())


class NoisyHistogram(_IterationTransform):
    """(0, tally) -> the iteration's number, once exact counts and their one noise are committed."""

    def expand(self, counts: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            counts
            | "CommitCounts" >> beam.ParDo(_CommitCountsFn(*self._at))
            | "AddNoise" >> beam.ParDo(_AddNoiseFn(*self._at))
        )


class Generate(_IterationTransform):
    """Row ranges of a selection -> the name of the committed manifest."""

    def expand(self, ranges: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            ranges
            | "SpreadChunks" >> beam.Reshuffle()
            | "Generate" >> beam.ParDo(_GenerateFn(*self._at))  # (0, first row)
            | "GatherChunks" >> beam.GroupByKey()
            | "CommitIteration" >> beam.ParDo(_CommitIterationFn(*self._at))
        )


class Iteration(_IterationTransform):
    """One iteration: start token -> name of the manifest of population t."""

    def __init__(self, run_dir: str, iteration: int, *, unit: str, hints: Hints | None = None) -> None:
        super().__init__(run_dir, iteration)
        self._unit = unit
        self._hints = hints or {}

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "Embed" >> EmbedCandidates(*self._at).with_resource_hints(**self._hints.get("embed", {}))
            | "Count" >> Vote(*self._at, unit=self._unit).with_resource_hints(**self._hints.get("vote", {}))
            | "Noise" >> NoisyHistogram(*self._at)
            | "Select" >> beam.ParDo(_SelectFn(*self._at))  # (first row, end row)
            | "Vary" >> Generate(*self._at).with_resource_hints(**self._hints.get("generate", {}))
        )


class _ListShardsFn(_StageFn):
    def process(self, _: Any) -> Iterator[str]:
        index = self.open().index() or {"shards": []}
        for shard in index["shards"]:
            yield shard["shard"]


class LabelShares(RunTransform):
    """Start token -> 0, once the bought label shares are noised and committed (iteration 0's spending)."""

    def __init__(self, run_dir: str, *, unit: str) -> None:
        super().__init__(run_dir)
        self._unit = unit

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return (
            start
            | "ListShards" >> beam.ParDo(_ListShardsFn(self._root, 0))
            | "SpreadShards" >> beam.Reshuffle()
            | "Count" >> Vote(self._root, 0, unit=self._unit)
            | "Noise" >> NoisyHistogram(self._root, 0)
        )


class RandomPopulation(RunTransform):
    """Start token -> name of the manifest of population 0, made from nothing."""

    def __init__(self, run_dir: str, *, hints: Hints | None = None) -> None:
        super().__init__(run_dir)
        self._hints = hints or {}

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        generate = Generate(self._root, 0).with_resource_hints(**self._hints.get("generate", {}))
        return start | "Plan" >> beam.ParDo(_SelectFn(self._root, 0)) | "Random" >> generate
