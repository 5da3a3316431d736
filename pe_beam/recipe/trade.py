"""The trade of a plan: the epsilon that iterations and candidates need for their votes to be heard."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pe_beam.privacy import accounting
from pe_beam.recipe.advice import WANTED
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan

_ITERATIONS = (1, 2, 4, 8, 16)
_TIMES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class Trade:
    """The epsilon at which a candidate's expected votes are `WANTED` times sigma.

    Attributes:
      iterations: rows, the plan's own T among them.
      populations: columns, the plan's own population among them.
      epsilon: by row and column. Releases that a run starts from are not in it.
      delta: privacy.delta.
      votes_over_sigma: `WANTED`.
      chosen: the plan's own (iterations, population, epsilon).
    """

    iterations: list[int]
    populations: list[int]
    epsilon: list[list[float]]
    delta: float
    votes_over_sigma: float
    chosen: tuple[int, int, float]

    def to_json(self) -> dict[str, Any]:
        """Returns it as one JSON object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Returns it as a chart of text: what the plan's epsilon pays for has a star, and the plan's own is in []."""
        turns, size, budget = self.chosen
        found = [
            f"epsilon for {self.votes_over_sigma:g} expected votes a candidate over sigma; *: within epsilon "
            f"{budget:.4g}; []: this plan's",
            "iterations \\ candidates" + "".join(f"{own:>11}" for own in self.populations),
        ]
        for iterations, row in zip(self.iterations, self.epsilon, strict=True):
            cells = []
            for own, epsilon in zip(self.populations, row, strict=True):
                cell = f"{epsilon:.2g}" + ("*" if epsilon <= budget else " ")
                cells.append(f"[{cell}]" if (iterations, own) == (turns, size) else f"{cell} ")
            found.append(f"{iterations:>23}" + "".join(f"{cell:>11}" for cell in cells))
        return found


def trade_of(recipe: Recipe, plan: Plan) -> Trade | None:
    """Returns the trade of a plan with its own share for measurements.

    None without a guess of records, without noise, or where a sample of the units votes.
    """
    votes, epsilon = plan.votes_per_candidate, plan.epsilon
    if votes is None or not recipe.noisy or recipe.privacy.sampling_rate < 1:
        return None
    turns, size = recipe.evolution.iterations, plan.candidates[0]
    iterations = sorted({*_ITERATIONS, turns})
    populations = sorted({max(1, round(size * times)) for times in _TIMES})
    left = 1 - recipe.privacy.label_budget()

    def needed(rounds: int, candidates: int) -> float:
        multiplier = votes[0] * size / candidates / WANTED / plan.schedule.sensitivity
        return accounting.spent_epsilon([multiplier * math.sqrt(left / rounds)], recipe.privacy.delta)

    return Trade(
        iterations=iterations,
        populations=populations,
        epsilon=[[needed(rounds, own) for own in populations] for rounds in iterations],
        delta=recipe.privacy.delta,
        votes_over_sigma=WANTED,
        chosen=(turns, size, epsilon),
    )
