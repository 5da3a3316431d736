"""Are samples closer to the records that voted than records that did not vote are? Nearest training record of each."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Nearest = tuple[np.ndarray, np.ndarray]
"""Squared distance, float64 (n,), and row of the nearest training record, int64 (n,); infinity and -1 for none yet."""


def nothing_near(rows: int) -> Nearest:
    """Before any training record was looked at."""
    return np.full(rows, np.inf), np.full(rows, -1, dtype=np.int64)


def nearest_in(queries: np.ndarray, records: np.ndarray, first: int) -> Nearest:
    """The nearest of some training records, exactly, as DESIGN's rule 8 has it.

    Args:
      queries: float32 (n, d).
      records: float32 (m, d), m at least 1.
      first: the row of the first of them among all training records.
    """
    from pe_beam.voting.nearest import flat_search

    found = flat_search(records, distance="l2", votes=1).nearest(queries)[:, 0]
    difference = queries.astype(np.float64) - records[found]
    return np.einsum("ij,ij->i", difference, difference), found + first


def nearer(a: Nearest, b: Nearest) -> Nearest:
    """The nearer of both for each query; equals go to the smaller row. Any order of merging gives the same."""
    second = (b[0] < a[0]) | ((b[0] == a[0]) & (b[1] >= 0) & ((a[1] < 0) | (b[1] < a[1])))
    return np.where(second, b[0], a[0]), np.where(second, b[1], a[1])


def memorisation(samples: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Compares distances of samples to their nearest training records with those of held-out records.

    Args:
      samples: squared distances, float64 (n,), n at least 1.
      held_out: squared distances of records that had no part in the run, float64 (m,), m at least 1.

    Returns:
      quantiles: of distances, a list of [share, samples, held-out].
      exact_duplicates, held_out_exact_duplicates: how many lie at distance 0.
      share_closer_than_1_percent (and _5_percent): of the samples, those that are closer than all but that share of
        held-out records; about 0.01 (0.05) where samples are drawn like held-out records, less where they are farther.
      probability_closer: that a random sample is closer than a random held-out record, ties by half (Mann-Whitney U
        over n m); 0.5 where they are alike.
      p_value: of the one-sided Mann-Whitney test that samples are closer than held-out records.
    """
    from scipy.stats import mannwhitneyu

    made, real = np.sqrt(samples), np.sqrt(held_out)
    test = mannwhitneyu(made, real, alternative="less", method="asymptotic")
    alike = bool(np.ptp(np.concatenate([made, real])) == 0)  # the test divides by zero there
    limits = {share: float(np.quantile(real, share, method="lower")) for share in (0.01, 0.05)}
    return {
        "samples": len(made),
        "held_out": len(real),
        "quantiles": [[q, float(np.quantile(made, q)), float(np.quantile(real, q))] for q in QUANTILES],
        "exact_duplicates": int(np.count_nonzero(samples == 0)),
        "held_out_exact_duplicates": int(np.count_nonzero(held_out == 0)),
        "share_closer_than_1_percent": float((made < limits[0.01]).mean()),
        "share_closer_than_5_percent": float((made < limits[0.05]).mean()),
        "probability_closer": 1 - float(test.statistic) / (len(made) * len(real)),
        "p_value": 1.0 if alike else float(test.pvalue),
    }
