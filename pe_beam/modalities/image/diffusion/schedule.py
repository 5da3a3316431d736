"""Settings that change by iteration: steps, guidance, and how far a variation goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pe_beam.contracts.generator import Step
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.options import DiffusersOptions
from pe_beam.modalities.image.diffusion.painter import Dials
from pe_beam.selection.schedules import resolve_schedule


class Schedules:
    """The schedules of `vary`, one number per iteration."""

    def __init__(self, options: DiffusersOptions, iterations: int) -> None:
        """Raises RecipeError if a schedule does not fit `iterations`, or has a number that is not allowed."""
        own, random = options.vary, options.random

        def by_iteration(name: str, value: Any, fine: Callable[[float], bool], allowed: str) -> list[float]:
            made = resolve_schedule(value, iterations, name=f"generator.vary.{name}")
            if isinstance(value, dict) and name in ("steps", "skip"):
                made = [float(round(each)) for each in made]
            wrong = [each for each in made if not fine(each)]
            if wrong:
                raise RecipeError(f"generator.vary.{name}: {wrong[0]:g} is not allowed; {allowed}")
            return made

        steps = random.steps if own.steps is None else own.steps
        whole = "whole numbers from 1 to 10000"
        self._steps = by_iteration("steps", steps, lambda x: x == int(x) and 1 <= x <= 10_000, whole)
        guidance = random.guidance if own.guidance is None else own.guidance
        self._guidance: list[float] | list[None] = [None] * iterations
        if guidance is not None:
            self._guidance = by_iteration("guidance", guidance, lambda x: x >= 0, "0 or more")
        self._redraw = by_iteration("redraw", own.redraw, lambda x: 0 <= x <= 1, "from 0 to 1")
        self._strength: list[float] | None = None
        if own.strength != "degree":
            self._strength = by_iteration("strength", own.strength, lambda x: 0 <= x <= 1, "from 0 to 1")
        self._skip: list[float] | None = None
        if own.skip is not None:
            self._skip = by_iteration("skip", own.skip, lambda x: x == int(x) >= 0, "whole numbers from 0")
            beyond = [skip for skip, steps in zip(self._skip, self._steps, strict=True) if skip > steps]
            if beyond:
                raise RecipeError(f"generator.vary.skip: {beyond[0]:g} is more than there are steps")

    def redraw(self, step: Step) -> float:
        """Returns the probability that variables or the class are drawn again."""
        return self._redraw[step.iteration - 1]

    def dials(self, step: Step) -> Dials:
        """Returns the settings of a variation.

        Of n steps, n - floor(n strength) are left out, as in Stable Diffusion. A strength above 0 does at least one
        step. Otherwise a variation would equal its parent.
        """
        place = step.iteration - 1
        steps, guidance = int(self._steps[place]), self._guidance[place]
        if self._skip is not None:
            return Dials(steps=steps, guidance=guidance, first=int(self._skip[place]))
        strength = step.degree if self._strength is None else self._strength[place]
        if 0 < strength < 1 and int(steps * strength) < 1:
            strength = min((1 + 1e-6) / steps, 1.0)
        first = max(steps - min(int(steps * strength), steps), 0)
        return Dials(steps=steps, guidance=guidance, first=first, strength=strength)
