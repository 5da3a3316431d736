"""The query of an iteration on private data: the bins of a histogram, and the bins in which a record counts.

Iterations 1 to T count votes on candidates. Iteration 0, if the recipe pays for it, counts records by label, or by
label and bin of each column. Several initial measurements are iterations up to 0, below 0 the earlier ones. Ledger,
counts and noise treat all in the same way. The differences are here.
"""

from __future__ import annotations

import abc
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pe_beam.contracts.votes import Ballots
from pe_beam.engine import measuring, tables
from pe_beam.engine.cells import CliqueCells
from pe_beam.engine.indexes import load_voter
from pe_beam.engine.manifests import read_manifest
from pe_beam.engine.measurements import (
    MEASURED,
    MEASURED_WORK,
    Cells,
    measured_cells,
    read_measurements,
    scales_of,
)
from pe_beam.engine.populations import HISTOGRAM, HISTOGRAM_WORK, read_histogram, read_population
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError
from pe_beam.kept import kept
from pe_beam.recipe.bounds import measurement_sensitivity


class Cost(NamedTuple):
    """What a query spends by the plan: sigma and sensitivity in votes, and sigma / sensitivity."""

    sigma: float
    sensitivity: float
    noise_multiplier: float


class Query(abc.ABC):
    """The query of one iteration of a run.

    Attributes:
      released: file name of its noisy answer in the release, relative to the folder of the population that it is for.
      work: file name of the answer in `work/`, where it is committed first.
    """

    released: str
    work: str

    def __init__(self, run: Run, iteration: int) -> None:
        """Takes an iteration that has a query."""
        self._run, self._iteration = run, iteration

    @abc.abstractmethod
    def cost(self) -> Cost:
        """Returns the cost by the plan. The driver calls it."""

    @abc.abstractmethod
    def bins(self) -> pa.Table:
        """Returns all declared bins in order: columns `candidate_id` (int64) and `label`."""

    @abc.abstractmethod
    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """Returns the block of the noise for each bin, given the labels of the bins: int32 (m,)."""

    @abc.abstractmethod
    def ballots(self) -> Ballots:
        """Returns the ballots, which tell the bins in which a record counts; one per process."""

    @abc.abstractmethod
    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """Returns the table to release and its schema, from committed counts and noisy votes, float64 (m,)."""

    @abc.abstractmethod
    def read(self) -> pa.Table:
        """Returns the noisy answer."""

    def prepare(self) -> None:  # noqa: B027
        """Fixes the bins, before records are read. A worker calls it."""

    def files(self) -> dict[str, str]:
        """Returns the names of its files in the release, as `released`, and of the same files in `work/`."""
        return {self.released: self._run.layout.work(self._iteration, self.work)}

    def traces(self) -> list[str]:
        """Returns the files that exist only if the query was answered."""
        return [
            self._run.layout.work(self._iteration, self.work),
            self._run.layout.public(max(self._iteration, 0), self.released),
        ]


class VoteQuery(Query):
    """Counts the votes on each candidate of population t-1. Bins are candidates."""

    released, work = HISTOGRAM, HISTOGRAM_WORK

    def cost(self) -> Cost:
        """See `Query`. Raises InputError if the recipe has no such iteration."""
        schedule = self._run.plan.schedule
        if self._iteration > len(schedule.sigmas):
            raise _not_planned(self._iteration)
        place = self._iteration - 1
        return Cost(schedule.sigmas[place], schedule.sensitivity, schedule.noise_multipliers[place])

    def bins(self) -> pa.Table:
        """See `Query`."""
        return read_population(self._run, self._iteration - 1, ["candidate_id", "label"])

    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """See `Query`. There is one block per label."""
        return self._run.recipe.codes(labels)

    def ballots(self) -> Ballots:
        """See `Query`."""
        return load_voter(self._run, self._iteration)

    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """See `Query`."""
        columns = [counts["candidate_id"], counts["label"], pa.array(noisy, pa.float64())]
        return pa.table(columns, schema=tables.HISTOGRAM), tables.HISTOGRAM

    def read(self) -> pa.Table:
        """See `Query`."""
        return read_histogram(self._run, self._iteration)


class Measurement(Query):
    """Counts the records in cells: an initial measurement."""

    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """See `Query`. All bins are in one block."""
        return np.zeros(len(labels), dtype=np.int32)

    @abc.abstractmethod
    def ballots(self) -> CliqueCells:
        """See `Query`. They also count a shard at a time, by its bins."""


class CellQuery(Measurement):
    """Counts the records in each cell: a label, or a bin of a column by label."""

    released, work = MEASURED, MEASURED_WORK

    def cost(self) -> Cost:
        """See `Query`. Raises InputError if the recipe measures nothing."""
        schedule = self._run.plan.schedule
        if schedule.label_sigma is None or schedule.label_noise_multiplier is None:
            raise _not_planned(self._iteration)
        return Cost(schedule.label_sigma, measurement_sensitivity(self._run.recipe), schedule.label_noise_multiplier)

    def bins(self) -> pa.Table:
        """See `Query`."""
        labels = measured_cells(self._run)["label"]
        return pa.table({"candidate_id": pa.array(range(len(labels)), pa.int64()), "label": labels})

    def ballots(self) -> CliqueCells:
        """See `Query`."""
        return _cells(self._run.root, self._run.run_id)

    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """See `Query`."""
        cells, told = measured_cells(self._run), self._run.recipe.privacy.marginals
        by_column = tables.MARGINALS if told is None or told.pairs is None else tables.MARGINALS_AND_PAIRS
        schema = tables.LABELS if told is None else by_column
        return cells.append_column("noisy_count", pa.array(noisy / scales_of(self._run), pa.float64())), schema

    def read(self) -> pa.Table:
        """See `Query`."""
        return read_measurements(self._run)


class StepQuery(Measurement):
    """Counts the records in the cells of a step of `privacy.measure`."""

    work = measuring.COUNTED

    def __init__(self, run: Run, iteration: int) -> None:
        """Takes a step. Raises InputError if the recipe has no such step."""
        super().__init__(run, iteration)
        if iteration not in measuring.steps_of(run):
            raise _not_planned(iteration)
        self.released = measuring.released_name(run, iteration, "parquet")

    def cost(self) -> Cost:
        """See `Query`."""
        place = list(measuring.steps_of(self._run)).index(self._iteration)
        planned = self._run.plan.measurements[place]
        return Cost(planned.sigma, planned.sensitivity, planned.noise_multiplier)

    def prepare(self) -> None:
        """See `Query`."""
        measuring.commit_asked(self._run, self._iteration)

    def bins(self) -> pa.Table:
        """See `Query`."""
        labels = measuring.cell_labels(self._run, self._iteration)
        return pa.table(
            {"candidate_id": pa.array(range(len(labels)), pa.int64()), "label": pa.array(labels, pa.string())}
        )

    def ballots(self) -> CliqueCells:
        """See `Query`."""
        digest = measuring.asked_digest(self._run, self._iteration)
        return _step_cells(self._run.root, self._iteration, self._run.run_id, digest)

    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """See `Query`."""
        return measuring.counted_table(self._run, self._iteration, noisy), tables.COUNTED

    def files(self) -> dict[str, str]:
        """See `Query`. What was counted is released beside the counts."""
        said = measuring.released_name(self._run, self._iteration, "json")
        return {said: self._run.layout.work(self._iteration, measuring.ASKED)} | super().files()

    def read(self) -> pa.Table:
        """See `Query`."""
        return tables.read_bytes(self._run.store.read(measuring.file_of(self._run, self._iteration, self.work)))


def query_of(run: Run, iteration: int) -> Query:
    """Returns the query of an iteration."""
    return VoteQuery(run, iteration) if iteration > 0 else measurement_of(run, iteration)


def measurement_of(run: Run, iteration: int) -> Measurement:
    """Returns the query of an iteration that is 0 or below."""
    several = run.recipe.privacy.measure is not None or iteration < 0
    return StepQuery(run, iteration) if several else CellQuery(run, iteration)


def first_query(run: Run) -> int:
    """Returns the number of the first query: 0 or below if the recipe pays for initial measurements, else 1."""
    if run.recipe.privacy.measure is not None:
        return min(measuring.steps_of(run))
    return 0 if run.recipe.privacy.label_budget() else 1


def is_made(run: Run, iteration: int) -> bool:
    """Returns whether an iteration is there: its manifest, or below 0 its measurement."""
    return measuring.is_counted(run, iteration) if iteration < 0 else read_manifest(run, iteration) is not None


def job_label(run: Run, iteration: int) -> str:
    """Returns the label of the job of an iteration. Runners name and find jobs by it."""
    if iteration >= 0:
        return f"Iteration {iteration:02d}"
    return f"Measurement {iteration - first_query(run) + 1:02d}"


def spending_iterations(run: Run) -> list[int]:
    """Returns the iterations with a query: 1 to T, and from `first_query` on initial measurements."""
    return list(range(first_query(run), run.recipe.evolution.iterations + 1))


def _not_planned(iteration: int) -> InputError:
    return InputError(f"ledger.jsonl: a line for iteration {iteration}, which the recipe does not have")


@kept(maxsize=2)
def _step_cells(root: str, iteration: int, run_id: str, digest: str) -> measuring.StepCells:
    """Returns the cells of a step. Run id and digest are part of the cache key, as in `_cells`."""
    return measuring.StepCells(open_run(root), iteration)


@kept(maxsize=2)
def _cells(root: str, run_id: str) -> Cells:
    """Returns the cells. The run id is part of the cache key: another run may start in a directory of the same name."""
    return Cells(open_run(root))
