"""Balances the last selection by what was measured (`evolution.draws: balanced`).

A draw by weights has its chance, and so has the population that it is from. Of draws by the same weights one is taken
whose one-way marginals by label, and whose pairs and cliques of columns, lie where the release has them, give or take a
standard deviation of their noise; estimates of columns are followed as they are. All of it is post-processing of the
release.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pe_beam.contracts.generator import Marginals
from pe_beam.engine.manifests import candidate_count
from pe_beam.engine.matrices import embed_rows
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.populations import chunk_ranges, population_rows
from pe_beam.engine.run import Run
from pe_beam.keyed import keyed_rng
from pe_beam.measuring.cliques import Clique
from pe_beam.measuring.known import Answer
from pe_beam.measuring.shares import shares_of
from pe_beam.selection.balance import Wanted, balance


def balances(run: Run, iteration: int) -> bool:
    """Returns whether the selection of this iteration is balanced: the last one, if the recipe wants it."""
    return run.recipe.evolution.draws == "balanced" and iteration == run.recipe.evolution.iterations


def balanced_draws(
    run: Run, iteration: int, codes: np.ndarray, draws: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the draws of a selection when it is balanced, int64 (m,), and a note for the manifest.

    Args:
      run: a run that has the population.
      iteration: the last one.
      codes: int64 (m,), the label of each candidate.
      draws: int64 (m,), how often each candidate is drawn by its weight.
      expected: float64 (m,), its weight, as an expected number of draws.
    """
    quotas = np.bincount(codes, draws, minlength=run.recipe.label_count)
    rng = keyed_rng(run.recipe.seed, iteration, -1, "balance")
    found = balance(draws, expected, codes, _wanted(run, _bins(run, iteration - 1), codes, quotas), rng)
    note = {"replaced": found.replaced, "beyond_noise": [round(found.before, 6), round(found.after, 6)]}
    return found.draws, note


def _bins(run: Run, iteration: int) -> np.ndarray:
    """Returns the bins of the candidates of a population, int64 (m, columns)."""
    spans = chunk_ranges(run, candidate_count(run, iteration))
    chunks = (population_rows(run, iteration, np.arange(start, stop)) for start, stop in spans)
    return np.concatenate([run.embedder.marginal_bins(embed_rows(run, chunk)) for chunk in chunks])


def _wanted(run: Run, bins: np.ndarray, codes: np.ndarray, quotas: np.ndarray) -> Wanted:
    """Returns where the counts of so many rows of each label are wanted: as estimated, or as measured within noise.

    Counts of a table are brought to shares of 0 or more, of each label or of all rows.
    """
    cells, low, high, first = [], [], [], 0
    marginals = read_marginals(run)
    totals = marginals.totals()
    for each in _answers(marginals):
        rows, records = (of if each.clique.by_label else of.sum(keepdims=True) for of in (quotas, totals))
        cells.append(first + each.clique.cells(bins, codes))
        first += each.counts.size
        for counts, place, total in zip(each.counts, rows.tolist(), records.tolist(), strict=True):
            middle, noise = shares_of(counts.ravel(), total) * place, each.sigma * place / max(total, 1.0)
            low.append(middle - noise)
            high.append(middle + noise)
    return Wanted(np.stack(cells, axis=1), np.concatenate(low), np.concatenate(high))


def _answers(marginals: Marginals) -> Iterator[Answer]:
    """Yields what was measured, a table each: columns by label, pairs of columns, and joints."""
    places = {name: place for place, name in enumerate(marginals.counts)}
    for name, counts in marginals.counts.items():
        sigma = 0.0 if marginals.estimated else marginals.sigma  # rows drawn by estimates are off by chance alone
        yield Answer(Clique((places[name],), (np.arange(counts.shape[1]),), True), counts, sigma)
    for (a, b), counts in marginals.pairs.items():
        groups = (marginals.groups[a], marginals.groups[b])
        yield Answer(Clique((places[a], places[b]), groups, False), counts[None], marginals.pair_sigma)
    for joint in marginals.joints:
        by_label = len(joint.counts) == len(marginals.labels)
        columns = tuple(places[name] for name in joint.columns)
        yield Answer(Clique(columns, joint.groups, by_label), joint.counts, joint.sigma)
