"""The initial measurement of iteration 0: label shares, or one-way marginals by label and maybe pairs of columns."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Generator, Marginals
from pe_beam.engine import tables
from pe_beam.engine.measuring import COUNTED, file_of, read_measured
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.spending import sigma_of
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


def cells_of(run: Run, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the cells in which each record of a batch counts: int64 (n, cells).

    One per column (or its label), each as often as `weight_of` says, then one per pair of columns; and so for each of
    its parts.
    """
    if not run.recipe.privacy.marginals:
        return labels.astype(np.int64)[:, None]
    sizes = np.array(list(run.embedder.marginal_sizes().values()))
    starts = _starts(sizes, run.recipe.label_count)
    bins = run.embedder.marginal_bins(vectors)
    own_labels = np.repeat(labels.astype(np.int64), run.embedder.marginal_parts)
    one_way: np.ndarray = starts + own_labels[:, None] * sizes + bins
    if run.recipe.privacy.marginals.pairs is None:
        return one_way.reshape(len(labels), -1)
    groups = _groups(run)
    own = [each[bins[:, place]] for place, each in enumerate(groups.values())]
    widths = [int(each.max()) + 1 for each in groups.values()]
    found, start = [one_way] * weight_of(run), one_way_count(run)
    for a, b in itertools.combinations(range(len(own)), 2):
        found.append((start + own[a] * widths[b] + own[b])[:, None])
        start += widths[a] * widths[b]
    return np.hstack(found).reshape(len(labels), -1)


def _starts(sizes: np.ndarray, labels: int) -> np.ndarray:
    """Returns the first cell of each column, int64 (columns,)."""
    found: np.ndarray = np.concatenate([[0], np.cumsum(sizes[:-1])]) * labels
    return found


class Cells:
    """The cells in which a record counts in iteration 0, as `Ballots`: its label, or the cells of its columns."""

    digest = ""

    def __init__(self, run: Run) -> None:
        """Takes a run that measures label shares or marginals."""
        self._run = run
        self.width = cell_count(run)
        marginals = run.recipe.privacy.marginals
        self.votes_per_record = measured(run.recipe, run.embedder).norm_squared if marginals else 1

    def ballots(self, vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Ballots`."""
        embedder = self._run.embedder
        if self._run.recipe.privacy.marginals and embedder.counts_several:
            rows, columns, bins = embedder.marginal_ballots(vectors)
            sizes = np.array(list(embedder.marginal_sizes().values()))
            starts = _starts(sizes, self._run.recipe.label_count)
            return rows, starts[columns] + labels.astype(np.int64)[rows] * sizes[columns] + bins
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
    if run.recipe.privacy.measure:
        return read_measured(run)
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
    privacy = run.recipe.privacy
    if not privacy.counts_columns:
        return run.generator
    return _seeded(run.root, run.store.version(file_of(run, 0, COUNTED) if privacy.measure else _where(run)))


@functools.lru_cache(maxsize=2)
def _seeded(root: str, version: str) -> Generator:
    """Returns the seeded generator. The version of the measurement's file is part of the cache key, because another
    run may start in a directory of the same name."""
    run = open_run(root)
    return run.generator.seeded(read_marginals(run))
