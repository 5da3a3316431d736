"""Budget -> noise and noise -> budget, by exact Gaussian accounting; checked by a numeric second method.

T Gaussian rounds with noise multipliers z_t act as one with mu^2 = sum 1/z_t^2 (Dong, Roth and Su 2019). The
rounded Gaussian is post-processing of the Gaussian mechanism, so this accounting holds for it as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pe_beam.errors import RecipeError

# Root finding inside dp-accounting stops at 1e-12; noise is raised by more than that and then rounded up.
_SAFETY = 1 + 1e-9
_CHECK_TOLERANCE = 5e-3


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The noise of a run, fixed before any data is read.

    Attributes:
      sigmas: standard deviation in votes, one an iteration; all 0 at epsilon = inf.
      noise_multipliers: sigma over sensitivity, rounded down.
      label_sigma: the same for bought label counts, or None.
      label_noise_multiplier: likewise.
      sensitivity: L2 sensitivity of the vote histogram, in votes.
    """

    sigmas: tuple[float, ...]
    noise_multipliers: tuple[float, ...]
    label_sigma: float | None
    label_noise_multiplier: float | None
    sensitivity: float


def sensitivity(*, unit: str, adjacency: str, votes_per_record: int) -> float:
    """L2 sensitivity of the vote histogram, in votes.

    A record has k votes of 1, norm sqrt(k); a client's vote has norm 1. Replacing one is at most sqrt(2) times
    that, because votes are not negative: |u - v|^2 = |u|^2 + |v|^2 - 2 u.v and u.v >= 0.

    Raises:
      RecipeError: an unknown unit or adjacency, or fewer than one vote.

    >>> sensitivity(unit="record", adjacency="add-or-remove-one", votes_per_record=4)
    2.0
    """
    if unit not in ("record", "client"):
        raise RecipeError(f"privacy.unit: {unit!r} is not allowed; record or client is wanted")
    if adjacency not in ("add-or-remove-one", "replace-one"):
        raise RecipeError(f"privacy.adjacency: {adjacency!r} is not allowed")
    if not 1 <= votes_per_record < math.inf:
        raise RecipeError(f"evolution.votes_per_record: {votes_per_record!r} is not allowed; 1 or more is wanted")
    norm = math.sqrt(votes_per_record) if unit == "record" else 1.0
    return norm * (math.sqrt(2.0) if adjacency == "replace-one" else 1.0)


def calibrate(
    *,
    epsilon: float,
    delta: float,
    weights: Sequence[float],
    sensitivity: float,
    label_share: float = 0.0,
    label_sensitivity: float | None = None,
) -> NoiseSchedule:
    """The least noise that keeps (epsilon, delta) over all iterations, rounded up.

    Args:
      epsilon: 0.001 to 1000, or inf for no noise.
      delta: above 0 and below 1.
      weights: one above 0 for each iteration: its share of mu^2 = sum 1/z^2.
      sensitivity: of the vote histogram, in votes.
      label_share: share of mu^2 that label counts get, 0 (not bought) to below 1.
      label_sensitivity: of the label counts, in votes; default: as `sensitivity`.

    Raises:
      RecipeError: a value out of its range.
    """
    _check_range("privacy.epsilon", epsilon, epsilon == math.inf or 1e-3 <= epsilon <= 1000, "0.001 to 1000, or inf")
    _check_range("privacy.delta", delta, 0 < delta < 1, "above 0 and below 1")
    _check_range("sensitivity", sensitivity, 0 < sensitivity < math.inf, "above 0")
    _check_range("privacy.label_counts.budget", label_share, 0 <= label_share < 1, "0 to below 1")
    usable = len(weights) > 0 and all(0 < weight < math.inf for weight in weights)
    _check_range("privacy.weights", list(weights), usable, "one number above 0 for each iteration")
    if epsilon == math.inf:
        none = None if label_share == 0 else 0.0
        zeros = (0.0,) * len(weights)
        return NoiseSchedule(
            sigmas=zeros,
            noise_multipliers=zeros,
            label_sigma=none,
            label_noise_multiplier=none,
            sensitivity=sensitivity,
        )
    from dp_accounting import gaussian_mechanism

    whole = gaussian_mechanism.get_sigma_gaussian(epsilon, delta) * _SAFETY
    total = math.fsum(weights)
    shares = [weight / total * (1 - label_share) for weight in weights]
    pairs = [_rounded(whole / math.sqrt(share), sensitivity) for share in shares]
    label: tuple[float | None, float | None] = (None, None)
    if label_share:
        label = _rounded(whole / math.sqrt(label_share), label_sensitivity or sensitivity)
    return NoiseSchedule(
        sigmas=tuple(sigma for sigma, _ in pairs),
        noise_multipliers=tuple(multiplier for _, multiplier in pairs),
        label_sigma=label[0],
        label_noise_multiplier=label[1],
        sensitivity=sensitivity,
    )


def _check_range(name: str, value: object, fine: bool, allowed: str) -> None:
    if not fine:
        raise RecipeError(f"{name}: {value!r} is not allowed; {allowed} is wanted")


def _rounded(multiplier: float, sensitivity: float) -> tuple[float, float]:
    """Sigma rounded up to 30 significant bits, so that it is exact on any grid; the multiplier it gives, down."""
    mantissa, exponent = math.frexp(multiplier * sensitivity)
    sigma = math.ldexp(math.ceil(math.ldexp(mantissa, 30)), exponent - 30)
    return sigma, sigma / sensitivity * (1 - 1e-15)


def _mu(noise_multipliers: Iterable[float]) -> float:
    values = list(noise_multipliers)
    if any(not 0 <= value < math.inf for value in values):
        raise ValueError("noise multipliers: finite, 0 or more")
    if 0 in values:
        return math.inf
    return math.sqrt(math.fsum(1 / value**2 for value in values))


def spent_epsilon(noise_multipliers: Iterable[float], delta: float) -> float:
    """Epsilon at delta of Gaussian mechanisms run one after the other: 0 if there are none, inf without noise."""
    mu = _mu(noise_multipliers)
    if mu in (0, math.inf):
        return mu
    from dp_accounting import gaussian_mechanism

    return float(gaussian_mechanism.get_epsilon_gaussian(1 / mu, delta))


def dp_event(noise_multipliers: Iterable[float]) -> Any:
    """The exact dp_accounting event of Gaussian mechanisms run one after the other."""
    import dp_accounting

    values = list(noise_multipliers)
    if 0 in values:
        return dp_accounting.NonPrivateDpEvent()
    return dp_accounting.ComposedDpEvent([dp_accounting.GaussianDpEvent(value) for value in values])


def numeric_epsilon(noise_multipliers: Sequence[float], delta: float, *, near: float) -> float:
    """Epsilon by a numeric privacy loss distribution: losses discretised upwards and convolved round by round.

    A method that shares nothing with the closed form. Rounding upwards on a grid of `near` * 1e-4 can only
    overstate; over T rounds by less than T * near * 1e-4.

    Args:
      noise_multipliers: above 0, one a mechanism.
      delta: above 0 and below 1.
      near: an epsilon of about the size expected; sets the grid.
    """
    from dp_accounting.pld import privacy_loss_distribution

    composed = None
    for value in sorted(set(noise_multipliers)):
        one = privacy_loss_distribution.from_gaussian_mechanism(value, value_discretization_interval=near * 1e-4)
        count = list(noise_multipliers).count(value)
        many = one.self_compose(count) if count > 1 else one
        composed = many if composed is None else composed.compose(many)
    return float(composed.get_epsilon_for_delta(delta)) if composed is not None else 0.0


def check_schedule(schedule: NoiseSchedule, epsilon: float, delta: float) -> None:
    """Refuses a schedule that either method says overspends (the numeric one within its stated grid).

    Raises:
      RecipeError: the methods disagree, or the budget is exceeded.
    """
    if epsilon == math.inf:
        return
    first = schedule.label_noise_multiplier
    multipliers = [*([] if first is None else [first]), *schedule.noise_multipliers]
    exact = spent_epsilon(multipliers, delta)
    if exact > epsilon:
        raise RecipeError(f"privacy.epsilon: the noise would spend {exact!r}, more than {epsilon!r}")
    if len(set(multipliers)) > 64:
        return  # hundreds of different rounds: the numeric method would take minutes
    numeric = numeric_epsilon(multipliers, delta, near=epsilon)
    if not abs(numeric - exact) <= _CHECK_TOLERANCE * epsilon:
        raise RecipeError(f"privacy.epsilon: accounting by two methods disagrees ({exact!r} and {numeric!r})")
