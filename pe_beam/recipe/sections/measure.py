"""What is measured before the first iteration: the sections `privacy.marginals` and `privacy.measure`."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.numbers import Real, Whole
from pe_beam.recipe.section import Section


class InitialMeasurement(Section):
    """What is measured before the first iteration."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    pairs: Annotated[Whole | None, NEWER] = Field(
        None,
        ge=2,
        le=64,
        description="groups of a column's bins in counts of all pairs of columns, about half of the share; null: none",
    )


class OneWay(Section):
    """Counts of each column's bins by label: what all else is measured against."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    overall: Annotated[bool, NEWER] = Field(
        False,
        description="whether half of it is for the same counts over all labels: sums over many have much noise",
    )


class Cliques(Section):
    """Counts of declared columns together."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    columns: list[list[str]] = Field(
        min_length=1,
        description="lists of 2 to 4 columns; each shares one column at most with those before it that hang together, "
        "so that no circle is closed",
    )
    groups: Whole = Field(6, ge=2, le=64, description="groups of a column's bins, of about equal shares, at most")
    by_label: bool = Field(True, description="whether each label has counts of its own")

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: list[list[str]]) -> list[list[str]]:
        parts: list[set[str]] = []  # columns that hang together so far
        for columns in value:
            if not 2 <= len(set(columns)) == len(columns) <= 4:
                raise ValueError("each is a list of 2 to 4 different columns")
            met = [part for part in parts if part & set(columns)]
            if any(len(part & set(columns)) > 1 for part in met):
                raise ValueError(f"{', '.join(columns)}: two of them hang together by those before; a circle is closed")
            parts = [part for part in parts if part not in met] + [set(columns).union(*met)]
        return value


class Halves(Section):
    """Counts of all columns together by label, each in two groups: what only several columns together say, is found."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    columns: Annotated[Whole | None, NEWER] = Field(
        None,
        ge=3,
        le=12,
        multiple_of=3,
        description="columns that are counted together, such that any three are at once somewhere; null: all columns",
    )


class Coarse(Section):
    """Counts of all pairs of columns over all labels, in few groups: what the tree is chosen by."""

    budget: Real = Field(gt=0, lt=1, description="share of the budget")
    groups: Whole = Field(4, ge=2, le=16, description="groups of a column's bins, of about equal shares, at most")


class Tree(Section):
    """Finer counts of those pairs of columns that go together most, by what is released so far."""

    budget: Real = Field(
        gt=0,
        lt=1,
        description="share of the budget; of pairs that noise would hide it goes to one-way counts, once more",
    )
    groups: Whole = Field(
        12, ge=2, le=64, description="groups of a column's bins, of about equal shares, at most; fewer where noise is"
    )
    by_label: bool = Field(True, description="whether each label has counts of its own")


class Slices(Section):
    """Counts of slices of those bins that hold many records: values that come often, and where in a bin records lie."""

    budget: Real = Field(
        gt=0, lt=1, description="share of the budget; if no bin holds enough it goes to one-way counts, once more"
    )


class Measure(Section):
    """Initial measurements, one after the other, each with its share of the budget and its line of the ledger."""

    one_way: OneWay = Field(description="counts of each column by label, first")
    cliques: Cliques | None = Field(None, description="counts of declared columns together; null: none")
    halves: Annotated[Halves | None, NEWER] = Field(
        None,
        description="counts of all columns together in two groups of each, for parities and their like; null: none",
    )
    coarse: Coarse | None = Field(None, description="coarse counts of all pairs of columns; null: none, and no tree")
    tree: Tree | None = Field(None, description="counts of chosen pairs, a tree; null: none, and no coarse ones")
    slices: Annotated[Slices | None, NEWER] = Field(
        None, description="counts of slices of bins of numbers and dates, last; null: none, values are even in a bin"
    )

    @model_validator(mode="after")
    def _check(self) -> Measure:
        if (self.coarse is None) != (self.tree is None):
            raise ValueError("tree: chosen by coarse counts, which are for nothing else; both are wanted, or none")
        if not self.budget < 1:
            raise ValueError("the shares of all steps together: below 1, so that votes have one")
        return self

    @property
    def steps(self) -> dict[str, OneWay | Cliques | Halves | Coarse | Tree | Slices]:
        """Returns name -> step, in the order in which they are measured."""
        every = {
            "one_way": self.one_way,
            "cliques": self.cliques,
            "halves": self.halves,
            "coarse": self.coarse,
            "tree": self.tree,
            "slices": self.slices,
        }
        return {name: step for name, step in every.items() if step is not None}

    @property
    def budget(self) -> float:
        """The share of all steps together."""
        return math.fsum(step.budget for step in self.steps.values())
