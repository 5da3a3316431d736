"""The maths of evaluation beside maintained libraries, brute force, and data that breaks formulas."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel

from pe_beam.metrics import manifold
from pe_beam.metrics.classifiers import classifier_figures, cross_figures
from pe_beam.metrics.distances import frechet_distance, kernel_distance, kernel_subsets
from pe_beam.metrics.manifold import compare_manifolds, neighbour_radii
from pe_beam.metrics.memorisation import memorisation, nearer, nearest_in, nothing_near
from pe_beam.metrics.moments import Moments, add_leaf, join_trees, whole
from pe_beam.subsamples import chosen_of_range, chosen_rows


def cloud(rows: int, dimension: int, seed: int, *, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, dimension)) * scale + shift).astype(np.float32)


# --- moments ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=9),
    workers=st.integers(1, 4),
    shuffle=st.randoms(use_true_random=False),
)
def test_moments_are_the_same_to_the_last_bit_in_any_order_of_merging(sizes, workers, shuffle):
    parts = [cloud(n, 3, seed, shift=1e4) for seed, n in enumerate(sizes)]

    def merged(order: list[int], count: int) -> Moments:
        trees: list[dict] = [{} for _ in range(count)]
        for turn, leaf in enumerate(order):
            add_leaf(trees[turn % count], leaf, Moments.of(parts[leaf]))
        shuffle.shuffle(trees)
        return whole(join_trees(trees))

    order = list(range(len(sizes)))
    plain = merged(order, 1)
    shuffle.shuffle(order)
    other = merged(order, workers)
    assert (plain.count, plain.mean.tobytes(), plain.scatter.tobytes()) == (
        other.count,
        other.mean.tobytes(),
        other.scatter.tobytes(),
    )
    rows = np.concatenate(parts).astype(np.float64)
    assert plain.count == len(rows)
    if len(rows) > 1:
        np.testing.assert_allclose(plain.covariance(), np.cov(rows, rowvar=False), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(plain.mean, rows.mean(axis=0), rtol=1e-12)


def test_joining_trees_leaves_them_as_they_were():
    tree: dict = {}
    add_leaf(tree, 0, Moments.of(cloud(5, 2, 0)))
    before = dict(tree)
    for _ in range(2):
        join_trees([tree, {(0, 1): Moments.of(cloud(5, 2, 1))}])
    assert tree == before
    with pytest.raises(ValueError, match="without leaves"):
        whole({})


def test_moments_far_from_zero_lose_nothing():
    rows = cloud(5000, 4, 0, scale=1e-3, shift=4096.0)
    exact = np.cov(rows.astype(np.longdouble).T)
    np.testing.assert_allclose(Moments.of(rows).covariance(), exact, rtol=1e-9, atol=1e-16)  # variances: 1e-6


# --- distances -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 8), (2000, 3000, 16), (64, 50, 64)])
def test_frechet_distance_equals_the_square_root_of_scipy(n, m, d):
    """The last case has fewer rows than dimensions: singular covariances."""
    a, b = cloud(n, d, 0, scale=1.3), cloud(m, d, 1, shift=0.2)
    cov_a, cov_b = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    shift = a.astype(np.float64).mean(axis=0) - b.astype(np.float64).mean(axis=0)
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_distance_of_constant_vectors_is_the_squared_shift():
    one, two = np.ones((5, 3), np.float32), np.full((4, 3), 3, np.float32)
    assert frechet_distance(Moments.of(one), Moments.of(two)) == pytest.approx(12)
    with pytest.raises(ValueError, match="2 vectors"):
        frechet_distance(Moments.of(one[:1]), Moments.of(two))


def test_kernel_distance_equals_scikit_learns_kernel_on_the_same_subsets():
    a, b = cloud(1500, 6, 0), cloud(1200, 6, 1, shift=0.1)
    x, y = a.astype(np.float64), b.astype(np.float64)
    whole = polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y)
    values = []
    for left, right in kernel_subsets(len(a), len(b)):
        assert len(set(left.tolist())) == len(set(right.tolist())) == 1000
        ends = ((left, left), (right, right), (left, right))
        xx, yy, xy = (kernel[np.ix_(*both)] for kernel, both in zip(whole, ends, strict=True))
        apart = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (1000 * 999)
        values.append(apart - 2 * xy.mean())
    found = kernel_distance(a, b)
    assert len(values) == 100
    assert found == (pytest.approx(np.mean(values), abs=1e-9), pytest.approx(np.std(values), abs=1e-9))


def test_kernel_distance_of_few_rows_uses_them_all_once():
    a, b = cloud(30, 4, 0), cloud(30, 4, 1)
    assert len(list(kernel_subsets(30, 30))) == 1
    k = lambda x, y: (x @ y.T / 4 + 1) ** 3  # noqa: E731
    x, y = a.astype(np.float64), b.astype(np.float64)
    off = ~np.eye(30, dtype=bool)
    value, spread = kernel_distance(a, b)
    assert (value, spread) == (pytest.approx(k(x, x)[off].mean() + k(y, y)[off].mean() - 2 * k(x, y).mean()), 0)


def test_kernel_distance_is_unbiased():
    """Two draws of one distribution, 40 times: the mean is 0 within 4 standard errors (else: 1 in 16,000 by chance)."""
    values = [kernel_distance(cloud(60, 3, 2 * i), cloud(60, 3, 2 * i + 1))[0] for i in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


# --- manifolds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 5), (900, 1500, 20), (40, 2500, 2)])
def test_manifold_figures_equal_prdc(n, m, d):
    made, real = cloud(n, d, 0), cloud(m, d, 1, scale=1.1)
    found = compare_manifolds(made, real, real_radii=neighbour_radii(real, [3, 5]))
    three, five = (compute_prdc(real.astype(np.float64), made.astype(np.float64), nearest_k=k) for k in (3, 5))
    assert found.precision == pytest.approx(three["precision"], abs=1e-6)
    assert found.recall == pytest.approx(three["recall"], abs=1e-6)
    assert found.density == pytest.approx(five["density"], abs=1e-6)
    assert found.coverage == pytest.approx(five["coverage"], abs=1e-6)


def brute_force(made: np.ndarray, real: np.ndarray, k3: int = 3, k5: int = 5) -> tuple[float, float, float, float]:
    """The definitions, from all squared distances in float64."""

    def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(axis=2)

    def radii(x: np.ndarray, k: int) -> np.ndarray:
        return np.sort(squares(x, x), axis=1)[:, min(k, len(x) - 1)]

    cross = squares(made, real)
    wide = cross < radii(real, k5)
    return (
        float((cross < radii(real, k3)).any(axis=1).mean()),
        float((cross < radii(made, k3)[:, None]).any(axis=0).mean()),
        float(wide.sum() / (min(k5, len(real) - 1) * len(made))),
        float(wide.any(axis=0).mean()),
    )


@settings(max_examples=80, deadline=None)
@given(
    st.integers(2, 30),
    st.integers(2, 30),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.sampled_from([0.0, 1e3]),
)
def test_manifold_figures_of_tied_and_repeated_points_equal_the_definition(n, m, d, grid, seed, shift):
    """Points on a coarse grid: nearly all distances are tied, many are 0, and k is larger than n."""
    rng = np.random.default_rng(seed)
    made, real = (rng.integers(0, grid + 1, (rows, d)).astype(np.float32) + np.float32(shift) for rows in (n, m))
    found = compare_manifolds(made, real, real_radii=neighbour_radii(real, [3, 5]))
    assert (found.precision, found.recall, found.density, found.coverage) == brute_force(made, real)


def test_tiles_threads_and_near_ties_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(150, 6)).astype(np.float32) * 50 + 1000
    made = np.concatenate([base, base + rng.normal(size=base.shape).astype(np.float32) * 1e-3, base[:40]])
    real = base + rng.normal(size=base.shape).astype(np.float32) * 1e-3
    expected = brute_force(made, real)
    for block, tile in ((512, 2048), (7, 11), (1, 64)):
        monkeypatch.setattr(manifold, "_BLOCK", block)
        monkeypatch.setattr(manifold, "_TILE", tile)
        found = compare_manifolds(made, real, real_radii=neighbour_radii(real, [3, 5]))
        assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-12)


def test_radii_of_constant_vectors_are_zero_and_nothing_is_inside():
    same = np.ones((20, 3), np.float32)
    radii = neighbour_radii(same, [3, 5])
    assert not radii.any()
    assert compare_manifolds(same, same, real_radii=radii) == manifold.Manifold(0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="2 points"):
        neighbour_radii(same[:1], [3])


# --- classifiers -----------------------------------------------------------------------------------------------------


def labelled(rows: int, seed: int, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    codes = np.arange(rows, dtype=np.int32) % labels
    return cloud(rows, 4, seed, scale=0.8) + codes[:, None].astype(np.float32), codes


@pytest.mark.parametrize("labels", [2, 3])
def test_classifier_figures_equal_scikit_learns(labels):
    made, codes = labelled(300, 0, labels)
    real, real_codes = labelled(200, 1, labels)
    found = classifier_figures(made, codes, real, real_codes)
    model = LogisticRegression(max_iter=300).fit(made.astype(np.float64), codes)
    chances = model.predict_proba(real.astype(np.float64))
    predicted = chances.argmax(axis=1)
    area = roc_auc_score(real_codes, chances if labels > 2 else chances[:, 1], multi_class="ovr")
    assert found["logistic_regression_accuracy"] == accuracy_score(real_codes, predicted)
    assert found["logistic_regression_macro_f1"] == pytest.approx(f1_score(real_codes, predicted, average="macro"))
    assert found["logistic_regression_auc"] == pytest.approx(area)
    assert set(found) == {
        f"{model}_{figure}"
        for model, figure in itertools.product(
            ("svc_rbf", "logistic_regression", "knn"), ("accuracy", "macro_f1", "auc")
        )
    }
    assert min(found.values()) > 0.5


def test_a_label_that_no_sample_has_counts_as_an_error():
    made, codes = labelled(300, 0)
    real, real_codes = labelled(300, 1)
    found = classifier_figures(made[codes < 2], codes[codes < 2], real, real_codes)
    assert all(value <= 2 / 3 for key, value in found.items() if key.endswith("accuracy"))
    assert all(np.isfinite(list(found.values())))


def test_samples_of_one_label_and_a_test_of_one_label():
    made, codes = labelled(60, 0)
    one = classifier_figures(made, np.zeros_like(codes), made, codes)
    assert one["svc_rbf_accuracy"] == one["knn_accuracy"] == pytest.approx(1 / 3)
    assert one["svc_rbf_auc"] == 0.5
    single = classifier_figures(made, codes, made[codes == 1], codes[codes == 1])
    assert "svc_rbf_auc" not in single
    assert 0 < single["svc_rbf_accuracy"] <= 1
    two = classifier_figures(made[:2], codes[:2], made, codes)
    assert np.isfinite(list(two.values())).all()


def test_halves_of_the_held_out_records_stand_in_for_training():
    real, codes = labelled(300, 1)
    found = cross_figures(real, codes)
    assert found["logistic_regression_accuracy"] > 0.7
    assert np.isfinite(list(cross_figures(real[:2], codes[:2]).values())).all()


# --- memorisation ----------------------------------------------------------------------------------------------------


def test_copies_are_seen_and_held_out_records_are_not():
    training, held_out = cloud(400, 8, 0), cloud(300, 8, 1)
    honest = cloud(300, 8, 2)
    copied = np.concatenate([training[:60], honest[60:]])
    real, _ = nearest_in(held_out, training, 0)
    fair = memorisation(nearest_in(honest, training, 0)[0], real)
    guilty = memorisation(nearest_in(copied, training, 0)[0], real)
    assert fair["exact_duplicates"] == fair["held_out_exact_duplicates"] == 0
    assert 0.4 < fair["probability_closer"] < 0.6
    assert fair["p_value"] > 1e-3
    assert guilty["exact_duplicates"] == 60
    assert guilty["share_closer_than_1_percent"] >= 0.2
    assert guilty["p_value"] < 1e-3
    assert guilty["quantiles"][0][1] == 0


def test_memorisation_where_all_distances_are_equal():
    found = memorisation(np.zeros(3), np.zeros(2))
    assert (found["probability_closer"], found["p_value"], found["share_closer_than_5_percent"]) == (0.5, 1.0, 0.0)
    assert (found["exact_duplicates"], found["held_out_exact_duplicates"]) == (3, 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_nearest_record_is_the_same_in_any_order_of_merging(count, sizes, shuffle):
    rng = np.random.default_rng(count)
    records = rng.integers(0, 3, (sum(sizes), 2)).astype(np.float32)
    queries = rng.integers(0, 3, (count, 2)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    parts = [nearest_in(queries, records[a:b], int(a)) for a, b in itertools.pairwise(starts)]
    shuffle.shuffle(parts)
    best = nothing_near(count)
    for part in parts:
        best = nearer(best, part)
    squares = ((queries[:, None] - records[None]) ** 2).sum(axis=2)
    assert best[1].tolist() == squares.argmin(axis=1).tolist()
    assert best[0].tolist() == squares.min(axis=1).tolist()


# --- subsamples ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.integers(0, 60), st.integers(1, 70))
def test_a_subsample_is_cut_like_the_rows(total, most, step):
    rows = chosen_rows(total, most, "x")
    assert len(set(rows.tolist())) == min(total, most)
    assert rows.tolist() == sorted(rows.tolist())
    parts = [chosen_of_range(total, most, "x", a, min(a + step, total)) for a in range(0, total, step)]
    assert np.concatenate([np.empty(0, np.int64), *parts]).tolist() == rows.tolist()


def test_scikit_learn_is_loaded_before_threads_are_started():
    """Loaded by two threads at once, one of them meets half a module: an evaluation of tables died of it."""
    loaded = (
        "all(f'sklearn.{name}' in sys.modules for name in ('svm', 'linear_model', 'neighbors', 'metrics.pairwise'))"
    )
    code = f"import sys; import pe_beam.evaluation.measure; sys.exit(0 if {loaded} else 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
