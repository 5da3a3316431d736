import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.errors import RecipeError
from pe_beam.selection.quotas import largest_remainder
from pe_beam.selection.samplers import draw
from pe_beam.selection.schedules import resolve_schedule
from pe_beam.selection.smoothing import Round, smoothed_votes
from pe_beam.selection.threshold import auto_threshold, threshold_in_votes, weights_above
from pe_beam.selection.totals import Total, brought_to

WEIGHTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(lambda x: sum(x) > 1e-6)


@given(WEIGHTS, st.integers(0, 500), st.sampled_from(["multinomial", "systematic", "rank"]), st.integers(0, 99))
def test_draws_fill_the_quota(weights, quota, method, seed):
    draws = draw(np.array(weights), quota, method=method, rng=np.random.default_rng(seed))
    assert draws.sum() == quota
    assert draws.min() >= 0
    if method != "rank":
        assert not draws[np.array(weights) == 0].any()


@given(WEIGHTS, st.integers(1, 500), st.integers(0, 99))
def test_systematic_is_within_one_of_its_expectation(weights, quota, seed):
    array = np.array(weights)
    draws = draw(array, quota, method="systematic", rng=np.random.default_rng(seed))
    assert (np.abs(draws - array / array.sum() * quota) < 1 + 1e-6).all()


def test_systematic_is_unbiased():
    """4,000 draws; a deviation of 0.05 is over 6 standard errors (each draw's deviation is at most 1/2)."""
    weights = np.array([0.5, 1.3, 0.0, 2.2])
    rng = np.random.default_rng(0)
    mean = np.mean([draw(weights, 5, method="systematic", rng=rng) for _ in range(4000)], axis=0)
    assert mean == pytest.approx(weights / 4 * 5, abs=0.05)


def test_rank_takes_the_highest_and_goes_round():
    rng = np.random.default_rng(0)
    assert draw(np.array([1.0, 5, 5, -2]), 2, method="rank", rng=rng).tolist() == [0, 1, 1, 0]
    assert draw(np.array([1.0, 5]), 5, method="rank", rng=rng).tolist() == [2, 3]


@given(st.lists(st.floats(-5, 100), min_size=1, max_size=12), st.integers(0, 300))
def test_quotas_sum_and_give_everyone_one(shares, extra):
    total = len(shares) + extra
    seats = largest_remainder(shares, total)
    assert sum(seats) == total
    assert min(seats) >= 1


@given(st.lists(st.floats(-30, 60), min_size=1, max_size=30), st.floats(0.1, 20))
def test_auto_threshold_minimises_the_risk(noisy, sigma):
    x = np.array(noisy)

    def risk(h):
        return np.sum((np.maximum(x - h, 0) - x) ** 2 + 2 * sigma**2 * (x > h))

    best = risk(auto_threshold(x, sigma))
    assert all(best <= risk(h) + 1e-6 * max(1, abs(best)) for h in np.linspace(0, 61, 200))


@given(st.lists(st.floats(-100, 100), min_size=1), st.floats(0, 1000))
def test_weights_are_never_all_zero_nor_negative(noisy, threshold):
    weights, fallback = weights_above(np.array(noisy), threshold)
    assert weights.min() >= 0
    assert weights.sum() > 0
    assert (fallback is None) == (max(noisy) > threshold and np.maximum(np.array(noisy) - threshold, 0).sum() > 0)


def test_thresholds():
    assert threshold_in_votes("1.5 sigma", 2.0) == 3.0
    assert threshold_in_votes(4, 2.0) == 4.0
    assert threshold_in_votes("auto", 2.0) is None
    for bad in ("x sigma", -1, "nan", "often"):
        with pytest.raises(RecipeError, match="threshold"):
            threshold_in_votes(bad, 1.0)


def test_schedules():
    assert resolve_schedule(2, 3, name="x") == [2, 2, 2]
    assert resolve_schedule([1, "2"], 2, name="x") == [1, 2]
    for decay in ("linear", "cosine", "geometric", "polynomial"):
        values = resolve_schedule({"from": 1, "to": 0.1, "decay": decay, "power": 2}, 7, name="x")
        assert values[0] == pytest.approx(1)
        assert values[-1] == pytest.approx(0.1)
        assert values == sorted(values, reverse=True)
    for bad in ([1], "often", {"from": 1}, {"from": 1, "to": 0, "decay": "geometric"}, float("nan"), True):
        with pytest.raises(RecipeError, match="x:"):
            resolve_schedule(bad, 3, name="x")


def _rounds(seed, *, sigma=3.0):
    rng = np.random.default_rng(seed)
    return [Round(rng.random((m, 4), dtype=np.float32), rng.normal(0, sigma, m), sigma) for m in (7, 5)]


def test_pooled_votes_follow_their_formula():
    rounds = _rounds(0)
    votes, deviations = smoothed_votes(rounds, 0.4)
    own = rounds[-1].vectors.astype(float)
    every = np.concatenate([one.vectors for one in rounds]).astype(float)
    noisy = np.concatenate([one.noisy for one in rounds])
    for i, x in enumerate(own):
        near = np.exp(-((every - x) ** 2).sum(axis=1) / 0.32)
        crowd = np.exp(-((own - x) ** 2).sum(axis=1) / 0.32).sum()
        assert votes[i] == pytest.approx(near @ noisy / crowd)
        assert deviations[i] == pytest.approx(3 * np.sqrt((near**2).sum()) / crowd)


def test_pooling_does_not_hold_all_pairs_of_candidates_and_has_the_bits_of_one_array():
    """All pairs of 1,500 candidates take 18 MB as one array, and those with the 1,500 of the round before as many."""
    rng = np.random.default_rng(3)
    rounds = [Round(rng.random((1500, 9), dtype=np.float32), rng.normal(0, 3, 1500), 3.0, w) for w in (0.5, 1.0)]
    tracemalloc.start()
    votes, deviations = smoothed_votes(rounds, 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
    own, pooled, variance = rounds[-1].vectors.astype(float), np.zeros(1500), np.zeros(1500)
    for one in rounds:
        squares = np.array([((one.vectors.astype(float) - x) ** 2).sum(axis=1) for x in own])
        near = np.exp(squares / (-2 * 0.4**2))
        pooled += one.weight * (near * one.noisy).sum(axis=1)
        variance += (one.weight * 3.0) ** 2 * (near**2).sum(axis=1)
    assert votes.tobytes() == (pooled / near.sum(axis=1)).tobytes()
    assert deviations.tobytes() == (np.sqrt(variance) / near.sum(axis=1)).tobytes()


def test_a_bandwidth_near_0_pools_nothing():
    votes, deviations = smoothed_votes(_rounds(1), 1e-3)
    assert (votes == _rounds(1)[-1].noisy).all()
    assert deviations == pytest.approx(np.full(5, 3.0))


def test_the_noise_of_pooled_votes_is_what_is_said():
    """4,000 draws; the relative error of a standard deviation is 1.1%, and 6% is over 5 of those."""
    rng = np.random.default_rng(2)
    vectors = [one.vectors for one in _rounds(2)]
    made = []
    for _ in range(4000):
        rounds = [Round(v, rng.normal(0, 3, len(v)), 3.0) for v in vectors]
        votes, said = smoothed_votes(rounds, 0.5)
        made.append(votes)
    assert np.std(made, axis=0) == pytest.approx(said, rel=0.06)


def test_pooling_refuses_what_it_cannot_pool():
    for rounds, bandwidth in (([], 1.0), (_rounds(3), 0.0)):
        with pytest.raises(ValueError, match="bandwidth above 0"):
            smoothed_votes(rounds, bandwidth)


def test_votes_are_brought_to_the_sum_that_is_known_and_noise_leaves_no_few_for_all():
    """300 records vote for 900 candidates: the noise of the sum of votes is as large as the sum."""
    few = {"as they are": [], "brought": []}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        vectors = rng.normal(0, 0.1, (900, 4))
        noisy = np.bincount(rng.integers(0, 900, 300), minlength=900) + rng.normal(0, 15, 900)
        brought = brought_to(noisy, 15.0, Total(320.0, 400.0))
        assert brought.sum() == pytest.approx((noisy.sum() / 900 / 15**2 + 320 / 400) / (1 / 900 / 15**2 + 1 / 400))
        assert np.ptp(brought - noisy) < 1e-9, "all are moved alike"
        for name, own in (("as they are", noisy), ("brought", brought)):
            weights, _ = weights_above(smoothed_votes([Round(vectors, own, 15.0)], 1.0)[0], 0.0)
            few[name].append(weights.max() / weights.mean())
    assert max(few["brought"]) < 2 < max(few["as they are"])
