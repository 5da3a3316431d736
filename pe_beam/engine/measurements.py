"""The initial measurement of iteration 0, if the recipe has one: label shares, or one-way marginals by label."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Generator, Marginals
from pe_beam.engine import tables
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.spending import sigma_of

MEASURED = "labels/part-00000.parquet"
MEASURED_WORK = "labels.parquet"


def measured_cells(run: Run) -> pa.Table:
    """Returns the cells that iteration 0 counts, in order: columns `label` and, for marginals, `column` and `bin`."""
    labels = run.recipe.label_list
    if not run.recipe.privacy.marginals:
        return pa.table({"label": pa.array(labels, pa.string())})
    rows = [
        (label, column, place)
        for column, size in run.embedder.marginal_sizes().items()
        for label in labels
        for place in range(size)
    ]
    names, columns, places = zip(*rows, strict=True)
    return pa.table({"label": pa.array(names, pa.string()), "column": columns, "bin": pa.array(places, pa.int64())})


def cell_count(run: Run) -> int:
    """Returns the number of cells that iteration 0 counts."""
    if not run.recipe.privacy.marginals:
        return run.recipe.label_count
    return run.recipe.label_count * sum(run.embedder.marginal_sizes().values())


def cells_of(run: Run, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cells in which each record of a batch counts, one per column (or its label): int64 (n, columns)."""
    if not run.recipe.privacy.marginals:
        return labels.astype(np.int64)[:, None]
    sizes = np.array(list(run.embedder.marginal_sizes().values()))
    starts = np.concatenate([[0], np.cumsum(sizes[:-1])]) * run.recipe.label_count
    return starts + labels.astype(np.int64)[:, None] * sizes + run.embedder.marginal_bins(vectors)


class Cells:
    """The cells in which a record counts in iteration 0, as `Ballots`: its label, or one bin of each column."""

    digest = ""

    def __init__(self, run: Run) -> None:
        """Takes a run that measures label shares or marginals."""
        self._run = run
        self.width = cell_count(run)
        self.votes_per_record = len(run.embedder.marginal_sizes()) if run.recipe.privacy.marginals else 1

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Ballots`."""
        cells = cells_of(self._run, vectors, labels)
        return np.repeat(np.arange(len(cells)), cells.shape[1]), cells.ravel()


def read_measurements(run: Run) -> pa.Table:
    """Returns the noisy measurement. It is read from the release if `work/` has lost it."""
    return tables.read_bytes(run.store.read(_where(run)))


def _where(run: Run) -> str:
    own = run.layout.work(0, MEASURED_WORK)
    return own if run.store.exists(own) else run.layout.public(0, MEASURED)


def read_marginals(run: Run) -> Marginals:
    """Returns the measured marginals of a run that measures them."""
    noisy = read_measurements(run)["noisy_count"].to_numpy()
    counts, start, labels = {}, 0, run.recipe.label_count
    for column, size in run.embedder.marginal_sizes().items():
        counts[column] = noisy[start : start + labels * size].reshape(labels, size)
        start += labels * size
    return Marginals(run.recipe.label_list, counts, sigma_of(run, 0))


def generator(run: Run) -> Generator:
    """Returns the run's generator. With measured marginals it draws by them."""
    if not run.recipe.privacy.marginals:
        return run.generator
    return _seeded(run.root, run.store.version(_where(run)))


@functools.lru_cache(maxsize=2)
def _seeded(root: str, version: str) -> Generator:
    """Returns the seeded generator. The version of the measurement's file is part of the cache key, because another
    run may start in a directory of the same name."""
    run = open_run(root)
    return run.generator.seeded(read_marginals(run))
