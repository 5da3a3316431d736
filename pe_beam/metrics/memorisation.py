"""Memorisation check: compares samples and held-out records by the distance to their nearest training record."""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

Nearest = tuple[np.ndarray, np.ndarray]
"""Squared distance, float64 (n,), and row of the nearest training record, int64 (n,). Infinity and -1 mean none yet."""


def nothing_near(rows: int) -> Nearest:
    """Returns the value before any training record is compared."""
    return np.full(rows, np.inf), np.full(rows, -1, dtype=np.int64)


def nearest_in(queries: np.ndarray, records: np.ndarray, first: int) -> Nearest:
    """Returns the nearest of some training records, exactly (DESIGN, rule 8).

    Args:
      queries: float32 (n, d).
      records: float32 (m, d), m at least 1.
      first: the row of the first of `records` among all training records.
    """
    from pe_beam.voting.nearest import flat_search

    found = flat_search(records, distance="l2", votes=1).nearest(queries)[:, 0]
    difference = queries.astype(np.float64) - records[found]
    return np.einsum("ij,ij->i", difference, difference), found + first


def nearer(a: Nearest, b: Nearest) -> Nearest:
    """Returns the nearer of both for each query, at equal distance the smaller row. Any order of merging is equal."""
    second = (b[0] < a[0]) | ((b[0] == a[0]) & (b[1] >= 0) & ((a[1] < 0) | (b[1] < a[1])))
    return np.where(second, b[0], a[0]), np.where(second, b[1], a[1])


def memorisation(samples: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Compares distances of samples to their nearest training records with those of held-out records.

    Args:
      samples: squared distances of samples, float64 (n,), n at least 1.
      held_out: squared distances of records that had no part in the run, float64 (m,), m at least 1.

    Returns:
      samples, held_out: numbers of samples and of held-out records.
      quantiles: quantiles of distances, a list of [share, samples, held-out].
      exact_duplicates, held_out_exact_duplicates: number at distance 0.
      share_closer_than_1_percent (and _5_percent): share of the samples that are closer than all but 1% (5%) of the
        held-out records. It is about 0.01 (0.05) if samples have the distribution of held-out records, and smaller if
        they are farther away.
      probability_closer: probability that a random sample is closer than a random held-out record; a tie counts half
        (from Mann-Whitney U over n m). It is 0.5 if both have the same distribution.
      p_value: p-value of the one-sided Mann-Whitney test that samples are closer than held-out records.
    """
    from scipy.stats import mannwhitneyu

    made, real = np.sqrt(samples), np.sqrt(held_out)
    test = mannwhitneyu(made, real, alternative="less", method="asymptotic")
    alike = bool(np.ptp(np.concatenate([made, real])) == 0)  # all equal: the test divides by zero
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
