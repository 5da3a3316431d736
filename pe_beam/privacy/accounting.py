"""Computes noise from budget and budget from noise, by exact Gaussian accounting on the safe side (privacy rule 5).

T Gaussian rounds with noise multipliers z_t act as one with mu^2 = sum 1/z_t^2 (Dong, Roth and Su 2019). The
rounded Gaussian is post-processing of the Gaussian mechanism, so this accounting holds for it without change.
dp-accounting finds the roots. Each root is then checked at 200 bits, and moved until delta is really kept.

Rounds on a Poisson sample of the units have no closed form: `subsampled` composes them numerically, on the safe side,
and dp-accounting's own accountant is the second method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.privacy.exact import gaussian_mechanism
from pe_beam.privacy.loss import numeric_epsilon
from pe_beam.privacy.precise import precision
from pe_beam.privacy.subsampled import (
    SAMPLED_ERROR,
    SAMPLED_TOLERANCE,
    Spending,
    amplified_multiplier,
    peer_epsilon,
    subsampled_epsilon,
)

__all__ = [
    "CHECK_TOLERANCE",
    "NoiseSchedule",
    "Spending",
    "calibrate",
    "check_schedule",
    "check_spendings",
    "dp_event",
    "numeric_epsilon",
    "sensitivity",
    "spent_delta",
    "spent_epsilon",
]

# Largest allowed difference of the two methods, as a share of epsilon + mu: ten times the numeric method's usual error.
CHECK_TOLERANCE = 1e-4
_SIGMA_BITS = 30
_EXACT_BITS = 200


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The noise of a run, fixed before any data is read.

    Attributes:
      sigmas: standard deviation in votes, one per iteration; all 0 at epsilon = inf.
      noise_multipliers: sigma / sensitivity, rounded down, so that they never claim more noise than there is.
      label_sigma: sigma of the initial measurement (label counts), in votes; None if nothing is measured.
      label_noise_multiplier: noise multiplier of the initial measurement; None if nothing is measured.
      sensitivity: L2 sensitivity of the vote histogram, in votes.
      sampling_rate: probability with which a unit votes in an iteration. The initial measurement sees all units.

    Raises:
      RecipeError: a value is not finite, noise is negative, or lengths differ.
    """

    sigmas: tuple[float, ...]
    noise_multipliers: tuple[float, ...]
    label_sigma: float | None
    label_noise_multiplier: float | None
    sensitivity: float
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        """Raises RecipeError for values that `calibrate` never returns."""
        _refuse_unless(0 < self.sensitivity < math.inf, "sensitivity", self.sensitivity, "above 0")
        _check_rate(self.sampling_rate)
        same = len(self.sigmas) == len(self.noise_multipliers) > 0
        _refuse_unless(same, "sigmas", self.sigmas, "as many as there are noise_multipliers")
        paired = (self.label_sigma is None) == (self.label_noise_multiplier is None)
        _refuse_unless(paired, "label_sigma", self.label_sigma, "a number exactly if label_noise_multiplier is one")
        label = () if self.label_sigma is None else (self.label_sigma,)
        values = (*label, *self.sigmas, *self.all_multipliers)
        fine = all(0 < value < math.inf for value in values) or not any(values)
        _refuse_unless(fine, "noise", values, "finite numbers, all above 0 or all 0")

    @property
    def all_multipliers(self) -> tuple[float, ...]:
        """All multipliers that are spent. That of the measured label counts is the first."""
        label = self.label_noise_multiplier
        return self.noise_multipliers if label is None else (label, *self.noise_multipliers)

    @property
    def spendings(self) -> tuple[Spending, ...]:
        """All that is spent. The measured label counts, which see all units, are the first."""
        sampled = tuple(Spending(z, self.sampling_rate) for z in self.noise_multipliers)
        return sampled if self.label_noise_multiplier is None else (Spending(self.label_noise_multiplier), *sampled)


def sensitivity(*, unit: str, adjacency: str, votes_per_record: int) -> float:
    """Returns the L2 sensitivity of the vote histogram, in votes. It is never below the true root.

    A record has k votes of 1, with norm sqrt(k); a client's vote has norm 1. Replacement changes votes by at most
    sqrt(2) times that norm, because votes are not negative: |u - v|^2 = |u|^2 + |v|^2 - 2 u.v and u.v >= 0.

    Args:
      unit: the privacy unit, "record" or "client".
      adjacency: the neighbouring relation, "add-or-remove-one" or "replace-one".
      votes_per_record: k, a whole number, 1 or more; it has no effect for clients.

    Raises:
      RecipeError: the unit or the neighbouring relation is unknown, or k is not allowed.

    >>> sensitivity(unit="record", adjacency="add-or-remove-one", votes_per_record=4)
    2.0
    >>> sensitivity(unit="client", adjacency="replace-one", votes_per_record=4)
    1.4142135623730951
    """
    _refuse_unless(unit in ("record", "client"), "privacy.unit", unit, "record or client")
    known = adjacency in ("add-or-remove-one", "replace-one")
    _refuse_unless(known, "privacy.adjacency", adjacency, "add-or-remove-one or replace-one")
    whole = 1 <= votes_per_record < math.inf and int(votes_per_record) == votes_per_record
    _refuse_unless(whole, "evolution.votes_per_record", votes_per_record, "a whole number, 1 or more")
    square = (int(votes_per_record) if unit == "record" else 1) * (2 if adjacency == "replace-one" else 1)
    root = math.sqrt(square)
    return root if Fraction(root) ** 2 >= square else math.nextafter(root, math.inf)


def calibrate(
    *,
    epsilon: float,
    delta: float,
    weights: Sequence[float],
    sensitivity: float,
    label_share: float = 0.0,
    label_sensitivity: float | None = None,
    sampling_rate: float = 1.0,
) -> NoiseSchedule:
    """Returns the smallest noise that keeps (epsilon, delta) over all iterations, rounded up.

    Let z be the multiplier of the composed mechanism and s the label share. Iteration t gets
    z_t = z sqrt(sum w / ((1 - s) w_t)), and label counts get z / sqrt(s). Then sum 1/z_t^2 = 1/z^2.

    Args:
      epsilon: 0.001 to 1000, or inf for no noise.
      delta: above 0 and below 1.
      weights: a number above 0 for each iteration, proportional to its share of mu^2 = sum 1/z^2.
      sensitivity: sensitivity of the vote histogram, in votes.
      label_share: share of mu^2 for label counts, 0 (not measured) to below 1.
      label_sensitivity: sensitivity of the label counts, in votes; default: as `sensitivity`.
      sampling_rate: q, above 0 to 1. Below 1, z is the smallest that keeps epsilon with it.

    Returns:
      The schedule. `spent_epsilon` of its spendings is at most `epsilon`, and less by at most 1e-6 (epsilon + mu)
      (with sampling: 1e-3 epsilon).

    Raises:
      RecipeError: a value is out of its range.
    """
    label_norm = sensitivity if label_sensitivity is None else label_sensitivity
    in_range = epsilon == math.inf or 1e-3 <= epsilon <= 1000
    _refuse_unless(in_range, "privacy.epsilon", epsilon, "0.001 to 1000, or inf")
    _refuse_unless(0 < delta < 1, "privacy.delta", delta, "above 0 and below 1")
    _check_norms(sensitivity, label_norm, label_share)
    _check_rate(sampling_rate)
    shares = _shares(weights, label_share)
    if epsilon == math.inf:
        pairs = [(0.0, 0.0)] * (len(shares) + 1)
        return _schedule(pairs, sensitivity, label_share, sampling_rate)
    with np.errstate(all="ignore"):  # its root search evaluates log(0)
        whole = float(gaussian_mechanism().get_sigma_gaussian(epsilon, delta))
    _refuse_unless(0 < whole < math.inf, "privacy.delta", delta, "a larger number")
    if sampling_rate < 1:
        whole = amplified_multiplier(
            whole, [label_share, *shares], epsilon=epsilon, delta=delta, sampling_rate=sampling_rate
        )
    norms = [label_norm] + [sensitivity] * len(weights)
    raised = 2.0**-40
    while raised < 1e-3:
        pairs = [
            _rounded(whole * (1 + raised) / math.sqrt(share), norm) if share else (0.0, 0.0)
            for share, norm in zip([label_share, *shares], norms, strict=True)
        ]
        schedule = _schedule(pairs, sensitivity, label_share, sampling_rate)
        if spent_epsilon(schedule.spendings, delta) <= epsilon:
            return schedule
        raised *= 4
    raise RecipeError(f"privacy.epsilon: no noise was found that keeps {epsilon!r} at delta {delta!r}")


def fixed(
    *,
    noise_multipliers: Sequence[float],
    sensitivity: float,
    label_share: float = 0.0,
    label_sensitivity: float | None = None,
    sampling_rate: float = 1.0,
) -> NoiseSchedule:
    """Returns the noise of given multipliers, rounded up. Epsilon follows from it.

    Label counts get z with 1/z^2 = s / (1 - s) sum 1/z_t^2, where s is the label share: their share of the whole mu^2.

    Args:
      noise_multipliers: z_t, finite and above 0, one for each iteration.
      sensitivity: sensitivity of the vote histogram, in votes.
      label_share: as in `calibrate`.
      label_sensitivity: as in `calibrate`.
      sampling_rate: as in `calibrate`.

    Returns:
      The schedule. It spends `spent_epsilon` of its spendings.

    Raises:
      RecipeError: a value is out of its range.

    >>> fixed(noise_multipliers=[4.0, 2.0], sensitivity=1.0).sigmas
    (4.0, 2.0)
    """
    label_norm = sensitivity if label_sensitivity is None else label_sensitivity
    values = list(noise_multipliers)
    usable = len(values) > 0 and all(0 < value < math.inf for value in values)
    _refuse_unless(usable, "privacy.noise_multiplier", values, "a finite number above 0 for each iteration")
    _check_norms(sensitivity, label_norm, label_share)
    label = (0.0, 0.0)
    if label_share:
        spent = math.fsum((1 / value) ** 2 for value in values)
        label = _rounded(math.sqrt((1 - label_share) / (label_share * spent)), label_norm)
    pairs = [label, *(_rounded(value, sensitivity) for value in values)]
    return _schedule(pairs, sensitivity, label_share, sampling_rate)


def divided(
    *, noise_multiplier: float, shares: Sequence[float], sensitivities: Sequence[float]
) -> list[tuple[float, float]]:
    """Returns sigma and noise multiplier of mechanisms that together spend at most what one of the multiplier does.

    Args:
      noise_multiplier: z of all together; 0: no noise.
      shares: numbers above 0, proportional to each mechanism's share of 1/z^2.
      sensitivities: of each, in votes.

    >>> divided(noise_multiplier=1.0, shares=[1, 1], sensitivities=[1.0, 2.0])[1][0] >= 2 * 2**0.5
    True
    """
    if noise_multiplier == 0:
        return [(0.0, 0.0) for _ in shares]
    total, most = math.fsum(shares), 1 / Fraction(noise_multiplier) ** 2
    raised = 2.0**-40
    while True:
        found = [
            _rounded(noise_multiplier * (1 + raised) * math.sqrt(total / share), norm)
            for share, norm in zip(shares, sensitivities, strict=True)
        ]
        if sum(1 / Fraction(multiplier) ** 2 for _, multiplier in found) <= most:
            return found
        raised *= 4


def _check_rate(sampling_rate: float) -> None:
    _refuse_unless(0 < sampling_rate <= 1, "privacy.sampling_rate", sampling_rate, "above 0 to 1")


def _check_norms(sensitivity: float, label_sensitivity: float, label_share: float) -> None:
    _refuse_unless(0 < sensitivity < math.inf, "sensitivity", sensitivity, "above 0")
    _refuse_unless(0 < label_sensitivity < math.inf, "label_sensitivity", label_sensitivity, "above 0")
    _refuse_unless(0 <= label_share < 1, "privacy.label_counts.budget", label_share, "0 to below 1")


def _shares(weights: Sequence[float], label_share: float) -> list[float]:
    """Returns each iteration's share of mu^2."""
    usable = len(weights) > 0 and all(0 < weight < math.inf for weight in weights)
    usable = usable and min(weights) >= 1e-9 * max(weights)
    _refuse_unless(
        usable, "privacy.weights", list(weights), "a number above 0 an iteration, the least 1e-9 of the most"
    )
    relative = [weight / max(weights) for weight in weights]
    total = math.fsum(relative)
    return [weight / total * (1 - label_share) for weight in relative]


def _schedule(
    pairs: Sequence[tuple[float, float]], sensitivity: float, label_share: float, sampling_rate: float
) -> NoiseSchedule:
    (label_sigma, label_multiplier), *rest = pairs
    return NoiseSchedule(
        sigmas=tuple(sigma for sigma, _ in rest),
        noise_multipliers=tuple(multiplier for _, multiplier in rest),
        label_sigma=label_sigma if label_share else None,
        label_noise_multiplier=label_multiplier if label_share else None,
        sensitivity=sensitivity,
        sampling_rate=sampling_rate,
    )


def _rounded(multiplier: float, sensitivity: float) -> tuple[float, float]:
    """Returns sigma, rounded up to 30 significant bits, so that it is exact on every grid, and its multiplier.

    The multiplier is sigma / sensitivity, rounded down.
    """
    mantissa, exponent = math.frexp(multiplier * sensitivity)
    sigma = math.ldexp(math.ceil(math.ldexp(mantissa, _SIGMA_BITS)), exponent - _SIGMA_BITS)
    given = sigma / sensitivity
    if Fraction(given) * Fraction(sensitivity) > Fraction(sigma):
        given = math.nextafter(given, 0.0)
    return sigma, given


def spent_epsilon(spent: Iterable[float | Spending], delta: float) -> float:
    """Returns epsilon at delta of Gaussian mechanisms that run one after the other. It is never below the true epsilon.

    Args:
      spent: what each mechanism spends, or its noise multiplier, 0 or more, if it sees all units. Rates below 1 are for
        add-or-remove-one, and for mechanisms that were all fixed before the first.
      delta: above 0 and below 1.

    Returns:
      Epsilon: 0 if there are no mechanisms, inf if one has no noise.

    Raises:
      RecipeError: a value is out of its range.
    """
    spendings = [each if isinstance(each, Spending) else Spending(each) for each in spent]
    values = _checked(each.noise_multiplier for each in spendings)
    for each in spendings:
        _check_rate(each.sampling_rate)
    _refuse_unless(0 < delta < 1, "privacy.delta", delta, "above 0 and below 1")
    if not values or 0 in values:
        return math.inf if values else 0.0
    if any(each.sampling_rate < 1 for each in spendings):
        return min(subsampled_epsilon(spendings, delta), spent_epsilon(values, delta))  # sampling never costs privacy
    mu = math.sqrt(math.fsum((1 / value) ** 2 for value in values))
    if not 0 < mu < math.inf:
        return math.inf if mu else math.nextafter(0.0, 1.0)
    true_delta = _true_delta(values)
    with np.errstate(all="ignore"):  # as above
        found = float(gaussian_mechanism().get_epsilon_gaussian(1 / mu, delta))
    epsilon, step = found, max(found, mu) * 2.0**-50
    # The error of the root is about 1e-12: after a few steps up the bound holds for certain.
    while not true_delta(epsilon) <= delta:
        epsilon, step = found + step, 2 * step
    return epsilon


def spent_delta(noise_multipliers: Iterable[float], epsilon: float) -> float:
    """Returns delta at epsilon of Gaussian mechanisms that run one after the other, rounded up.

    Args:
      noise_multipliers: 0 or more, one per mechanism.
      epsilon: 0 or more; inf allowed.

    Returns:
      Delta: 0 if there are no mechanisms, 1 if one has no noise and epsilon is finite.

    Raises:
      RecipeError: a value is out of its range.
    """
    values = _checked(noise_multipliers)
    _refuse_unless(epsilon >= 0, "privacy.epsilon", epsilon, "0 or more")
    if not values or epsilon == math.inf:
        return 0.0
    if 0 in values:
        return 1.0
    return min(1.0, math.nextafter(float(_true_delta(values)(epsilon)), math.inf))


def _true_delta(values: Sequence[float]) -> Callable[[float], Any]:
    """Returns delta(e) = Phi(mu/2 - e/mu) - exp(e) Phi(-mu/2 - e/mu) at 200 bits (Balle and Wang 2018, theorem 8)."""
    with precision(_EXACT_BITS) as mpmath:
        mu = mpmath.sqrt(mpmath.fsum(1 / mpmath.mpf(value) ** 2 for value in values))

    def true_delta(epsilon: float) -> Any:
        with precision(_EXACT_BITS) as mpmath:
            e = mpmath.mpf(epsilon)
            first, second = mu / 2 - e / mu, -mu / 2 - e / mu
            root = mpmath.sqrt(2)
            return (mpmath.erfc(-first / root) - mpmath.exp(e) * mpmath.erfc(-second / root)) / 2

    return true_delta


def dp_event(spent: Iterable[float | Spending]) -> Any:
    """Returns the exact dp_accounting event of Gaussian mechanisms that run one after the other.

    Args:
      spent: as for `spent_epsilon`.

    Returns:
      A ComposedDpEvent of GaussianDpEvents (empty for no mechanism), those on samples each in a PoissonSampledDpEvent;
      NonPrivateDpEvent if one has no noise.

    Raises:
      RecipeError: a multiplier is negative or not finite.
    """
    spendings = [each if isinstance(each, Spending) else Spending(each) for each in spent]
    values = _checked(each.noise_multiplier for each in spendings)
    import dp_accounting

    if 0 in values:
        return dp_accounting.NonPrivateDpEvent()
    events = [dp_accounting.GaussianDpEvent(value) for value in values]
    return dp_accounting.ComposedDpEvent(
        [
            event if each.sampling_rate == 1 else dp_accounting.PoissonSampledDpEvent(each.sampling_rate, event)
            for event, each in zip(events, spendings, strict=True)
        ]
    )


def check_schedule(schedule: NoiseSchedule, epsilon: float, delta: float) -> None:
    """Refuses a schedule that spends too much, or for which the two accounting methods disagree.

    They may differ by 1e-4 (epsilon + mu), with mu^2 = sum 1/z^2; on samples by 5e-3 epsilon + 1e-3.

    Args:
      schedule: a schedule of `calibrate`.
      epsilon: the budget; inf is never refused.
      delta: above 0 and below 1.

    Raises:
      RecipeError: the budget is exceeded, or the methods disagree.
    """
    if epsilon == math.inf:
        return
    exact = spent_epsilon(schedule.spendings, delta)
    if not exact <= epsilon:
        raise RecipeError(f"privacy.epsilon: the noise would spend {exact!r}, more than {epsilon!r}")
    check_spendings(schedule.spendings, delta)


def check_spendings(spendings: Sequence[Spending], delta: float) -> None:
    """Compares the two accounting methods, which may differ as `check_schedule` says.

    Args:
      spendings: multipliers above 0.
      delta: above 0 and below 1.

    Raises:
      RecipeError: they disagree.
    """
    multipliers = [each.noise_multiplier for each in spendings]
    exact = spent_epsilon(spendings, delta)
    if all(each.sampling_rate == 1 for each in spendings):
        numeric = numeric_epsilon(multipliers, delta)
        mu = math.sqrt(math.fsum((1 / value) ** 2 for value in multipliers))
        tolerance = CHECK_TOLERANCE * (exact + mu)
    else:
        step = 1e-3 * min(1.0, max(exact, 1e-2))  # its error grows with the number of rounds
        numeric = min(peer_epsilon(spendings, delta, step), spent_epsilon(multipliers, delta))
        tolerance = SAMPLED_TOLERANCE * exact + SAMPLED_ERROR
    if not abs(numeric - exact) <= tolerance:
        raise RecipeError(f"privacy.epsilon: accounting by two methods disagrees ({exact!r} and {numeric!r})")


def _checked(noise_multipliers: Iterable[float]) -> list[float]:
    values = list(noise_multipliers)
    _refuse_unless(all(0 <= x < math.inf for x in values), "noise_multiplier", values, "finite numbers, 0 or more")
    return values


def _refuse_unless(fine: bool, name: str, value: object, allowed: str) -> None:
    if not fine:
        raise RecipeError(f"{name}: {value!r} is not allowed; {allowed} is wanted")
