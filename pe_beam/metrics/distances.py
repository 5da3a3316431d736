"""Distances between two sets of vectors: Fréchet and kernel (KID)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Imported at the top: two threads that import scikit-learn at the same time can break each other's import.
from sklearn.metrics.pairwise import polynomial_kernel
from threadpoolctl import threadpool_limits

from pe_beam.keyed import keyed_rng
from pe_beam.metrics.moments import Moments

SUBSETS, SUBSET_ROWS = 100, 1000


def frechet_distance(a: Moments, b: Moments) -> float:
    """Returns |mean a - mean b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (Heusel et al. 2017). A and B are covariances.

    The symmetric form needs only square roots of symmetric matrices, and it is real if A is singular.

    Raises:
      ValueError: a side has fewer than 2 vectors.

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> abs(frechet_distance(Moments.of(x), Moments.of(x))) < 1e-9
    True
    >>> round(frechet_distance(Moments.of(x), Moments.of(x + 2.0)), 6)
    12.0
    """
    cov_a, cov_b = a.covariance(), b.covariance()
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def frechet_of_vectors(a: np.ndarray, b: np.ndarray) -> float:
    """Returns `frechet_distance` of two sets of vectors, exact also if they have fewer vectors than dimensions.

    Let x and y be the centred rows. Then tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of x y^T, divided by
    sqrt((n - 1)(m - 1)). This needs no root of a singular covariance, and an n x m matrix replaces a d x d matrix.

    Args:
      a: (n, d), n at least 2.
      b: (m, d), m at least 2.

    >>> x = np.random.default_rng(0).normal(size=(5, 40))
    >>> abs(frechet_of_vectors(x, x)) < 1e-9, round(frechet_of_vectors(x, x + 1.0), 6)
    (True, 40.0)
    """
    if min(len(a), len(b)) > a.shape[1]:  # as many vectors as dimensions: a covariance is singular
        return frechet_distance(Moments.of(a), Moments.of(b))
    x, y = a.astype(np.float64), b.astype(np.float64)
    shift = x.mean(axis=0) - y.mean(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    traces = (x**2).sum() / (len(x) - 1) + (y**2).sum() / (len(y) - 1)
    return float(shift @ shift + traces - 2 * cross)


def kernel_subsets(
    first: int, second: int, *, subsets: int = SUBSETS, rows: int = SUBSET_ROWS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields pairs of positions, int64 (m,) each, m = min(rows, first, second), without replacement in a subset.

    If a subset is all of both sides, only one is yielded, because all would be equal.

    Args:
      first: number of vectors on the first side.
      second: number of vectors on the second side.
      subsets: number of subsets.
      rows: largest number of rows in a subset.
    """
    size = min(rows, first, second)
    for subset in range(1 if size == first == second else subsets):
        rng = keyed_rng(0, 0, subset, "evaluate/kid")
        yield rng.choice(first, size, replace=False), rng.choice(second, size, replace=False)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Returns KID (Bińkowski et al. 2018): unbiased squared MMD, kernel (x.y / d + 1)^3, over random subsets.

    Subsets have 1,000 rows, as in the paper and in other libraries. So the cost does not grow with the data, and the
    spread between subsets shows how reliable the figure is.

    Args:
      a: (n, d), n at least 2.
      b: (m, d), m at least 2.

    Returns:
      Mean and standard deviation over the subsets. The mean may be below 0.
    """

    def of_subset(rows: tuple[np.ndarray, np.ndarray]) -> float:
        x, y = a[rows[0]].astype(np.float64), b[rows[1]].astype(np.float64)
        size = len(x)
        own = sum(kernel.sum() - np.trace(kernel) for kernel in (polynomial_kernel(x), polynomial_kernel(y)))
        return float(own / (size * (size - 1)) - 2 * polynomial_kernel(x, y).mean())

    # Products of this size are faster in parallel, with one core each.
    with threadpool_limits(limits=1), ThreadPoolExecutor(os.cpu_count()) as pool:
        values = list(pool.map(of_subset, kernel_subsets(len(a), len(b))))
    return float(np.mean(values)), float(np.std(values))
