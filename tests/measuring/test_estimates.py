"""Estimates of a column against direct computations: least squares in full, and every cut into pieces by itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pe_beam.measuring import estimates
from pe_beam.measuring.estimates import Sums, agreeing, combined, estimate, levelled
from pe_beam.measuring.shares import shares_of


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_combined_counts_are_the_least_squares_of_all_that_was_counted(rng):
    """Sums by label and over all labels, of crossing groups and of the same groups twice; also what noise is left."""
    labels, bins, sigma = 3, 10, 5.0
    halves, thirds = np.repeat([1, 0], [4, 6]), np.array([0, 0, 1, 2, 1, 2, 2, 0, 1, 1])
    counts = rng.normal(50, sigma, (labels, bins))
    sums = [
        Sums(thirds, rng.normal(160, 4, (labels, 3)), 16.0),
        Sums(halves, rng.normal(700, 6, (1, 2)), 36.0),
        Sums(thirds, rng.normal(160, 3, (labels, 3)), 9.0),
    ]
    rows, seen = [np.eye(labels * bins) / sigma], [counts.ravel() / sigma]
    for each in sums:
        for label, group in np.ndindex(each.counts.shape):
            row = np.zeros((labels, bins))
            row[slice(None) if len(each.counts) == 1 else label, each.groups == group] = 1
            rows.append(row.reshape(1, -1) / np.sqrt(each.variance))
            seen.append(each.counts[label, group, None] / np.sqrt(each.variance))
    design = np.concatenate(rows)
    wanted = np.linalg.lstsq(design, np.concatenate(seen), rcond=None)[0].reshape(labels, bins)
    found = combined(counts, sigma, sums)
    np.testing.assert_allclose(found.counts, wanted, atol=1e-9)
    assert found.sigma == pytest.approx(np.sqrt(np.diag(np.linalg.inv(design.T @ design)).mean()))


def test_a_column_of_very_many_bins_takes_no_square_of_them(rng):
    """Such as postcodes, of which a matrix would take 10 GB, and an hour or more."""
    labels, bins, sigma = 2, 20_000, 3.0
    counts, over = rng.normal(5, sigma, (labels, bins)), rng.normal(10, 1, (1, bins))
    found = combined(
        counts, sigma, [Sums(np.arange(bins), over, 1.0), Sums(np.arange(bins) % 7, np.zeros((2, 7)), 1e12)]
    )
    both = labels * sigma**2
    np.testing.assert_allclose(
        found.counts, counts + (over - counts.sum(axis=0)) * both / (both + 1) / labels, rtol=1e-3, atol=1e-3
    )
    assert found.sigma**2 == pytest.approx(sigma**2 - both**2 / (both + 1) / labels**2, rel=1e-3)


def test_levels_are_the_mean_over_all_cuts(rng):
    counts, sigma = rng.normal(20, 6, (1, 8)), 2.5
    levels, weights = [], []
    for cuts in itertools.product([0, 1], repeat=7):
        pieces = np.concatenate([[0], np.cumsum(cuts)])
        levels.append([counts[0, pieces == piece].mean() for piece in pieces])
        squares = ((counts[0] - levels[-1]) ** 2).sum() / sigma**2
        chance = sum(cut ** pieces[-1] * (1 - cut) ** (7 - pieces[-1]) for cut in estimates._CUTS)
        weights.append(np.exp(-squares / 2 - pieces[-1]) * chance)
    np.testing.assert_allclose(levelled(counts, sigma)[0], np.average(levels, axis=0, weights=weights), atol=1e-9)


def test_levels_follow_from_the_own_label_and_keep_its_sum(rng, monkeypatch):
    counts = rng.normal(100, 10, (5, 40))
    found = levelled(counts, 10.0)
    monkeypatch.setattr(estimates, "_CELLS", 1)  # a label at a time
    assert (levelled(counts, 10.0) == found).all()
    np.testing.assert_allclose(found.sum(axis=1), counts.sum(axis=1))


@pytest.mark.parametrize(("size", "sigma"), [(1e7, 1e-3), (0.0, 1e-3), (1.0, 1e9)])
def test_levels_hold_for_any_size_of_noise(rng, size, sigma):
    counts = rng.normal(0, 1, (1, 60)) * size
    found = levelled(counts, sigma)
    np.testing.assert_allclose(found, counts if sigma < size else np.full_like(counts, counts.mean()), atol=0.5)


def test_noise_of_bins_alike_is_averaged_and_peaks_stay(rng):
    real = np.repeat([200.0, 20.0], [16, 48])[None]
    real[0, 40] = 900
    noisy = real + rng.normal(0, 10, real.shape)
    found = levelled(noisy, 10.0)
    assert np.abs(found - real).mean() < 0.5 * np.abs(noisy - real).mean()
    assert found[0, 40] == pytest.approx(noisy[0, 40], abs=1)


def test_only_ordered_bins_are_levelled_and_nothing_without_noise(rng):
    counts = rng.normal(50, 10, (2, 12))
    assert (estimate(counts, 0.0, [], 12) == counts).all()
    assert (estimate(counts, 10.0, [], 0) == counts).all()
    assert (estimate(counts[:, :6], 10.0, [], 6) == counts[:, :6]).all()  # few bins differ too much
    found = estimate(counts, 10.0, [], 11)  # the last one is of missing values
    assert (found[:, 11] == counts[:, 11]).all() and (found[:, :11] != counts[:, :11]).all()


def test_counts_that_agree_add_up_to_labels_and_to_what_all_labels_say_where_noise_is_cut_off(rng):
    truth = np.full((10, 6), 4.0) * np.array([5, 1, 1, 1, 0.5, 0.5])
    noisy = truth + rng.normal(0, 8, truth.shape)
    noisy[:, 0] += (truth.sum() - noisy.sum()) / 10  # what is known over all labels is nearly right
    totals = np.append(truth.sum(axis=1)[:-1], -3.0)
    found = agreeing(noisy, totals)
    assert (found >= 0).all() and not found[-1].any()
    np.testing.assert_allclose(found.sum(axis=1), np.maximum(totals, 0), atol=1e-6)
    together = shares_of(noisy.sum(axis=0), float(totals[:-1].sum())) * totals[:-1].sum()
    np.testing.assert_allclose(found.sum(axis=0), together, atol=0.5)
    apart = sum(shares_of(row, total) * total for row, total in zip(noisy, totals[:-1], strict=False))
    assert np.abs(apart - together).sum() > 20, "label by label they are off"
