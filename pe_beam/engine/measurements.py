"""The initial measurement of iteration 0: label shares, or one-way marginals by label and maybe pairs of columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Generator, Marginals
from pe_beam.engine import tables
from pe_beam.engine.cells import CliqueCells
from pe_beam.engine.estimating import read_estimated
from pe_beam.engine.measuring import COUNTED, file_of
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.spending import sigma_of
from pe_beam.kept import kept
from pe_beam.measuring.cliques import Clique
from pe_beam.measuring.known import one_way
from pe_beam.recipe.measured import measured

MEASURED = "labels/part-00000.parquet"
MEASURED_WORK = "labels.parquet"


def measured_cells(run: Run) -> pa.Table:
    """Returns the cells that iteration 0 counts, in order.

    Columns: `label`; for marginals also `column` and `bin`; with pairs of columns also `other` and `other_bin`, which
    are null in one-way cells, as `label` is in cells of pairs.
    """
    labels = run.recipe.label_list
    if not run.recipe.privacy.marginals:
        return pa.table({"label": pa.array(labels, pa.string())})
    rows: list[tuple[Any, ...]] = [
        (label, column, place, None, None)
        for column, size in run.embedder.marginal_sizes().items()
        for label in labels
        for place in range(size)
    ]
    sizes = _group_sizes(run)
    rows += [
        (None, a, group, b, other) for a, b in _pairs(sizes) for group in range(sizes[a]) for other in range(sizes[b])
    ]
    names, columns, places, others, other_places = zip(*rows, strict=True)
    found = {"label": pa.array(names, pa.string()), "column": columns, "bin": pa.array(places, pa.int64())}
    if sizes:
        found |= {"other": pa.array(others, pa.string()), "other_bin": pa.array(other_places, pa.int64())}
    return pa.table(found)


def _group_sizes(run: Run) -> dict[str, int]:
    """Returns column -> number of groups in the counts of pairs; empty if pairs are not counted."""
    return {name: int(own.max()) + 1 for name, own in _groups(run).items()}


def _groups(run: Run) -> dict[str, np.ndarray]:
    """Returns column -> the group of each bin, as `Embedder.marginal_groups`; empty if pairs are not counted."""
    told = run.recipe.privacy.marginals
    return {} if told is None or told.pairs is None else run.embedder.marginal_groups(told.pairs)


def _pairs(columns: Iterable[str]) -> list[tuple[str, str]]:
    return list(itertools.combinations(columns, 2))


def weight_of(run: Run) -> int:
    """Returns how often a record's part counts in its one-way cells (`Measured.weight`)."""
    if not run.recipe.privacy.marginals:
        return 1
    return measured(run.recipe, run.embedder).weight


def scales_of(run: Run) -> np.ndarray:
    """Returns how often a record counts in each kind of cell in all, float64 (cells,): counts are divided by it."""
    scales = np.ones(cell_count(run))
    if run.recipe.privacy.marginals:
        scales *= run.embedder.marginal_parts
        scales[: one_way_count(run)] *= weight_of(run)
    return scales


def one_way_count(run: Run) -> int:
    """Returns the number of one-way cells, which come first."""
    if not run.recipe.privacy.marginals:
        return run.recipe.label_count
    return run.recipe.label_count * sum(run.embedder.marginal_sizes().values())


def cell_count(run: Run) -> int:
    """Returns the number of cells that iteration 0 counts."""
    sizes = _group_sizes(run)
    return one_way_count(run) + sum(sizes[a] * sizes[b] for a, b in _pairs(sizes))


def _cliques(run: Run) -> list[Clique]:
    """Returns what iteration 0 counts: labels, or each column by label and then pairs of columns, over all labels."""
    if not run.recipe.privacy.marginals:
        return [Clique((), (), True)]
    sizes = run.embedder.marginal_sizes().values()
    groups = enumerate(_groups(run).values())
    pairs = [Clique((a, b), (of_a, of_b), False) for (a, of_a), (b, of_b) in itertools.combinations(groups, 2)]
    return one_way(list(sizes), [weight_of(run)] * len(sizes)) + pairs


class Cells(CliqueCells):
    """The cells in which a record counts in iteration 0, as `Ballots`: its label, or the cells of its columns."""

    def __init__(self, run: Run) -> None:
        """Takes a run that measures label shares or marginals."""
        recipe, marginals = run.recipe, run.recipe.privacy.marginals
        embedder = run.embedder if marginals else None
        votes = measured(recipe, run.embedder).norm_squared if marginals else 1
        super().__init__(embedder, _cliques(run), recipe.label_count, digest="", votes_per_record=votes)

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Ballots`."""
        if self._embedder is None or not self._embedder.counts_several:
            return super().ballots(vectors, labels)
        rows, columns, bins = self._embedder.marginal_ballots(vectors)
        sizes = np.array(list(self._embedder.marginal_sizes().values()))
        return rows, self._counter.starts[columns] + labels.astype(np.int64)[rows] * sizes[columns] + bins


def read_measurements(run: Run) -> pa.Table:
    """Returns the noisy measurement. It is read from the release if `work/` has lost it."""
    return tables.read_bytes(run.store.read(_where(run)))


def _where(run: Run) -> str:
    own = run.layout.work(0, MEASURED_WORK)
    return own if run.store.exists(own) else run.layout.public(0, MEASURED)


def read_marginals(run: Run) -> Marginals:
    """Returns the measured marginals of a run that measures them."""
    if run.recipe.privacy.measure:
        return _estimated(run.root, _version(run))
    noisy = read_measurements(run)["noisy_count"].to_numpy()
    counts, start, labels = {}, 0, run.recipe.label_count
    for column, size in run.embedder.marginal_sizes().items():
        counts[column] = noisy[start : start + labels * size].reshape(labels, size)
        start += labels * size
    sigma, sizes, pairs = sigma_of(run, 0), _group_sizes(run), {}
    for a, b in _pairs(sizes):
        pairs[a, b] = noisy[start : start + sizes[a] * sizes[b]].reshape(sizes[a], sizes[b])
        start += sizes[a] * sizes[b]
    several, sigma = run.embedder.counts_several, sigma / run.embedder.marginal_parts
    return Marginals(run.recipe.label_list, counts, sigma / weight_of(run), _groups(run), pairs, sigma, several=several)


def generator(run: Run) -> Generator:
    """Returns the run's generator. With measured marginals it draws by them."""
    return _seeded(run.root, _version(run)) if run.recipe.privacy.counts_columns else run.generator


def _version(run: Run) -> str:
    """Returns the version of the last measurement's file. It is part of the keys of caches, because another run may
    start in a directory of the same name."""
    return run.store.version(file_of(run, 0, COUNTED) if run.recipe.privacy.measure else _where(run))


@kept(maxsize=2)
def _estimated(root: str, version: str) -> Marginals:
    return read_estimated(open_run(root))


@kept(maxsize=2)
def _seeded(root: str, version: str) -> Generator:
    run = open_run(root)
    return run.generator.seeded(read_marginals(run))
