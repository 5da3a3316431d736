"""Prompt templates with public variables: what a recipe may write, and how a prompt is made from it.

Pure functions of options, label and one random stream. Every value is public and declared in the recipe.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.names import JOINT
from pe_beam.numbers import Real, Whole

Schedule = Real | list[Real] | dict[str, Any]
"""A number, a list of one number per iteration, or {from, to, decay}: see `selection.schedules`."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class Part(BaseModel):
    """A typed section of a part's options."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True, validate_default=True
    )


def split_lines(value: Any) -> Any:
    """Splits a text into one value per line, without empty lines and lines that begin with #. Keeps other values."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return value


def _split_each(value: Any) -> Any:
    return {key: split_lines(own) for key, own in value.items()} if isinstance(value, dict) else value


class Numbers(Part):
    """Whole numbers, each as likely."""

    least: Whole = Field(ge=0, description="the smallest")
    most: Whole = Field(ge=0, description="the largest")

    @model_validator(mode="after")
    def _check(self) -> Numbers:
        if self.least > self.most:
            raise ValueError("least: not above most")
        return self


class Dependent(Part):
    """Values that depend on another variable, or on a field of the label."""

    by: str = Field(description="the variable or label field that decides")
    values: Annotated[dict[str, list[str]], BeforeValidator(_split_each)] = Field(
        description="its value -> the values to draw from"
    )

    @model_validator(mode="after")
    def _check(self) -> Dependent:
        empty = sorted(key for key, own in self.values.items() if not own)
        if empty or not self.values:
            raise ValueError(f"values: at least one for each; none for {', '.join(empty) or 'any'}")
        return self


Variable = list[str] | Numbers | Dependent


_PUBLIC = {"public": True}
LabelFields = Annotated[
    list[str],
    Field(description="names of the parts of a label that combines several columns", json_schema_extra=_PUBLIC),
]
"""Option `label_fields` of a generator that makes prompts."""
LabelTexts = Annotated[dict[str, str], Field(description="label -> how {label} says it", json_schema_extra=_PUBLIC)]
"""Option `label_texts`."""
Variables = Annotated[dict[str, Variable], BeforeValidator(_split_each), Field(json_schema_extra=_PUBLIC)]
"""Option `variables`."""


class Worded(Protocol):
    """Options that make prompts from labels and variables."""

    @property
    def label_fields(self) -> list[str]:
        """Names of the fields of a label."""

    @property
    def label_texts(self) -> dict[str, str]:
        """Label -> the text that {label} stands for."""

    @property
    def variables(self) -> dict[str, Variable]:
        """Name -> the values from which it is drawn."""


def check_labels(options: Worded, labels: Sequence[str | None]) -> None:
    """Raises RecipeError if a label has another number of fields than names, or a text is of an undeclared label."""
    for label in labels:
        if options.label_fields and len((label or "").split(JOINT)) != len(options.label_fields):
            raise RecipeError(
                f"generator.label_fields: label {label!r} has other than {len(options.label_fields)} parts "
                f"(joined by {JOINT!r})"
            )
    unknown = sorted(set(options.label_texts) - {label for label in labels if label is not None})
    if unknown:
        raise RecipeError(f"generator.label_texts: {unknown[0]!r} is not one of data.labels")


def check_dependents(options: Worded, labels: Sequence[str | None], fields: Sequence[str]) -> None:
    """Raises RecipeError if a dependent variable lacks values for what decides it. `fields`: the fields of a label."""
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
    """Returns the names that a template has in braces. {{ and }} stand for the braces themselves.

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
    """Fills in the names of a template. Text that is filled in is not scanned again.

    >>> fill("{{{a}}}", {"a": "{b}"})
    '{{b}}'
    """
    parsed = string.Formatter().parse(template)
    return "".join(text + (values[name] if name is not None else "") for text, name, _, _ in parsed)


def label_values(options: Worded, label: str | None) -> dict[str, str]:
    """Returns a label and its fields, by name."""
    if label is None:
        return {}
    values = dict(zip(options.label_fields, label.split(JOINT), strict=False)) if options.label_fields else {}
    return values | {"label": options.label_texts.get(label, label)}


def draw_variables(options: Worded, label: str | None, rng: np.random.Generator) -> dict[str, str]:
    """Returns the label's fields and one draw of each variable.

    Each variable has its own random stream, so that a draw does not depend on the order in the recipe.
    """
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
