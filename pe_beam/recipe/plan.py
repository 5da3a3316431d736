"""Plans the budget and the noise of a run from declared values alone, before any data is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.numbers import json_number
from pe_beam.privacy import accounting, noise
from pe_beam.privacy.subsampled import Spending
from pe_beam.recipe.ancestry import added_to, costs_apart, with_ancestors
from pe_beam.recipe.bounds import measurement_sensitivity, most_of_a_label, votes_bound
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.measured import cells_of_step, measured_steps
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.parts import new_embedder
from pe_beam.recipe.warning import more_samples, warnings_of
from pe_beam.selection.threshold import threshold_in_votes


@dataclass(frozen=True, kw_only=True)
class StartPlan:
    """What the releases before a run have spent, and what comes of it together with the run.

    Attributes:
      recipe: of the run.
      epsilon: of the run with the releases whose cost is added; inf if the run is NOT PRIVATE.
      delta: the largest of theirs.
    """

    recipe: Recipe
    epsilon: float
    delta: float

    def together(self, spent: Sequence[Spending]) -> tuple[float, float]:
        """Returns epsilon and delta of some of the run's spendings, with the releases whose cost is added."""
        return with_ancestors(self.recipe, spent)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON: which release it is, how many are added, the sum, and the costs that are stated apart."""
        start = self.recipe.evolution.start
        assert start is not None and start.found is not None
        return {
            "release": start.found.digest,
            "declared": start.declared,
            "promise": start.found.promise,
            "states": start.found.states,
            "releases_added": len(added_to(self.recipe)),
            "epsilon": json_number(self.epsilon),
            "delta": self.delta,
            "apart": costs_apart(self.recipe),
        }


@dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """The noise of one step of `privacy.measure`.

    Attributes:
      name: of the step.
      budget: its share of the budget.
      sigma: in votes.
      sensitivity: in votes.
      noise_multiplier: sigma / sensitivity, rounded down.
      epsilon: of the step by itself, at the recipe's delta.
      cell_sigma: standard deviation of the noise on one count, in records; of clients in those that have one record.
        What a tree counts in place of pairs has another.
      cells: of a column, a pair or a clique that it counts, on average; at most, where groups are fewer if noise is.
      expected_error: how far noise alone moves the shares of these cells: expected total variation distance before
        anything is made of them, 1 at most. None without data.expected_records, and for clients.
    """

    name: str
    budget: float
    sigma: float
    sensitivity: float
    noise_multiplier: float
    epsilon: float
    cell_sigma: float
    cells: float
    expected_error: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON. Infinity is "inf"."""
        return asdict(self) | {"epsilon": json_number(self.epsilon)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a recipe.

    Attributes:
      epsilon: largest epsilon that the run spends: privacy.epsilon, or the epsilon of privacy.noise_multiplier.
      schedule: sigma (votes) and noise multiplier of every iteration and of the initial measurement.
      candidates: sizes of populations 0 to T.
      votes_per_candidate: expected exact votes of a candidate in each iteration; None without
        data.expected_records.
      chance_of_noise: probability that noise alone passes the threshold, for each iteration; None if a threshold
        is auto.
      generator_calls: number of candidates and variations to make, including lookahead.
      delta: privacy.delta.
      warnings: warnings for the user before budget is spent.
      notes: what else is worth knowing, and no fault.
      unsampled: the schedule without sampling, if a share of the units votes.
      start: what releases before the run have spent (`StartPlan`); None: it starts at random.
      measurements: the steps of `privacy.measure`. The schedule has what they spend together, as one.

    >>> from pe_beam.recipe.loading import load_recipe
    >>> plan = make_plan(load_recipe("digits", ["evolution.iterations=3"]))
    >>> len(plan.schedule.sigmas), plan.candidates[-1], round(plan.epsilons[-1], 6)
    (3, 1000, 1.0)
    """

    epsilon: float
    schedule: accounting.NoiseSchedule
    candidates: list[int]
    votes_per_candidate: list[float] | None
    chance_of_noise: list[float] | None
    generator_calls: int
    delta: float
    warnings: list[str]
    notes: list[str]
    unsampled: accounting.NoiseSchedule | None = None
    start: StartPlan | None = None
    measurements: Sequence[MeasurementPlan] = ()

    @functools.cached_property
    def epsilons(self) -> list[float]:
        """Epsilon spent after iterations 1 to T, including the initial measurement and releases that are added."""
        spent = self.schedule.spendings
        before = len(spent) - len(self.schedule.sigmas)  # the initial measurement comes first
        return [self.epsilon_of(spent[: before + t]) for t in range(1, len(spent) - before + 1)]

    @property
    def votes_over_sigma(self) -> list[float] | None:
        """Expected votes of a candidate over sigma in each iteration; None without a guess of records, or noise."""
        if self.votes_per_candidate is None or not all(self.schedule.sigmas):
            return None
        return [votes / sigma for votes, sigma in zip(self.votes_per_candidate, self.schedule.sigmas, strict=True)]

    @property
    def epsilon_of_measurement(self) -> float:
        """Epsilon of what is measured before iteration 1, by itself; 0 if nothing is."""
        multiplier = self.schedule.label_noise_multiplier
        return 0.0 if multiplier is None else accounting.spent_epsilon([multiplier], self.delta)

    def epsilon_of(self, spent: Sequence[Spending]) -> float:
        """Returns the epsilon of some of the run's spendings, including releases that are added."""
        if self.start is None:
            return accounting.spent_epsilon(spent, self.delta)
        return self.start.together(spent)[0]

    @property
    def dp_event(self) -> Any:
        """Returns the exact dp_accounting event of the whole run."""
        return accounting.dp_event(self.schedule.spendings)

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as one JSON object. Infinity is "inf"."""
        return {
            "epsilon": json_number(self.epsilon),
            "delta": self.delta,
            "sigma": list(self.schedule.sigmas),
            "noise_multiplier": list(self.schedule.noise_multipliers),
            "sensitivity": self.schedule.sensitivity,
            "label_shares_noise_multiplier": self.schedule.label_noise_multiplier,
            **({"measurements": [each.to_json() for each in self.measurements]} if self.measurements else {}),
            "epsilon_after_iteration": [json_number(e) for e in self.epsilons],
            "candidates": self.candidates,
            "expected_votes_per_candidate": self.votes_per_candidate,
            "expected_votes_over_sigma": self.votes_over_sigma,
            "chance_that_noise_passes_threshold": self.chance_of_noise,
            "generator_calls": self.generator_calls,
            **({} if self.unsampled is None else {"sampling": self._trade(self.unsampled)}),
            **({} if self.start is None else {"start": self.start.to_json()}),
            "warnings": self.warnings,
            "notes": self.notes,
        }

    def _trade(self, unsampled: accounting.NoiseSchedule) -> dict[str, Any]:
        """Returns what sampling gives and takes: less noise, and fewer votes."""
        rate, votes = self.schedule.sampling_rate, self.votes_per_candidate
        sides = {"sampled": (self.schedule, 1.0), "unsampled": (unsampled, 1 / rate)}
        return {"sampling_rate": rate} | {
            name: {
                "sigma": list(schedule.sigmas),
                "expected_votes_over_sigma": None
                if votes is None or not all(schedule.sigmas)
                else [times * vote / sigma for vote, sigma in zip(votes, schedule.sigmas, strict=True)],
            }
            for name, (schedule, times) in sides.items()
        }


def make_plan(recipe: Recipe | str | Path) -> Plan:
    """Fixes the noise of a run and computes its plan. Raises RecipeError for an impossible budget.

    Args:
      recipe: from `load_recipe`, or what it takes.
    """
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    privacy, evolution = recipe.privacy, recipe.evolution
    sensitivity = accounting.sensitivity(
        unit=recipe.vote_unit, adjacency=privacy.adjacency, votes_per_record=votes_bound(recipe)
    )
    schedule, epsilon = _schedule(recipe, sensitivity, float(privacy.sampling_rate))
    measurements = _measurements(recipe, schedule)
    for sigma in (*schedule.sigmas, schedule.label_sigma or 0.0, *(each.sigma for each in measurements)):
        noise.refuse_unless_drawn(sigma, recipe.vote_unit)
    accounting.check_schedule(schedule, epsilon, privacy.delta)
    sizes = evolution.populations()
    votes = _expected_votes(recipe, sizes)
    chances = _chances(recipe, list(schedule.sigmas))
    return Plan(
        epsilon=epsilon,
        schedule=schedule,
        candidates=sizes,
        votes_per_candidate=votes,
        chance_of_noise=chances,
        generator_calls=evolution.generator_calls(range(evolution.iterations + 1)),
        delta=privacy.delta,
        warnings=warnings_of(recipe, schedule, votes),
        notes=more_samples(recipe) if recipe.evolution.repeats == "modelled" else [],
        unsampled=None if privacy.sampling_rate == 1 else _schedule(recipe, sensitivity, 1.0)[0],
        start=_start(recipe, schedule, epsilon),
        measurements=measurements,
    )


def _measurements(recipe: Recipe, schedule: accounting.NoiseSchedule) -> list[MeasurementPlan]:
    """Returns the steps of `privacy.measure` with their noise. Together they spend what the schedule has for them."""
    if recipe.privacy.measure is None:
        return []
    assert schedule.label_noise_multiplier is not None
    embedder, privacy, records = new_embedder(recipe), recipe.privacy, recipe.data.expected_records
    sizes, slices = embedder.marginal_sizes(), list(embedder.marginal_slices().values())
    steps = measured_steps(recipe, len(sizes))
    norms = [
        accounting.sensitivity(unit=recipe.vote_unit, adjacency=privacy.adjacency, votes_per_record=each.norm_squared)
        for each in steps
    ]
    noises = accounting.divided(
        noise_multiplier=schedule.label_noise_multiplier,
        shares=[each.budget for each in steps],
        sensitivities=norms,
    )
    found = []
    for step, norm, (sigma, multiplier) in zip(steps, norms, noises, strict=True):
        cells = cells_of_step(recipe, step.name, list(sizes.values()), slices)
        of_cell = sigma / step.unit * (1.0 if recipe.vote_unit == "record" else math.sqrt(step.norm_squared))
        error = None
        if records is not None and recipe.vote_unit == "record":
            error = min(1.0, cells * of_cell / records / math.sqrt(2 * math.pi))
        found.append(
            MeasurementPlan(
                name=step.name,
                budget=step.budget,
                sigma=sigma,
                sensitivity=norm,
                noise_multiplier=multiplier,
                epsilon=accounting.spent_epsilon([multiplier], privacy.delta),
                cell_sigma=of_cell,
                cells=cells,
                expected_error=error,
            )
        )
    return found


def _start(recipe: Recipe, schedule: accounting.NoiseSchedule, epsilon: float) -> StartPlan | None:
    """Returns what the releases before a run come to with its plan, or None for a run that starts at random."""
    if recipe.evolution.start is None:
        return None
    if recipe.private and not added_to(recipe):
        return StartPlan(recipe=recipe, epsilon=epsilon, delta=recipe.privacy.delta)
    together, delta = with_ancestors(recipe, schedule.spendings)
    return StartPlan(recipe=recipe, epsilon=together, delta=delta)


def _schedule(recipe: Recipe, sensitivity: float, sampling_rate: float) -> tuple[accounting.NoiseSchedule, float]:
    """Returns the noise schedule of a recipe, and its epsilon."""
    privacy = recipe.privacy
    about: dict[str, Any] = {
        "sensitivity": sensitivity,
        "label_share": privacy.label_budget(),
        "label_sensitivity": measurement_sensitivity(recipe),
        "sampling_rate": sampling_rate,
    }
    if privacy.epsilon is not None:
        weights = privacy.weights or [1.0] * recipe.evolution.iterations
        made = accounting.calibrate(epsilon=privacy.epsilon, delta=privacy.delta, weights=weights, **about)
        return made, privacy.epsilon
    given = privacy.multipliers(recipe.evolution.iterations)
    assert given is not None
    made = accounting.fixed(noise_multipliers=given, **about)
    epsilon = accounting.spent_epsilon(made.spendings, privacy.delta)
    if not 1e-3 <= epsilon <= 1000:
        raise RecipeError(
            f"privacy.noise_multiplier: comes to epsilon {epsilon:.4g} at delta {privacy.delta!r}; 0.001 to 1000 is "
            "allowed"
        )
    return made, epsilon


def _expected_votes(recipe: Recipe, sizes: list[int]) -> list[float] | None:
    records = recipe.data.expected_records
    if records is None:
        return None
    k = recipe.evolution.votes_per_record
    votes = [1 if k == 1 else min(k, most_of_a_label(recipe, t)) for t in range(len(sizes) - 1)]
    share = recipe.privacy.sampling_rate
    return [records * share * each / size for each, size in zip(votes, sizes, strict=False)]


def _chances(recipe: Recipe, sigmas: list[float]) -> list[float] | None:
    chances = []
    for iteration, sigma in enumerate(sigmas, start=1):
        height = threshold_in_votes(recipe.evolution.turn(iteration).threshold, sigma)
        if height is None:
            return None
        above = 0.5 * math.erfc(height / sigma / math.sqrt(2)) if sigma else float(height < 0)
        chances.append(above)
    return chances
