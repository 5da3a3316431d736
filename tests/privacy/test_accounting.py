import math

import pytest

from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy import accounting
from pe_beam.privacy.statement import compose_runs, statement


@pytest.mark.parametrize(
    ("records", "sigmas"),
    [(1_939_290, (15.404, 8.039, 4.245)), (8396, (11.600, 6.211, 3.375)), (75_316, (13.251, 7.002, 3.750))],
)
def test_published_settings(records, sigmas):
    """Ten rounds at epsilon 1, 2, 4 with delta = 1/(n ln n): the exact sigma of each data set."""
    delta = 1 / (records * math.log(records))
    for epsilon, sigma in zip((1, 2, 4), sigmas, strict=True):
        found = accounting.calibrate(epsilon=epsilon, delta=delta, weights=[1] * 10, sensitivity=1.0)
        assert found.sigmas[0] == pytest.approx(sigma, abs=1.1e-3)


@pytest.mark.parametrize("epsilon", [0.01, 0.3, 1, 10, 100, 1000])
@pytest.mark.parametrize("weights", [[1], [1] * 10, [1, 2, 3, 4]])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_never_spends_more_and_two_methods_agree(epsilon, weights, share):
    schedule = accounting.calibrate(
        epsilon=epsilon, delta=1e-5, weights=weights, sensitivity=math.sqrt(2), label_share=share
    )
    first = [schedule.label_noise_multiplier] if share else []
    multipliers = [*first, *schedule.noise_multipliers]
    spent = accounting.spent_epsilon(multipliers, 1e-5)
    assert epsilon * (1 - 1e-6) < spent <= epsilon
    numeric = accounting.numeric_epsilon(multipliers, 1e-5, near=epsilon)
    assert spent * (1 - 1e-6) <= numeric <= spent * 1.005
    accounting.check_schedule(schedule, epsilon, 1e-5)
    for sigma, multiplier in zip(schedule.sigmas, schedule.noise_multipliers, strict=True):
        assert multiplier * schedule.sensitivity <= sigma


def test_check_refuses_too_little_noise():
    schedule = accounting.calibrate(epsilon=1.1, delta=1e-5, weights=[1], sensitivity=1.0)
    with pytest.raises(RecipeError, match="would spend"):
        accounting.check_schedule(schedule, 1.0, 1e-5)


def test_sensitivity_of_units_and_relations():
    of = accounting.sensitivity
    assert of(unit="record", adjacency="add-or-remove-one", votes_per_record=9) == 3
    assert of(unit="record", adjacency="replace-one", votes_per_record=2) == pytest.approx(2)
    assert of(unit="client", adjacency="add-or-remove-one", votes_per_record=9) == 1


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, 1e6])
def test_bad_epsilon(epsilon):
    with pytest.raises(RecipeError, match=r"privacy\.epsilon"):
        accounting.calibrate(epsilon=epsilon, delta=1e-5, weights=[1], sensitivity=1.0)


@pytest.mark.parametrize("delta", [0, 1, -1, math.nan])
def test_bad_delta(delta):
    with pytest.raises(RecipeError, match=r"privacy\.delta"):
        accounting.calibrate(epsilon=1, delta=delta, weights=[1], sensitivity=1.0)


def test_infinite_epsilon_is_spelled_out():
    schedule = accounting.calibrate(epsilon=math.inf, delta=1e-5, weights=[1, 1], sensitivity=1.0)
    assert schedule.sigmas == (0.0, 0.0)
    assert accounting.spent_epsilon(schedule.noise_multipliers, 1e-5) == math.inf
    text = statement(epsilon=math.inf, delta=1e-5, adjacency="replace-one", unit="record", iterations=2)
    assert text.startswith("NOT PRIVATE")


def test_runs_add_up_at_the_largest_delta():
    one = ("record", "add-or-remove-one", 1e-5, [10.0] * 4)
    two = ("record", "add-or-remove-one", 1e-6, [10.0] * 4)
    epsilon, delta = compose_runs([one, two])
    assert delta == 1e-5
    assert epsilon == pytest.approx(accounting.spent_epsilon([10.0] * 8, 1e-5))
    with pytest.raises(InputError, match="adjacency"):
        compose_runs([one, ("record", "replace-one", 1e-5, [10.0])])
