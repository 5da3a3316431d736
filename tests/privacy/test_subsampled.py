"""Accounting of votes on samples: against the closed form of one round, dp-accounting, and the unsampled mechanism."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from pe_beam.errors import RecipeError
from pe_beam.privacy import accounting
from pe_beam.privacy.subsampled import Spending, peer_epsilon, subsampled_epsilon

# By dp-accounting's PLDAccountant at an interval of 1e-4, which is above the truth by a few millionths.
REFERENCE = [
    (0.1, 1.5, 10, 1e-6, 1.57249),
    (0.5, 3.0, 10, 1e-6, 2.698544),
    (0.01, 1.0, 30, 1e-6, 0.735157),
]


@pytest.mark.parametrize(("rate", "z", "rounds", "delta", "epsilon"), REFERENCE)
def test_known_values(rate: float, z: float, rounds: int, delta: float, epsilon: float) -> None:
    found = subsampled_epsilon([Spending(z, rate)] * rounds, delta)
    assert epsilon * (1 - 1e-5) <= found <= epsilon * (1 + 5e-4)


def one_round(rate: float, z: float, delta: float) -> float:
    """Epsilon of one round by the closed form of both directions."""

    def excess(epsilon: float) -> float:
        def at(loss: float) -> float:  # x with log(P / Q) = loss
            inside = (math.exp(loss) - (1 - rate)) / rate
            return z * z * math.log(inside) + 0.5 if inside > 0 else -math.inf

        def mixed(x: float) -> float:
            return float((1 - rate) * ndtr(x / z) + rate * ndtr((x - 1) / z))

        x, y = at(epsilon), at(-epsilon)
        removed = (1 - mixed(x)) - math.exp(epsilon) * ndtr(-x / z)
        added = ndtr(y / z) - math.exp(epsilon) * mixed(y)
        return float(max(removed, added)) - delta

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, 200.0, xtol=1e-12))


@settings(deadline=None, max_examples=15)
@given(st.floats(0.01, 1.0), st.floats(0.4, 20.0), st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_one_round_is_never_below_the_truth_and_near_it(rate: float, z: float, delta: float) -> None:
    true = one_round(rate, z, delta)
    found = subsampled_epsilon([Spending(z, rate)], delta)
    assert true * (1 - 1e-7) - 1e-9 <= found <= true * 1.002 + 1e-3  # losses are rounded up: .0005 at rates of .01


@pytest.mark.parametrize("z", [0.1, 0.01, 1e-3, 2e-4])
def test_next_to_no_noise_costs_as_much_as_it_does(z: float) -> None:
    """A loss of millions was not seen, and the epsilon of the other direction was said: 50 for 12 million."""

    def excess(epsilon: float) -> float:  # when a unit is removed, which costs more
        x = z * z * (epsilon + math.log1p(-(1 - 3e-3) * math.exp(-epsilon)) - math.log(3e-3)) + 0.5
        mixed = (1 - 3e-3) * ndtr(-x / z) + 3e-3 * ndtr((1 - x) / z)
        return float(mixed - math.exp(epsilon + log_ndtr(-x / z))) - 5e-4

    true = brentq(excess, 1.0, 2 / z**2)
    assert true <= subsampled_epsilon([Spending(z, 3e-3)], 5e-4) <= 1.001 * true


# z, rate, rounds, delta, and epsilon with losses rounded down on a grid of 4 million points, which is below the truth.
MANY = [
    (1.0, 1e-3, 1000, 1e-6, 0.183482),
    (0.5, 1e-4, 1000, 1e-5, 0.536452),
    (2.461, 7.352e-4, 100, 3.4e-6, 0.00896688),
]


@pytest.mark.parametrize(("z", "rate", "rounds", "delta", "least"), MANY)
def test_many_rounds_on_small_samples_cost_little_more_than_they_do(z, rate, rounds, delta, least) -> None:  # type: ignore[no-untyped-def]
    assert least <= subsampled_epsilon([Spending(z, rate)] * rounds, delta) <= 1.03 * least


def test_both_methods_agree_on_small_samples() -> None:
    accounting.check_spendings([Spending(0.8736, 1e-4)] * 3, 8.7e-11)
    accounting.check_spendings([Spending(1.0, 1e-3)] * 1000, 1e-6)


def test_noise_for_small_samples_is_found() -> None:
    """The search went by an epsilon that was said of next to no noise."""
    about = {"epsilon": 0.8, "weights": [1.0, 1.0], "sensitivity": 1.0, "sampling_rate": 4.7e-4}
    made = accounting.calibrate(delta=6.9e-4, **about)  # type: ignore[arg-type]
    assert 0.8 * (1 - 5e-3) < accounting.spent_epsilon(made.spendings, 6.9e-4) <= 0.8


def test_a_delta_that_wants_no_noise_is_refused() -> None:
    about = {"epsilon": 1.0, "weights": [1.0, 1.0], "sensitivity": 1.0, "sampling_rate": 1e-4}
    with pytest.raises(RecipeError, match=r"privacy\.delta: 0\.001 .* below 0\.0002 is wanted"):
        accounting.calibrate(delta=1e-3, **about)  # type: ignore[arg-type]


@pytest.mark.parametrize(("z", "rounds", "delta"), [(5.0, 10, 1e-6), (0.5, 3, 1e-12), (40.0, 100, 1e-5)])
def test_without_sampling_it_is_the_gaussian_mechanism(z: float, rounds: int, delta: float) -> None:
    exact = accounting.spent_epsilon([z] * rounds, delta)
    found = subsampled_epsilon([Spending(z)] * rounds, delta)
    assert exact <= found <= exact * (1 + 1e-4)


def test_rounds_of_several_kinds_agree_with_the_other_accountant() -> None:
    spent = [Spending(12.0), *(Spending(2.0 + t / 10, 0.3) for t in range(4)), Spending(1.0, 0.05)]
    found = subsampled_epsilon(spent, 1e-6)
    assert found == pytest.approx(peer_epsilon(spent, 1e-6), rel=2e-3)
    assert found < accounting.spent_epsilon([each.noise_multiplier for each in spent], 1e-6)


def test_more_sampling_or_more_noise_never_costs_more() -> None:
    by_rate = [subsampled_epsilon([Spending(2.0, rate)] * 5, 1e-5) for rate in (0.01, 0.1, 0.5, 0.9, 1.0)]
    by_noise = [subsampled_epsilon([Spending(z, 0.2)] * 5, 1e-5) for z in (8.0, 4.0, 2.0, 1.0, 0.5)]
    assert by_rate == sorted(by_rate)
    assert by_noise == sorted(by_noise)


@pytest.mark.parametrize(("rate", "epsilon", "share"), [(0.5, 1.0, 0.0), (0.1, 4.0, 0.1), (0.99, 0.5, 0.0)])
def test_calibrated_noise_keeps_the_budget_and_little_more(rate: float, epsilon: float, share: float) -> None:
    about = {"epsilon": epsilon, "delta": 1e-6, "weights": [1.0, 2.0, 1.0], "sensitivity": 1.0, "label_share": share}
    sampled = accounting.calibrate(**about, sampling_rate=rate)  # type: ignore[arg-type]
    whole = accounting.calibrate(**about)  # type: ignore[arg-type]
    spent = accounting.spent_epsilon(sampled.spendings, 1e-6)
    assert epsilon * (1 - 2e-3) <= spent <= epsilon
    assert all(a <= b for a, b in zip(sampled.noise_multipliers, whole.noise_multipliers, strict=True))
    accounting.check_schedule(sampled, epsilon, 1e-6)
    if share:
        assert sampled.spendings[0].sampling_rate == 1


def test_a_schedule_that_spends_more_is_refused() -> None:
    made = accounting.fixed(noise_multipliers=[2.0] * 3, sensitivity=1.0, sampling_rate=0.5)
    spent = accounting.spent_epsilon(made.spendings, 1e-6)
    accounting.check_schedule(made, spent, 1e-6)
    with pytest.raises(RecipeError, match="would spend"):
        accounting.check_schedule(made, spent * 0.99, 1e-6)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(RecipeError, match=r"privacy\.sampling_rate"):
        accounting.spent_epsilon([Spending(1.0, rate)], 1e-5)
    with pytest.raises(ValueError, match="rates"):
        subsampled_epsilon([Spending(1.0, rate)], 1e-5)


def test_the_event_says_which_rounds_are_on_samples() -> None:
    event = accounting.dp_event([3.0, Spending(2.0, 0.5)])
    assert [type(each).__name__ for each in event.events] == ["GaussianDpEvent", "PoissonSampledDpEvent"]
