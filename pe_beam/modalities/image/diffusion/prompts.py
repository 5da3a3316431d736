"""Prompts of the generator `diffusers`: one template, one per label, or one per iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.options import DiffusersOptions, Prompt
from pe_beam.modalities.variables import (
    check_dependents,
    check_labels,
    draw_variables,
    fill,
    label_values,
    names_in,
)


class Prompts:
    """The prompts for a model that takes text. A model without text has none."""

    def __init__(self, options: DiffusersOptions, labels: Sequence[str | None]) -> None:
        """Checks templates against labels and variables.

        Raises:
          RecipeError: a label has no template, or a template has an unknown name.
        """
        self._options = options
        if options.random.prompt is None:
            return
        fields = [*(["label"] if labels != [None] else []), *options.label_fields]
        known = [*fields, *options.variables]
        if len(set(known)) != len(known):
            raise RecipeError("generator.variables: a name is used twice; label is taken as well")
        for where, prompt in self._given():
            for template in _templates(where, prompt, labels):
                for name in names_in(template, where=where):
                    if name not in known:
                        allowed = ", ".join(known) or "none"
                        raise RecipeError(f"{where}: {{{name}}} is not known; allowed: {allowed}")
        check_labels(options, labels)
        check_dependents(options, labels, fields)

    def _given(self) -> list[tuple[str, Prompt]]:
        random, vary = self._options.random, self._options.vary
        given: list[tuple[str, Prompt | list[str] | None]] = [
            ("generator.random.prompt", random.prompt),
            ("generator.random.negative_prompt", random.negative_prompt),
            ("generator.vary.negative_prompt", vary.negative_prompt),
        ]
        by_iteration = vary.prompt if isinstance(vary.prompt, list) else [vary.prompt]
        given += [("generator.vary.prompt", one) for one in by_iteration]
        return [(where, prompt) for where, prompt in given if prompt is not None and not isinstance(prompt, list)]

    def check_iterations(self, iterations: int) -> None:
        """Raises RecipeError if there is one template per iteration, and their number is not `iterations`."""
        prompt = self._options.vary.prompt
        if isinstance(prompt, list) and len(prompt) != iterations:
            raise RecipeError(f"generator.vary.prompt: {len(prompt)} templates where {iterations} iterations are")

    def draw(self, label: str | None, stream: np.random.Generator) -> dict[str, str]:
        """Draws the variables of a new candidate. Returns them by name."""
        values = draw_variables(self._options, label, stream)
        return {name: values[name] for name in self._options.variables}

    def texts(self, label: str | None, variables: Mapping[str, str], iteration: int | None) -> tuple[str, str | None]:
        """Returns prompt and negative prompt of a random picture (iteration None), or of a variation (1 to T)."""
        random, vary = self._options.random, self._options.vary
        prompt: Prompt | list[str] | None = random.prompt if iteration is None else vary.prompt
        if isinstance(prompt, list):
            assert iteration is not None
            prompt = prompt[iteration - 1]
        prompt = random.prompt if prompt is None else prompt
        assert prompt is not None
        template = prompt if isinstance(prompt, str) else prompt[str(label)]
        negative = None if iteration is None else vary.negative_prompt
        negative = random.negative_prompt if negative is None else negative
        values = {**label_values(self._options, label), **variables}
        return fill(template, values), None if negative is None else fill(negative, values)


def _templates(where: str, prompt: Prompt, labels: Sequence[str | None]) -> list[str]:
    if isinstance(prompt, str):
        return [prompt]
    missing = [label for label in labels if label not in prompt]
    if missing:
        raise RecipeError(f"{where}: no template for label {missing[0]!r}")
    unknown = sorted(set(prompt) - {label for label in labels if label is not None})
    if unknown:
        raise RecipeError(f"{where}: {unknown[0]!r} is not one of data.labels")
    return list(prompt.values())
