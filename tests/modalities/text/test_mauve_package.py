"""Our MAUVE against the authors' package `mauve-text`."""

from __future__ import annotations

import numpy as np
import pytest

from pe_beam.modalities.text.metrics import _area, mauve_of


def test_the_area_of_two_histograms_is_the_packages_own():
    """Without k-means there is no noise: equal to rounding."""
    from mauve.compute_mauve import get_divergence_curve_for_multinomials  # here: every worker would pay its seconds

    for seed in range(20):
        rng = np.random.default_rng(seed)
        p, q = rng.dirichlet(np.ones(30), size=2)
        p[:seed] = 0  # some words of one side alone
        p /= p.sum()
        curve = get_divergence_curve_for_multinomials(p, q, np.linspace(1e-6, 1 - 1e-6, 25), 5)
        rows, columns = np.argsort(curve[:, 0]), np.argsort(curve[:, 1])
        one = np.trapezoid(curve[rows, 1], curve[rows, 0])
        other = np.trapezoid(curve[columns, 0], curve[columns, 1])
        assert _area(p, q) == pytest.approx((one + other) / 2, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.6, 1.6, 4.0])
def test_the_whole_agrees_within_the_noise_of_k_means(shift):
    """Means of 4 seeds. One seed's difference has a standard deviation of up to 0.07 where the curve is steepest.

    So the mean's is 0.035 at most, and 0.12 is more than three of them.
    """
    from mauve import compute_mauve

    ours, theirs = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a, b = (rng.normal(size=(400, 16)).astype(np.float32) for _ in range(2))
        b[:, 0] += shift
        ours.append(mauve_of(a, b, seed=seed))
        found = compute_mauve(p_features=a, q_features=b, verbose=False, seed=seed, kmeans_num_redo=2)
        theirs.append(float(found.mauve))
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.12, (ours, theirs)
