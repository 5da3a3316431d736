"""Constraints on candidates beyond bounds: a <= b, a implies b, columns that add up. NumPy on codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.modalities.tabular.columns import Bound, Column

PASSES = 10


class Range(BaseModel):
    """Numbers from min to max, both included; null: without an end."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    min: Bound | None = Field(None, description="least value")
    max: Bound | None = Field(None, description="greatest value")


def _value(value: Any) -> Any:
    if value is None or isinstance(value, date):
        raise ValueError("null and dates have to be in quotes to be values of a condition")
    return value


Condition = dict[str, tuple[Annotated[str | int | float | bool, BeforeValidator(_value)], ...] | Range]


class Constraint(BaseModel):
    """Exactly one of the three.

    `less_or_equal: [a, b]`, with or without `within: 30`; `if: {a: [x]}` with `then: {b: [y, z], c: {min: 1}}` (all of
    `then` holds where all of `if` does); `sum: [a, b]` with `equals: c`. A row in which a column concerned is missing
    obeys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    less_or_equal: tuple[str, str] | None = Field(None, description="the first is not above the second")
    within: Annotated[float | None, NEWER] = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="of less_or_equal: how far the second is above the first at most (dates in days, datetimes in "
        "seconds). What breaks it is then drawn anew among what obeys; without it the second becomes the first",
    )
    when: Condition | None = Field(None, alias="if", description="column -> values, or {min, max}")
    then: Condition | None = Field(None, description="holds where all of `if` does")
    sum: tuple[str, ...] | None = Field(None, description="columns that add up")
    equals: str | None = Field(None, description="to this column")

    @model_validator(mode="after")
    def _check(self) -> Constraint:
        given = [self.less_or_equal is not None, bool(self.when and self.then), bool(self.sum and self.equals)]
        parts = [self.less_or_equal, self.when, self.then, self.sum, self.equals]
        if sum(given) != 1 or sum(part is not None for part in parts) != (1 if given[0] else 2):
            raise ValueError("less_or_equal, if with then, or sum with equals is wanted, one of them")
        if self.within is not None and self.less_or_equal is None:
            raise ValueError("within: is for less_or_equal")
        return self

    def renamed(self, names: Mapping[str, str]) -> Constraint:
        """Returns this constraint with other names of its columns."""

        def of(condition: Condition | None) -> Condition | None:
            return condition and {names[name]: wanted for name, wanted in condition.items()}

        two = self.less_or_equal and (names[self.less_or_equal[0]], names[self.less_or_equal[1]])
        parts, total = self.sum and tuple(names[name] for name in self.sum), self.equals and names[self.equals]
        changed = {"less_or_equal": two, "when": of(self.when), "then": of(self.then), "sum": parts, "equals": total}
        return self.model_copy(update=changed)

    def check(self, columns: Mapping[str, Column]) -> None:
        """Raises ValueError for undeclared columns, columns that cannot be compared, and impossible constraints."""
        whole = [*(self.less_or_equal or ()), *(self.sum or ()), *([self.equals] if self.equals else [])]
        for name in [*whole, *(self.when or {}), *(self.then or {})]:
            if name not in columns:
                raise ValueError(f"{name!r} is no declared column; allowed: {_few(columns)}")
        if len(set(whole)) != len(whole):
            raise ValueError("a column twice in it")
        if twice := set(self.when or {}) & set(self.then or {}):
            raise ValueError(f"{min(twice)} is in if and in then")
        kinds, numbers = {columns[name].type for name in whole}, {"integer", "float"}
        if kinds & {"categorical", "boolean"} or len({"number" if kind in numbers else kind for kind in kinds}) > 1:
            raise ValueError("numbers, or columns of one type that has an order, are wanted")
        if self.sum and (kinds - numbers or self.equals is None):
            raise ValueError("sum is for integer and float")
        if self.less_or_equal:
            self._check_order(*(columns[name] for name in self.less_or_equal))
        if self.sum and self.equals:
            total = columns[self.equals]
            low, high = (sum(getattr(columns[name], end) for name in self.sum) for end in ("low", "high"))
            fits = low <= total.high and high >= total.low
            parts = [columns[name] for name in self.sum]
            finest = min(parts, key=lambda column: column.step)
            if not fits or not all(part.steps_on(finest) and part.steps_on(total) for part in parts):
                raise ValueError("sum cannot be met within the bounds and types")
        for key, condition in (("if", self.when), ("then", self.then)):
            for name, wanted in (condition or {}).items():
                _check_wanted(f"{key}.{name}", columns[name], wanted)

    def _check_order(self, first: Column, second: Column) -> None:
        if self.within is not None and "ordinal" in (first.type, second.type):
            raise ValueError("within: is for numbers and dates")
        far = math.inf if self.within is None else self.within
        if first.low > second.high or second.low - first.high > far:
            raise ValueError("less_or_equal cannot be met within the bounds")


def check_each(constraints: Sequence[Constraint], check: Callable[[Constraint], None]) -> None:
    """Calls `check` with each constraint. Raises its ValueError with the constraint's place in the list."""
    for place, constraint in enumerate(constraints):
        try:
            check(constraint)
        except ValueError as error:
            raise ValueError(f"constraints.{place}: {error}") from None


def _check_wanted(key: str, column: Column, wanted: Any) -> None:
    """Raises ValueError if a condition on a column says what no value of it can be."""
    try:
        some = allowed(column, wanted)
    except ValueError as error:
        has = f"; allowed: {_few(column.choices)}" if column.choices else ""
        raise ValueError(f"{key}: {error}{has}") from None
    if not some:
        ends = (
            _few(f"{end} {value}" for end, value in wanted if value is not None)
            if isinstance(wanted, Range)
            else _few(wanted)
        )
        has = f"from {column.min} to {column.max}" if column.min is not None else _few(column.choices)
        steps = f" in steps of {column.step:g}" if column.stepped and column.type == "float" else ""
        raise ValueError(f"{key}: nothing is allowed by {ends}; the column has values {has}{steps}")


def _few(values: Iterable[Any]) -> str:
    """Returns values as text, the first twelve if they are more."""
    found = [str(value) for value in values]
    return ", ".join(found[:12] + (["..."] if len(found) > 12 else []))


def obey(
    codes: np.ndarray,
    columns: Mapping[str, Column],
    constraints: Sequence[Constraint],
    fixed: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Repairs rows in place so that they obey all constraints. Returns which rows do then, bool (n,).

    Args:
      codes: float64 (n, m), NaN where a value is missing.
      columns: the declarations of the m columns.
      constraints: the constraints to obey.
      fixed: columns of a <= b whose values stay as they are, so that the other one is changed.
    """
    names = list(columns)
    fine = np.zeros(len(codes), dtype=bool)
    for lowering in (False, True):
        # Where a <= b raises what something else lowers, the first round goes in circles, and the second one does not.
        rows = np.flatnonzero(~fine)
        part = codes[rows]
        for _ in range(PASSES if len(rows) else 0):
            for constraint in constraints:
                repair(part, names, columns, constraint, fixed, lowering=lowering)
            broken = broken_by(part, columns, constraints)
            fine[rows] = broken < 0
            if fine.all():
                break
        codes[rows] = part
    return fine


def broken_by(codes: np.ndarray, columns: Mapping[str, Column], constraints: Sequence[Constraint]) -> np.ndarray:
    """Returns the position of the first constraint that each row breaks, int64 (n,); -1 where it obeys all."""
    names, found = list(columns), np.full(len(codes), -1)
    for place, constraint in enumerate(constraints):
        found[(found < 0) & ~holds(codes, names, columns, constraint)] = place
    return found


def repair(
    codes: np.ndarray,
    names: list[str],
    columns: Mapping[str, Column],
    constraint: Constraint,
    fixed: frozenset[str] = frozenset(),
    *,
    lowering: bool = False,
) -> None:
    """Changes rows in place so that they obey one constraint. Rows that already obey stay unchanged.

    Args:
      codes: float64 (n, m), NaN where a value is missing.
      names: names of the m columns.
      columns: their declarations.
      constraint: the constraint to obey.
      fixed: columns of a <= b whose values stay as they are.
      lowering: whether of a <= b the first one is lowered rather than the second one raised.
    """
    at = {name: i for i, name in enumerate(names)}
    bad = np.flatnonzero(~holds(codes, names, columns, constraint))
    if not len(bad):
        return
    if constraint.less_or_equal:
        a, b = constraint.less_or_equal
        low, high = columns[a], columns[b]
        if lowering and a not in fixed:
            codes[bad, at[a]] = np.clip(
                _below(low, codes[bad, at[b]], codes[bad, at[a]], constraint), low.low, low.high
            )
        if b not in fixed:
            after = high.ceiling(codes[bad, at[a]])
            if constraint.within is not None:
                most = high.floor(codes[bad, at[a]] + constraint.within)
                after = np.maximum(after, np.minimum(codes[bad, at[b]], most))
            codes[bad, at[b]] = np.clip(after, high.low, high.high)
        if a not in fixed:
            codes[bad, at[a]] = _below(low, codes[bad, at[b]], codes[bad, at[a]], constraint)
    elif constraint.sum and constraint.equals:
        _repair_sum(codes, bad, at, columns, constraint)
    else:
        for name, wanted in (constraint.then or {}).items():
            values = codes[bad, at[name]]
            wrong = ~meets(values, columns[name], wanted)
            codes[bad[wrong], at[name]] = _nearest_allowed(values[wrong], columns[name], allowed(columns[name], wanted))


def _below(column: Column, second: np.ndarray, codes: np.ndarray, constraint: Constraint) -> np.ndarray:
    """Returns the first column's nearest codes that are not above the second one's, nor farther below than `within`."""
    found = column.floor(np.minimum(codes, second))
    if constraint.within is None:
        return found
    return np.maximum(found, np.minimum(column.ceiling(second - constraint.within), column.high))


def _repair_sum(
    codes: np.ndarray, bad: np.ndarray, at: Mapping[str, int], columns: Mapping[str, Column], constraint: Constraint
) -> None:
    """Sets the total to the sum of the columns. If its bounds are exceeded, changes the columns one after another."""
    parts, total = constraint.sum or (), constraint.equals or ""
    own, finest = columns[total], min((columns[part] for part in parts), key=lambda column: column.step)
    sums = codes[bad][:, [at[part] for part in parts]].sum(axis=1)
    low, high = finest.ceiling(np.array(own.low)), finest.floor(np.array(own.high))  # what parts can add up to
    target = own.nearest(np.clip(sums, low, high))
    codes[bad, at[total]] = target
    left = target - sums
    for part in parts:
        column = columns[part]
        before = codes[bad, at[part]]
        after = np.clip(column.nearest(before + left), column.low, column.high)
        codes[bad, at[part]] = after
        left = left - (after - before)


def _nearest_allowed(values: np.ndarray, column: Column, some: tuple[float, float] | list[float]) -> np.ndarray:
    if isinstance(some, tuple):
        low, high = some
        return np.clip(np.where(np.isnan(values), low, values), low, high)
    codes = np.array(some)
    if not column.moves:  # without an order, all wrong values would become the same, so the old code picks one of them
        return codes[np.nan_to_num(values).astype(np.int64) % len(codes)]
    return codes[np.abs(np.nan_to_num(values)[:, None] - codes[None, :]).argmin(axis=1)]


def allowed(column: Column, wanted: Any) -> tuple[float, float] | list[float]:
    """Returns the codes that a condition allows: a range, or a list, which is empty if no code is allowed."""
    if isinstance(wanted, Range):
        low = column.low if wanted.min is None else max(column.low, column.number(wanted.min))
        high = column.high if wanted.max is None else min(column.high, column.number(wanted.max))
        low, high = float(column.ceiling(np.array(low))), float(column.floor(np.array(high)))
        return (low, high) if low <= high else []
    codes = [column.number(value) for value in wanted]
    return sorted(
        code for code in codes if column.low <= code <= column.high and float(column.nearest(np.array(code))) == code
    )


def meets(values: np.ndarray, column: Column, wanted: Any) -> np.ndarray:
    """Returns which codes a condition allows, bool (n,); a missing value is none of them."""
    some = allowed(column, wanted)
    if isinstance(some, tuple):
        return (values >= some[0]) & (values <= some[1])
    return np.isin(values, some)


def holds(codes: np.ndarray, names: list[str], columns: Mapping[str, Column], constraint: Constraint) -> np.ndarray:
    """Returns which rows obey: bool (n,).

    Sums agree within 1e-9 times the total's largest absolute bound (or 1), and within half a step of the total.
    """
    at = {name: i for i, name in enumerate(names)}

    def of(name: str) -> np.ndarray:
        return codes[:, at[name]]

    if constraint.less_or_equal:
        a, b = constraint.less_or_equal
        above = of(a) > of(b)
        if constraint.within is not None:
            scale = max(1.0, *(abs(end) for name in (a, b) for end in (columns[name].low, columns[name].high)))
            above |= of(b) - of(a) > constraint.within + 1e-12 * scale  # of decimals: 1.1 - 0.8 is above 0.3
        return ~above
    if constraint.sum and constraint.equals:
        gap = np.abs(sum(of(name) for name in constraint.sum) - of(constraint.equals))
        scale = max(1.0, abs(columns[constraint.equals].high), abs(columns[constraint.equals].low))
        step = columns[constraint.equals].step
        return ~(gap > (min(1e-9 * scale, step / 2) if step else 1e-9 * scale))
    concerned = np.ones(len(codes), dtype=bool)
    for name, wanted in (constraint.when or {}).items():
        concerned &= meets(of(name), columns[name], wanted)
    fine = np.ones(len(codes), dtype=bool)
    for name, wanted in (constraint.then or {}).items():
        fine &= meets(of(name), columns[name], wanted) | np.isnan(of(name))
    return ~concerned | fine
