"""What a plan says beside noise and cost: expected errors of what is measured, what is recommended, and the trade."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pe_beam.recipe.accuracy import measured_tables
from pe_beam.recipe.advice import Advice, advise, with_measurements
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import Plan
from pe_beam.recipe.trade import Trade, trade_of

_SHOWN = 8
"""Measured tables that the terminal shows, those of the largest error first; JSON has all."""
_NAMED = 5
"""Columns of a measured table that are all named."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is expected of a plan.

    Attributes:
      measured: each table of counts: its columns, cells and `expected_noise_tvd` (`accuracy.Table.noise_tvd`).
      advice: what is recommended; None where nothing can be said.
      trade: None likewise.
      budgets: key of the recipe -> what is recommended for what it measures: shares of the budget, and what is in them.
    """

    measured: list[dict[str, Any]]
    advice: Advice | None
    trade: Trade | None
    budgets: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON: measured, recommended and trade."""
        return {
            "measured": self.measured,
            "recommended": None if self.advice is None else self.advice.to_json(),
            "trade": None if self.trade is None else self.trade.to_json(),
        }

    def lines(self) -> list[str]:
        """Returns it as lines of text for a terminal."""
        trade = [] if self.trade is None else self.trade.lines()
        advice = [] if self.advice is None else [self.recommended(), f"  {self.advice.reason}"]
        return [*self._measured(), *trade, *advice]

    def _measured(self) -> list[str]:
        if not self.measured:
            return []
        errors = [each["expected_noise_tvd"] for each in self.measured]
        worst = sorted(self.measured, key=lambda each: -each["expected_noise_tvd"])[:_SHOWN]
        shown = ", ".join(f"{_named(each['columns'])} {each['expected_noise_tvd']:.2g}" for each in worst)
        more = f", and {len(errors) - _SHOWN} with less" if len(errors) > _SHOWN else ""
        return [
            f"measured: {len(errors)} tables of counts; noise moves them by {np.mean(errors):.2g} on average (total "
            "variation, 1 is all; before shares of 0 or more are fitted)",
            f"  {shown}{more}",
        ]

    def recommended(self) -> str:
        """Returns the recommended keys with their values as a text; nothing if nothing is recommended."""
        if self.advice is None:
            return ""
        keys = {
            **self.budgets,
            "evolution.iterations": self.advice.iterations,
            "evolution.population": self.advice.population,
            "evolution.smoothing": self.advice.smoothing,
        }
        said = ", ".join(f"{key} {_said(value)}" for key, value in keys.items() if value is not None)
        return f"recommended: {said}"


def _named(columns: Sequence[str]) -> str:
    """Returns the columns of a table of counts, and how many if there are many.

    >>> _named(["age", "label"]), _named([*"abcdefgh", "label"])
    ('age x label', 'a x b x ... (9 together)')
    """
    if len(columns) <= _NAMED:
        return " x ".join(columns)
    return f"{' x '.join(columns[:2])} x ... ({len(columns)} together)"


def _said(value: float) -> str:
    """Returns a value as a recipe has it: whole numbers with all digits, and true or false."""
    return json.dumps(value) if isinstance(value, int) else f"{value:g}"


def outlook(recipe: Recipe, plan: Plan) -> Outlook:
    """Returns what is expected of a recipe's plan: a function of declared facts alone."""
    records, multiplier = recipe.data.expected_records, plan.schedule.label_noise_multiplier
    tables = [] if records is None or multiplier is None else measured_tables(recipe)
    advice = advise(recipe, plan)
    return Outlook(
        measured=[table.to_json(multiplier or 0.0, records or 1) for table in tables],
        advice=advice,
        trade=trade_of(recipe, plan),
        budgets=_budgets(recipe, advice),
    )


def _budgets(recipe: Recipe, advice: Advice | None) -> dict[str, float]:
    """Returns the keys of the recommended share for measurements. Among declared cliques it is not divided."""
    if advice is None or advice.budget is None:
        return {}
    if recipe.privacy.measure is not None and recipe.privacy.measure.cliques is not None:
        return {}
    if advice.steps is None:
        return {"privacy.marginals.budget": advice.budget}
    told = with_measurements({}, advice)["measure"]
    return {f"privacy.measure.{name}.{key}": each for name, step in told.items() for key, each in step.items()}
