"""Distances between two clouds of vectors: Fréchet and kernel (KID)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# At the top, not where it is used: two threads that load scikit-learn at once can break each other's import.
from sklearn.metrics.pairwise import polynomial_kernel
from threadpoolctl import threadpool_limits

from pe_beam.keyed import keyed_rng
from pe_beam.metrics.moments import Moments

SUBSETS, SUBSET_ROWS = 100, 1000


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), A and B the covariances (Heusel et al. 2017).

    The symmetric form needs no square root of a matrix that is not symmetric, and is real where A is singular.

    Raises:
      ValueError: fewer than 2 vectors on a side.

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
    """`frechet_distance` of two sets of vectors, exact also where there are fewer of them than dimensions.

    With x and y the centred rows, tr (A^1/2 B A^1/2)^1/2 is the sum of the singular values of x y^T, over
    sqrt((n - 1)(m - 1)): no root of a singular covariance, and a matrix of n x m in place of one of d x d.

    Args:
      a: (n, d), n at least 2.
      b: (m, d), m at least 2.

    >>> x = np.random.default_rng(0).normal(size=(5, 40))
    >>> abs(frechet_of_vectors(x, x)) < 1e-9, round(frechet_of_vectors(x, x + 1.0), 6)
    (True, 40.0)
    """
    if min(len(a), len(b)) >= a.shape[1]:
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
    """Pairs of positions, int64 (m,) each, m = min(rows, first, second), drawn without replacement within a subset.

    Where a subset would be all of both sides there is one, for all would be equal.

    Args:
      first: vectors of the first side. second: of the second.
      subsets: how many. rows: of a subset, at most.
    """
    size = min(rows, first, second)
    for subset in range(1 if size == first == second else subsets):
        rng = keyed_rng(0, 0, subset, "evaluate/kid")
        yield rng.choice(first, size, replace=False), rng.choice(second, size, replace=False)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """KID (Bińkowski et al. 2018): squared MMD with the kernel (x.y / d + 1)^3, unbiased, over random subsets.

    Subsets of 1,000, as in the paper and in the libraries: the cost does not grow with the data, and the spread
    between subsets says how far the figure can be trusted.

    Args:
      a: (n, d), n at least 2.
      b: (m, d), m at least 2.

    Returns:
      Mean and standard deviation over the subsets; the mean may be below 0.
    """

    def of_subset(rows: tuple[np.ndarray, np.ndarray]) -> float:
        x, y = a[rows[0]].astype(np.float64), b[rows[1]].astype(np.float64)
        size = len(x)
        own = sum(kernel.sum() - np.trace(kernel) for kernel in (polynomial_kernel(x), polynomial_kernel(y)))
        return float(own / (size * (size - 1)) - 2 * polynomial_kernel(x, y).mean())

    # Products this small are faster side by side than each on all cores.
    with threadpool_limits(limits=1), ThreadPoolExecutor(os.cpu_count()) as pool:
        values = list(pool.map(of_subset, kernel_subsets(len(a), len(b))))
    return float(np.mean(values)), float(np.std(values))
