"""Makes prompts from templates and variables: pure functions of options, label, parent and one random stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.modalities.text.options import LlmOptions
from pe_beam.modalities.text.words import tokens_of, word_count
from pe_beam.modalities.variables import check_dependents, check_labels, names_in

GIVEN_TO_VARY = ("sample", "masked", "words", "examples")


def check_templates(options: LlmOptions, labels: Sequence[str | None]) -> None:
    """Checks that every name in a template is known, and that every dependent variable has values for what decides it.

    Raises:
      RecipeError: a check fails; the message names the template, the name, and what is allowed.
    """
    fields = [*(["label"] if labels != [None] else []), *options.label_fields]
    known = [*fields, *options.variables]
    if len(set(known)) != len(known) or set(known) & set(GIVEN_TO_VARY):
        raise RecipeError(
            f"generator.variables: a name is used twice; {', '.join(['label', *GIVEN_TO_VARY])} are taken as well"
        )
    parts = [*(f"random.{key}" for key in ("system", "user")), *(f"vary.{key}" for key in ("system", "user"))]
    for part in parts:
        section, key = part.split(".")
        template = getattr(getattr(options, section), key) or ""
        allowed = known + (list(GIVEN_TO_VARY) if section == "vary" else [])
        for name in names_in(template, where=f"generator.{part}"):
            if name not in allowed:
                raise RecipeError(f"generator.{part}: {{{name}}} is not known; allowed: {', '.join(allowed)}")
    if "words" in names_in(options.vary.user) and options.vary.words is None:
        raise RecipeError("generator.vary.words: {words} is in the template, so a target is wanted here")
    check_labels(options, labels)
    check_dependents(options, labels, fields)


def mask(text: str, share: float, rng: np.random.Generator, *, blank: str = "_") -> str:
    """Replaces each token independently by a blank with probability `share`. Adjacent blanks are not joined (Aug-PE).

    >>> mask("two words", 1.0, np.random.default_rng(0))
    '_ _'
    """
    tokens = tokens_of(text)
    blanks = rng.random(len(tokens)) < share
    return "".join(
        token[: len(token) - len(token.lstrip())] + blank if blanked else token
        for token, blanked in zip(tokens, blanks, strict=True)
    )


def word_target(text: str, *, sd: float, least: int, rng: np.random.Generator) -> int:
    """Returns max(least, words + trunc(N(0, sd))), the target for a variation's length in words (Aug-PE)."""
    return max(least, word_count(text) + int(rng.normal(0.0, sd)))
