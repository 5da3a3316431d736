"""What private data are asked in an iteration: the bins of a histogram, and which of them a record counts in.

Iterations 1 to T ask for votes on candidates. Iteration 0, where the recipe pays for it, counts records by label, or by
label and bin of each column. Ledger, counts and noise treat both alike; what differs is here.
"""

from __future__ import annotations

import abc
import functools
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa

from pe_beam.contracts.votes import Ballots
from pe_beam.engine import tables
from pe_beam.engine.matrices import load_voter
from pe_beam.engine.measurements import MEASURED, MEASURED_WORK, Cells, measured_cells, read_measurements
from pe_beam.engine.populations import HISTOGRAM, HISTOGRAM_WORK, read_histogram, read_population
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError
from pe_beam.recipe.plan import measurement_sensitivity


class Cost(NamedTuple):
    """What a query spends by the plan: sigma and sensitivity in votes, and the one over the other."""

    sigma: float
    sensitivity: float
    noise_multiplier: float


class Query(abc.ABC):
    """What is asked in one iteration of a run.

    Attributes:
      released: where its noisy answer is released, below the iteration's folder.
      work: where it is committed first.
    """

    released: ClassVar[str]
    work: ClassVar[str]

    def __init__(self, run: Run, iteration: int) -> None:
        """Takes an iteration that asks something."""
        self._run, self._iteration = run, iteration

    @abc.abstractmethod
    def cost(self) -> Cost:
        """By the plan: for the driver."""

    @abc.abstractmethod
    def bins(self) -> pa.Table:
        """Columns `candidate_id` (int64) and `label`: the bins in order, all that are declared."""

    @abc.abstractmethod
    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """Which block of the noise each bin, given by its label, takes its place in: int32 (m,)."""

    @abc.abstractmethod
    def ballots(self) -> Ballots:
        """Who counts in which bin; one a process."""

    @abc.abstractmethod
    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """Committed counts and their noisy values, float64 (m,) in votes -> the table to release and its schema."""

    @abc.abstractmethod
    def read(self) -> pa.Table:
        """The noisy answer."""

    def traces(self) -> list[str]:
        """Files that show that it was answered."""
        return [
            self._run.layout.work(self._iteration, self.work),
            self._run.layout.public(self._iteration, self.released),
        ]


class VoteQuery(Query):
    """Which candidate of population t-1 is nearest? Bins are candidates."""

    released, work = HISTOGRAM, HISTOGRAM_WORK

    def cost(self) -> Cost:
        """See `Query`; InputError where the recipe has no such iteration."""
        schedule = self._run.plan.schedule
        if self._iteration > len(schedule.sigmas):
            raise _not_planned(self._iteration)
        place = self._iteration - 1
        return Cost(schedule.sigmas[place], schedule.sensitivity, schedule.noise_multipliers[place])

    def bins(self) -> pa.Table:
        """See `Query`."""
        return read_population(self._run, self._iteration - 1, ["candidate_id", "label"])

    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """See `Query`: one a label."""
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


class CellQuery(Query):
    """How many records are in each cell: a label, or a bin of a column by label."""

    released, work = MEASURED, MEASURED_WORK

    def cost(self) -> Cost:
        """See `Query`; InputError where the recipe measures nothing."""
        schedule = self._run.plan.schedule
        if schedule.label_sigma is None or schedule.label_noise_multiplier is None:
            raise _not_planned(self._iteration)
        return Cost(schedule.label_sigma, measurement_sensitivity(self._run.recipe), schedule.label_noise_multiplier)

    def bins(self) -> pa.Table:
        """See `Query`."""
        labels = measured_cells(self._run)["label"]
        return pa.table({"candidate_id": pa.array(range(len(labels)), pa.int64()), "label": labels})

    def blocks(self, labels: list[str | None]) -> np.ndarray:
        """See `Query`: all are in one."""
        return np.zeros(len(labels), dtype=np.int32)

    def ballots(self) -> Ballots:
        """See `Query`."""
        return _cells(self._run.root, self._run.run_id)

    def answer(self, counts: pa.Table, noisy: np.ndarray) -> tuple[pa.Table, pa.Schema]:
        """See `Query`."""
        schema = tables.MARGINALS if self._run.recipe.privacy.marginals else tables.LABELS
        return measured_cells(self._run).append_column("noisy_count", pa.array(noisy, pa.float64())), schema

    def read(self) -> pa.Table:
        """See `Query`."""
        return read_measurements(self._run)


def query_of(run: Run, iteration: int) -> Query:
    """What an iteration asks."""
    return VoteQuery(run, iteration) if iteration else CellQuery(run, iteration)


def spending_iterations(run: Run) -> list[int]:
    """The iterations that ask something: 1 to T, and 0 where the recipe pays for a measurement."""
    return list(range(0 if run.recipe.privacy.label_budget() else 1, run.recipe.evolution.iterations + 1))


def _not_planned(iteration: int) -> InputError:
    return InputError(f"ledger.jsonl: a line for iteration {iteration}, which the recipe does not have")


@functools.lru_cache(maxsize=2)
def _cells(root: str, run_id: str) -> Cells:
    """Cached by the run: another one may begin in a directory of the same name."""
    return Cells(open_run(root))
