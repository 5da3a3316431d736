"""From templates and variables to what is asked: pure functions of options, label, parent and one random stream."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

import numpy as np

from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.text.options import Dependent, LlmOptions, Numbers, Variable
from pe_beam.names import JOINT

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TOKEN = re.compile(r"\s*[\w'’]+|\s*[^\w\s]")
GIVEN_TO_VARY = ("sample", "masked", "words", "examples")


def check_templates(options: LlmOptions, labels: Sequence[str | None]) -> None:
    """Every name in a template is known and every dependent variable has values for what decides it.

    Raises:
      RecipeError: names the template, the name, and what is allowed.
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
    _check_labels(options, labels)
    _check_dependents(options, labels, fields)


def _check_labels(options: LlmOptions, labels: Sequence[str | None]) -> None:
    for label in labels:
        if options.label_fields and len((label or "").split(JOINT)) != len(options.label_fields):
            raise RecipeError(
                f"generator.label_fields: label {label!r} has other than {len(options.label_fields)} parts "
                f"(joined by {JOINT!r})"
            )
    unknown = sorted(set(options.label_texts) - {label for label in labels if label is not None})
    if unknown:
        raise RecipeError(f"generator.label_texts: {unknown[0]!r} is not one of data.labels")


def _check_dependents(options: LlmOptions, labels: Sequence[str | None], fields: Sequence[str]) -> None:
    seen = dict.fromkeys(fields)
    for name, variable in options.variables.items():
        if isinstance(variable, Dependent):
            where = f"generator.variables.{name}"
            if variable.by not in seen:
                raise RecipeError(f"{where}.by: {variable.by!r} is not known before it; allowed: {', '.join(seen)}")
            for label in labels if variable.by in fields else ():
                value = label_values(options, label)[variable.by]
                if value not in variable.values:
                    raise RecipeError(f"{where}.values: none for {variable.by} {value!r}")
        seen[name] = None


def names_in(template: str, *, where: str = "template") -> list[str]:
    """Names that a template has in braces; {{ and }} are braces themselves.

    >>> names_in("a {label} and {{x}} {tone}")
    ['label', 'tone']
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RecipeError(f"{where}: not a template ({error}); a brace itself is written twice") from None
    names = []
    for _, name, spec, conversion in parsed:
        if name is None:
            continue
        if not _NAME.match(name) or spec or conversion:
            raise RecipeError(f"{where}: {{{name}}} is not a plain name; a brace itself is written twice")
        names.append(name)
    return names


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its names filled in; what is filled in is not looked at again.

    >>> fill("{{{a}}}", {"a": "{b}"})
    '{{b}}'
    """
    parsed = string.Formatter().parse(template)
    return "".join(text + (values[name] if name is not None else "") for text, name, _, _ in parsed)


def label_values(options: LlmOptions, label: str | None) -> dict[str, str]:
    """A label and its parts, by name."""
    if label is None:
        return {}
    values = dict(zip(options.label_fields, label.split(JOINT), strict=False)) if options.label_fields else {}
    return values | {"label": options.label_texts.get(label, label)}


def draw_variables(options: LlmOptions, label: str | None, rng: np.random.Generator) -> dict[str, str]:
    """The label's parts, and every variable drawn once, by a stream of its own: their order in the recipe is free."""
    values = label_values(options, label)
    key = int(rng.integers(1 << 62))
    for name, variable in options.variables.items():
        values[name] = _draw(variable, values, keyed_rng(key, 0, -1, name))
    return values


def _draw(variable: Variable, values: Mapping[str, str], rng: np.random.Generator) -> str:
    if isinstance(variable, Numbers):
        return str(int(rng.integers(variable.least, variable.most + 1)))
    if isinstance(variable, Dependent):
        own = variable.values.get(values[variable.by])
        if own is None:
            raise RecipeError(f"generator.variables: no values where {variable.by} is {values[variable.by]!r}")
        variable = own
    return variable[int(rng.integers(len(variable)))]


def tokens_of(text: str) -> list[str]:
    """Words and signs with the white space before them: what blanks stand for, and a rough count of tokens.

    >>> tokens_of("It's fine, really.")
    ["It's", ' fine', ',', ' really', '.']
    """
    return _TOKEN.findall(text)


def mask(text: str, share: float, rng: np.random.Generator, *, blank: str = "_") -> str:
    """Each token independently becomes a blank with probability `share`; neighbours are not joined (Aug-PE).

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
    """max(least, words + trunc(N(0, sd))): Aug-PE's target for a variation's length, in words."""
    return max(least, len(text.split()) + int(rng.normal(0.0, sd)))
