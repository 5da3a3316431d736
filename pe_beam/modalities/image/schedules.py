"""Options of image generators that change over the iterations."""

from __future__ import annotations

import math

from pe_beam.contracts.generator import Step
from pe_beam.errors import RecipeError
from pe_beam.modalities.variables import Schedule
from pe_beam.selection.schedules import resolve_schedule


def settings(value: Schedule, iterations: int, *, name: str, least: float = 0.0, most: float = math.inf) -> list[float]:
    """Returns the setting of each iteration. Each must be from `least` to `most`.

    Args:
      value: the schedule in the recipe.
      iterations: T.
      name: the recipe key, for messages.
      least: the smallest that is allowed.
      most: the largest that is allowed.

    Raises:
      RecipeError: the value is not a schedule, has another length, or has a number out of the range.

    >>> settings([3, 2], 2, name="generator.neighbours")
    [3.0, 2.0]
    """
    found = resolve_schedule(value, iterations, name=name)
    wrong = [number for number in found if not least <= number <= most]
    if wrong:
        allowed = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        raise RecipeError(f"{name}: {wrong[0]:g} is not allowed; {allowed} is wanted in every iteration")
    return found


def setting(value: Schedule, step: Step, *, name: str, least: float = 0.0, most: float = math.inf) -> float:
    """Returns the setting of one iteration; see `settings`."""
    return settings(value, step.iterations, name=name, least=least, most=most)[step.iteration - 1]
