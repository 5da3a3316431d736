"""Handles that bind the public transforms to a run. They name its directory, and each worker opens the run itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pe_beam.contracts.mechanism import Mechanism
from pe_beam.contracts.steps import GenerateHandle, SelectHandle
from pe_beam.contracts.store import Store
from pe_beam.contracts.votes import BallotHandle, Ballots, Tally
from pe_beam.engine import counting, steps
from pe_beam.engine.queries import query_of
from pe_beam.engine.run import open_run
from pe_beam.engine.spending import grid_bits
from pe_beam.errors import StageError
from pe_beam.voting.threads import limit_threads


@dataclass(frozen=True)
class RunBallots(BallotHandle):
    """What private records vote on in an iteration: candidates, or in iteration 0 the cells of the measurement."""

    root: str
    iteration: int

    def load(self) -> Ballots:
        """See `BallotHandle`."""
        run = open_run(self.root)
        limit_threads(run.recipe.execution.blas_threads)
        return query_of(run, self.iteration).ballots()


@dataclass(frozen=True)
class RunMechanism(Mechanism):
    """The noise of an iteration, for which the run's ledger pays."""

    root: str
    iteration: int

    def grid_bits(self) -> int:
        """See `Grid`."""
        return grid_bits(open_run(self.root), self.iteration)

    def commit_counts(self, store: Store, tally: Tally) -> None:
        """See `Mechanism`."""
        run = open_run(self.root)
        if (tally.unit, tally.grid_bits) != (run.recipe.vote_unit, grid_bits(run, self.iteration)):
            raise StageError("CommitCounts: votes were counted by another unit or on another grid than noise is for")
        counting.commit_counts(run, self.iteration, tally.counts, tally.digest)

    def noisy(self, store: Store) -> pa.Table:
        """See `Mechanism`."""
        run = open_run(self.root)
        counting.commit_histogram(run, self.iteration)
        return query_of(run, self.iteration).read()


@dataclass(frozen=True)
class RunSelection(SelectHandle):
    """The selection of an iteration, committed once."""

    root: str
    iteration: int

    def select(self, histogram: pa.Table) -> Iterator[pa.RecordBatch]:
        """See `SelectHandle`. It reads the committed histogram, which equals `histogram`."""
        run = open_run(self.root)
        steps.commit_selection(run, self.iteration)
        yield from steps.new_chunks(run, self.iteration)


@dataclass(frozen=True)
class RunGeneration(GenerateHandle):
    """The new candidates of an iteration, committed chunk by chunk."""

    root: str
    iteration: int

    def generate(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See `GenerateHandle`. Returns a receipt: the ids that were made now; none if they existed already."""
        made = steps.generate_chunk(open_run(self.root), self.iteration, pa.Table.from_batches([rows]))
        return rows.select(["candidate_id"]).slice(0, made)
