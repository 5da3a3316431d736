import dataclasses
import importlib
import itertools
import math
import sys
from fractions import Fraction

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.errors import RecipeError
from pe_beam.privacy import accounting
from pe_beam.privacy.exact import gaussian_mechanism


@pytest.mark.parametrize(
    ("records", "sigmas"),
    [(1_939_290, (15.4045, 8.0389, 4.2451)), (8396, (11.5999, 6.2108, 3.3744)), (75_316, (13.2506, 7.0011, 3.7494))],
)
def test_published_settings(records, sigmas):
    """Ten rounds at epsilon 1, 2, 4 with delta = 1/(n ln n): sigma of Yelp, OpenReview, PubMed, rounded up."""
    delta = 1 / (records * math.log(records))
    for epsilon, sigma in zip((1, 2, 4), sigmas, strict=True):
        found = accounting.calibrate(epsilon=epsilon, delta=delta, weights=[1] * 10, sensitivity=1.0)
        assert sigma - 1e-4 < found.sigmas[0] <= sigma


@pytest.mark.parametrize("epsilon", [1e-3, 0.01, 0.3, 1, 10, 100, 1000])
@pytest.mark.parametrize("delta", [1e-300, 1e-15, 1e-9, 1e-5, 0.1, 0.9])
@pytest.mark.parametrize("weights", [[1], [1] * 10, [1, 2, 3, 4], [1e-9, 1]])
def test_never_spends_more_and_two_methods_agree(epsilon, delta, weights):
    for share in (0.0, 0.2):
        schedule = accounting.calibrate(
            epsilon=epsilon, delta=delta, weights=weights, sensitivity=math.sqrt(2), label_share=share
        )
        mu = math.sqrt(sum(z**-2 for z in schedule.all_multipliers))
        spent = accounting.spent_epsilon(schedule.all_multipliers, delta)
        assert epsilon - 1e-6 * (epsilon + mu) < spent <= epsilon
        assert accounting.spent_delta(schedule.all_multipliers, spent) <= math.nextafter(delta, 1)
        numeric = accounting.numeric_epsilon(schedule.all_multipliers, delta)
        assert -1e-6 * (spent + mu) <= numeric - spent <= 3e-5 * (spent + mu)
        accounting.check_schedule(schedule, epsilon, delta)


def test_the_module_loaded_alone_gives_the_same_bits(monkeypatch):
    monkeypatch.delitem(sys.modules, "dp_accounting")
    alone = gaussian_mechanism.__wrapped__()
    assert "_gaussian_mechanism" in alone.__name__
    whole = importlib.import_module("dp_accounting.gaussian_mechanism")
    deltas = (1e-300, 1e-15, 1e-5, 0.9)
    with np.errstate(all="ignore"):
        for epsilon, delta in itertools.product((1e-3, 0.3, 1, 10, 1000), deltas):
            assert alone.get_sigma_gaussian(epsilon, delta) == whole.get_sigma_gaussian(epsilon, delta)
        for sigma, delta in itertools.product((1e-2, 0.7, 5, 1e3), deltas):
            assert alone.get_epsilon_gaussian(sigma, delta) == whole.get_epsilon_gaussian(sigma, delta)


@given(
    epsilon=st.floats(1e-3, 1000),
    log_delta=st.floats(-40, -0.1),
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=12),
    share=st.sampled_from([0.0, 0.05, 0.5]),
    votes=st.integers(1, 64),
    adjacency=st.sampled_from(["add-or-remove-one", "replace-one"]),
)
@settings(max_examples=60, deadline=None)
def test_any_budget_is_kept_by_two_methods(epsilon, log_delta, weights, share, votes, adjacency):
    norm = accounting.sensitivity(unit="record", adjacency=adjacency, votes_per_record=votes)
    schedule = accounting.calibrate(
        epsilon=epsilon, delta=math.exp(log_delta), weights=weights, sensitivity=norm, label_share=share
    )
    accounting.check_schedule(schedule, epsilon, math.exp(log_delta))
    total = sum(z**-2 for z in schedule.all_multipliers)
    for weight, sigma, z in zip(weights, schedule.sigmas, schedule.noise_multipliers, strict=True):
        assert z**-2 / total == pytest.approx((1 - share) * weight / sum(weights), rel=1e-7)
        assert z * norm <= sigma * (1 + 1e-15)
        assert math.frexp(sigma)[0] * 2**30 % 1 == 0  # short: sigma 2^b is exact, and so is its ledger line
    if share:
        assert schedule.label_noise_multiplier**-2 / total == pytest.approx(share, rel=1e-7)


@pytest.mark.parametrize(("epsilon", "multipliers"), [(0.1, [60.0] * 3), (1, [10.0, 8.0, 12.0]), (8, [1.0, 2.0])])
def test_a_third_method_agrees(epsilon, multipliers):
    """dp-accounting's own PLD, round by round, which shares no code with ours."""
    one, *rest = [pld.privacy_loss_distribution.from_gaussian_mechanism(z) for z in multipliers]
    for other in rest:
        one = one.compose(other)
    delta = accounting.spent_delta(multipliers, epsilon)
    assert one.get_delta_for_epsilon(epsilon) == pytest.approx(delta, rel=1e-3)
    assert accounting.numeric_epsilon(multipliers, delta) == pytest.approx(epsilon, rel=1e-4)


def test_epsilon_and_delta_are_inverse_and_on_the_safe_side():
    for z in (0.05, 1.0, 30.0):
        for delta in (1e-12, 1e-5, 1e-2):
            epsilon = accounting.spent_epsilon([z], delta)
            assert accounting.spent_delta([z], epsilon) <= math.nextafter(delta, 1)
            if epsilon:
                assert accounting.spent_delta([z], epsilon * (1 - 1e-8)) > delta


def test_check_refuses_what_either_method_refuses(monkeypatch):
    schedule = accounting.calibrate(epsilon=1.1, delta=1e-5, weights=[1], sensitivity=1.0)
    with pytest.raises(RecipeError, match="would spend"):
        accounting.check_schedule(schedule, 1.0, 1e-5)
    monkeypatch.setattr(accounting, "numeric_epsilon", lambda *_: 1.101)
    with pytest.raises(RecipeError, match="disagrees"):
        accounting.check_schedule(schedule, 1.1, 1e-5)
    monkeypatch.setattr(accounting, "numeric_epsilon", lambda *_: math.nan)
    with pytest.raises(RecipeError, match="disagrees"):
        accounting.check_schedule(schedule, 1.1, 1e-5)


def test_sensitivity_of_units_and_relations():
    of = accounting.sensitivity
    assert of(unit="record", adjacency="add-or-remove-one", votes_per_record=9) == 3
    assert of(unit="record", adjacency="replace-one", votes_per_record=2) == 2
    assert of(unit="client", adjacency="add-or-remove-one", votes_per_record=9) == 1
    for k in range(1, 50):
        from fractions import Fraction

        root = of(unit="record", adjacency="replace-one", votes_per_record=k)
        assert Fraction(root) ** 2 >= 2 * k
        assert root == pytest.approx(math.sqrt(2 * k), rel=1e-15)


def test_replace_one_is_not_doubled():
    """Noise grows by sqrt(2), the multiplier and its event stay."""
    one = accounting.calibrate(epsilon=1, delta=1e-5, weights=[1], sensitivity=1.0)
    two = accounting.calibrate(epsilon=1, delta=1e-5, weights=[1], sensitivity=math.sqrt(2))
    assert two.sigmas[0] == pytest.approx(one.sigmas[0] * math.sqrt(2), rel=1e-8)
    assert two.noise_multipliers[0] == pytest.approx(one.noise_multipliers[0], rel=1e-8)


def test_label_counts_have_their_own_sensitivity():
    found = accounting.calibrate(
        epsilon=1, delta=1e-5, weights=[1], sensitivity=3.0, label_share=0.5, label_sensitivity=1.0
    )
    assert found.sigmas[0] == pytest.approx(3 * found.label_sigma, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *[("epsilon", value) for value in (0, -1, math.nan, 1e6, 1e-4, -math.inf)],
        *[("delta", value) for value in (0, 1, -1, math.nan, math.inf)],
        *[("weights", value) for value in ([], [0.0], [-1.0, 2.0], [math.nan], [math.inf], [1e-12, 1.0])],
        *[("sensitivity", value) for value in (0.0, -1.0, math.nan, math.inf)],
        *[("label_sensitivity", value) for value in (0.0, math.nan)],
        *[("label_share", value) for value in (1.0, -0.1, math.nan)],
    ],
)
def test_bad_values_are_refused_by_name(name, bad):
    fine = {"epsilon": 1.0, "delta": 1e-5, "weights": [1.0], "sensitivity": 1.0}
    key = {"label_share": "label_counts.budget"}.get(name, name)
    with pytest.raises(RecipeError, match=key):
        accounting.calibrate(**(fine | {name: bad}))  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"unit": "user"}, {"adjacency": "zero-out"}, {"votes_per_record": 0}])
def test_bad_units_are_refused(changed):
    fine = {"unit": "record", "adjacency": "replace-one", "votes_per_record": 1}
    with pytest.raises(RecipeError, match=next(iter(changed))):
        accounting.sensitivity(**(fine | changed))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="votes_per_record"):
        accounting.sensitivity(**(fine | {"votes_per_record": math.nan}))  # type: ignore[arg-type]


def test_a_schedule_refuses_what_is_never_made():
    good = accounting.calibrate(epsilon=1, delta=1e-5, weights=[1, 1], sensitivity=1.0)
    for bad in ({"sigmas": (1.0, 0.0)}, {"sigmas": (1.0, math.nan)}, {"sigmas": (1.0,)}, {"sensitivity": math.nan}):
        with pytest.raises(RecipeError):
            dataclasses.replace(good, **bad)
    with pytest.raises(RecipeError, match="label_sigma"):
        dataclasses.replace(good, label_sigma=1.0)


def test_infinite_epsilon_is_spelled_out():
    schedule = accounting.calibrate(epsilon=math.inf, delta=1e-5, weights=[1, 1], sensitivity=1.0, label_share=0.1)
    assert schedule.sigmas == schedule.noise_multipliers == (0.0, 0.0)
    assert schedule.label_sigma == schedule.label_noise_multiplier == 0.0
    assert accounting.spent_epsilon(schedule.noise_multipliers, 1e-5) == math.inf
    assert accounting.spent_delta(schedule.noise_multipliers, 3.0) == 1.0
    assert isinstance(accounting.dp_event(schedule.noise_multipliers), dp_accounting.NonPrivateDpEvent)
    accounting.check_schedule(schedule, math.inf, 1e-5)


def test_nothing_spent_is_nothing():
    assert accounting.spent_epsilon([], 1e-5) == accounting.numeric_epsilon([], 1e-5) == 0.0
    assert accounting.spent_delta([], 0.0) == 0.0
    assert accounting.spent_epsilon([1e6], 0.5) == 0.0
    for bad in ([-1.0], [math.nan], [math.inf]):
        with pytest.raises(RecipeError):
            accounting.spent_epsilon(bad, 1e-5)


def test_dp_event_is_what_dp_accounting_composes():
    schedule = accounting.calibrate(epsilon=2, delta=1e-5, weights=[1, 2], sensitivity=1.0)
    accountant = pld.PLDAccountant()
    accountant.compose(accounting.dp_event(schedule.noise_multipliers))
    assert accountant.get_epsilon(1e-5) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("multipliers", [[4.0], [7.0, 3.5, 2.25], [0.3, 11.1]])
def test_noise_that_is_asked_for_is_never_less(multipliers, share):
    """Sigma is rounded up, what is claimed of it down, and label counts have their share of the whole."""
    norm, label_norm = math.sqrt(2), math.sqrt(3)
    found = accounting.fixed(
        noise_multipliers=multipliers, sensitivity=norm, label_share=share, label_sensitivity=label_norm
    )
    for asked, sigma, claimed in zip(multipliers, found.sigmas, found.noise_multipliers, strict=True):
        assert Fraction(sigma) >= Fraction(asked * norm) * (1 - Fraction(1, 2**50))
        assert Fraction(claimed) * Fraction(norm) <= Fraction(sigma)
        assert claimed == pytest.approx(asked, rel=2**-29)
    squares = [z**-2 for z in found.all_multipliers]
    assert len(squares) == len(multipliers) + (share > 0)
    if share:
        assert squares[0] / sum(squares) == pytest.approx(share, rel=1e-8)
        assert found.label_sigma == pytest.approx(found.label_noise_multiplier * label_norm)


def test_noise_as_calibrated_gives_its_schedule_again():
    wanted = accounting.calibrate(epsilon=2, delta=1e-5, weights=[1, 2, 4], sensitivity=math.sqrt(2))
    found = accounting.fixed(noise_multipliers=wanted.noise_multipliers, sensitivity=math.sqrt(2))
    assert found.noise_multipliers == pytest.approx(wanted.noise_multipliers, rel=2**-29)
    assert accounting.spent_epsilon(found.all_multipliers, 1e-5) <= 2


@pytest.mark.parametrize("bad", [[], [0.0], [-1.0], [math.inf], [1.0, math.nan]])
def test_noise_that_is_none_is_refused(bad):
    with pytest.raises(RecipeError, match="noise_multiplier"):
        accounting.fixed(noise_multipliers=bad, sensitivity=1.0)
