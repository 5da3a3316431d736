"""The promise: the section `privacy`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.numbers import Real
from pe_beam.recipe.section import Section
from pe_beam.recipe.sections.data import Label
from pe_beam.recipe.sections.measure import InitialMeasurement, Measure


class SecretCustody(Section):
    """Who keeps the secret outside the run directory; the other keys are the custody's own options."""

    model_config = ConfigDict(frozen=True, extra="allow")
    custody: str = Field(description="as it is registered; the other keys are its own options")

    @property
    def options(self) -> dict[str, Any]:
        """Returns all keys except `custody`."""
        return dict(self.model_extra or {})


class Privacy(Section):
    """The promise. Everything here is fixed before any data is read."""

    epsilon: Real | None = Field(
        None,
        description="0.001 to 1000, or inf (NOT PRIVATE); null: noise_multiplier is given in its place",
        json_schema_extra={
            "anyOf": [{"type": "number", "minimum": 0.001, "maximum": 1000}, {"const": "inf"}, {"type": "null"}]
        },
    )
    noise_multiplier: Annotated[Real | list[Real] | None, NEWER] = Field(
        None,
        description="in place of epsilon, as papers publish it: sigma over sensitivity in each iteration, or a list of "
        "one an iteration; `plan` and the statement say the epsilon",
    )
    delta: Real = Field(gt=0, lt=1, description="a number, never computed from the data")
    adjacency: Literal["add-or-remove-one", "replace-one"] = Field(
        "add-or-remove-one", description="what makes two data sets neighbours"
    )
    unit: Literal["record", "client"] = Field("record", description="what is protected: a record, or all of a client's")
    label_counts: Literal["uniform"] | dict[Label, Real] = Field(
        "uniform", description="uniform, shares by label, or {budget: share of the budget that measures them}"
    )
    marginals: InitialMeasurement | None = Field(
        None,
        description="{budget: share of the budget}: one-way counts by label, for generators that use them",
    )
    measure: Annotated[Measure | None, NEWER] = Field(
        None,
        description="several initial measurements, the later ones chosen by what the earlier ones released, in place "
        "of marginals; null: none",
    )
    weights: list[Real] | None = Field(None, description="share of the budget of each iteration; null: equal")
    sampling_rate: Literal[1] | Real = Field(
        1,
        gt=0,
        le=1,
        description="probability with which a record, or a client with all its records, votes in an iteration, drawn "
        "anew in each; below 1 only with add-or-remove-one",
    )
    keep_secret: bool = Field(False, description="the secret stays after the run; may differ on a resume")
    secret: Annotated[SecretCustody | None, NEWER] = Field(
        None, description="who keeps the secret; null: private/secret.key in the run directory"
    )
    book: Annotated[str | None, NEWER] = Field(
        None,
        description="place of the budget book that the run enters before it spends (`pe-beam book`): a path relative "
        "to the recipe, or the URL of a store; null: none; a run stays in its book",
    )
    send_unprotected: bool = Field(
        False, description="epsilon = inf: candidates may go to a remote service all the same"
    )

    @field_validator("sampling_rate")
    @classmethod
    def _same_one(cls, rate: float) -> float:
        """Returns 1 for 1.0, whatever a version of pydantic takes it for: a run's id follows from what is written."""
        return 1 if rate == 1 else rate

    @model_validator(mode="after")
    def _check(self) -> Privacy:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            given = "both are given; set one of them to null" if self.epsilon is not None else "neither is given"
            raise ValueError(f"epsilon: from 0.001 to 1000, or inf, or noise_multiplier in its place; {given}")
        if self.epsilon is not None and not (self.epsilon == math.inf or 1e-3 <= self.epsilon <= 1000):
            raise ValueError("epsilon: from 0.001 to 1000, or inf")
        if self.noise_multiplier is not None:
            several = isinstance(self.noise_multiplier, list)
            values = self.noise_multiplier if several else [self.noise_multiplier]
            if not values or not all(0 < value < math.inf for value in values):  # type: ignore[operator,union-attr]
                raise ValueError("noise_multiplier: a finite number above 0, or a list of them")
            if self.weights is not None:
                raise ValueError("weights: only with epsilon; noise_multiplier may be a list, one an iteration")
        if self.weights is not None and not all(0 < w < math.inf for w in self.weights):
            raise ValueError("weights: finite numbers above 0")
        if self.sampling_rate < 1 and self.adjacency != "add-or-remove-one":
            raise ValueError("sampling_rate: below 1 only with adjacency add-or-remove-one")
        if self.marginals and self.measure:
            raise ValueError("measure: in place of marginals; leave one of them away")
        budget = self.label_budget()
        if not 0 <= budget < 1:
            raise ValueError("label_counts.budget: above 0 and below 1")
        return self

    @property
    def counts_columns(self) -> bool:
        """Whether columns are counted before the first iteration: `marginals` or `measure`."""
        return self.marginals is not None or self.measure is not None

    def multipliers(self, iterations: int) -> list[float] | None:
        """Returns the given noise multipliers of iterations 1 to T, or None. Raises ValueError if not T are given."""
        given = self.noise_multiplier
        if given is None:
            return None
        found = [float(value) for value in given] if isinstance(given, list) else [float(given)] * iterations
        if len(found) != iterations:
            raise ValueError(
                f"privacy.noise_multiplier: {len(found)} numbers, but evolution.iterations is {iterations}; one an "
                "iteration is wanted, or a single number"
            )
        return found

    def label_budget(self) -> float:
        """Returns the share of the budget for all initial measurements, or 0 without any."""
        if self.counts_columns:
            return (self.marginals or self.measure).budget  # type: ignore[union-attr]
        measured = isinstance(self.label_counts, dict) and set(self.label_counts) == {"budget"}
        return float(self.label_counts["budget"]) if measured else 0.0  # type: ignore[index]
