"""A finished release in place of a random first population: the section `evolution.start`."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section


class Ancestor(Section):
    """What an earlier release has spent, as its privacy.json says: the release of the start, or one before it."""

    digest: str = Field(description="of that release, as found.digest")
    unit: Literal["record", "client"] = Field(description="as privacy.unit")
    adjacency: Literal["add-or-remove-one", "replace-one"] = Field(description="as privacy.adjacency")
    delta: Real = Field(gt=0, lt=1, description="as privacy.delta")
    noise_multiplier: list[Real] = Field(description="of each histogram")
    label_shares_noise_multiplier: Real | None = Field(None, description="of the initial measurement; null: none")
    sampling_rate: Real = Field(1, gt=0, le=1, description="as privacy.sampling_rate")
    data: Whole = Field(
        0, ge=0, description="0: may hold records of this run's data; else the number of a set of other data"
    )
    sets: Whole = Field(1, ge=1, description="sets of data that share no record, each with a release that spent this")

    @model_validator(mode="after")
    def _check(self) -> Ancestor:
        multipliers = [*self.noise_multiplier, self.label_shares_noise_multiplier or 1.0]
        if not all(0 < value < math.inf for value in multipliers) or self.label_shares_noise_multiplier == 0:
            raise ValueError("noise_multiplier: finite numbers above 0")
        return self


class Found(Section):
    """What the release of the start says of itself. It is looked up when the recipe is read, and checked again."""

    digest: str = Field(description="SHA-256 over its last manifest, privacy.json and recipe.json")
    promise: Literal["stated", "public", "none", "unknown"] = Field(
        description="whether its cost is stated, is none of ours, is infinite, or is not known"
    )
    states: Literal["kept", "dropped"] = Field(
        description="kept if its generator is this one with the same options: what a generator remembers of a candidate"
    )
    ancestors: list[Ancestor] = Field(default_factory=list, description="what it and those before it have spent")


class Start(Section):
    """A finished release in place of a random first population."""

    release: str = Field(
        description="a run directory or the release folder of one; a path relative to the recipe, or the URL of a "
        "store; may differ on a resume"
    )
    fresh: Real = Field(0.1, ge=0, lt=1, description="share of each label that is made at random all the same")
    disjoint: bool = Field(
        False,
        description="the holder's word that its data, and those of releases before it, share no record (or client) "
        "with this run's: their cost is then stated apart, and not added",
    )
    public: bool = Field(False, description="the holder's word that it is public: then it costs nothing")
    found: Found | None = Field(None, description="filled in when the recipe is read; leave it away")

    @model_validator(mode="after")
    def _check(self) -> Start:
        if self.disjoint and self.public:
            raise ValueError("disjoint: says nothing more of a release that is public; leave one of them away")
        return self

    @property
    def declared(self) -> str:
        """Returns what the holder says of the data behind the release: same (it may be), disjoint or public."""
        return "public" if self.public else "disjoint" if self.disjoint else "same"
