"""One declared column: its type, bounds, categories and forms."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from pe_beam.contracts.newer import NEWER
from pe_beam.modalities.tabular.forms import EPOCHS, FITTING, DateFormat, Forms, check_numbers, check_words, folded

EXACT = 2**53
"""From this number on, whole numbers are not exact as float64."""

MOST_DECIMALS = 15
"""Digits after the point that a float may be declared with: from 0 to 1 a float64 tells as many apart."""

_BINS, EACH = 32, 128  # usual bins of a marginal; so many values at most have a bin each

NUMBERS = ("integer", "float", "date", "datetime")
CHOICES = ("categorical", "boolean", "ordinal")


_TO_YAML = "true, false, yes, no, null, dates, .nan and .inf have to be in quotes to be categories"


def as_category(value: Any) -> Any:
    """Accepts numbers as categories. Refuses what YAML does not take for a text or a number, such as yes and no.

    >>> as_category(1.5), as_category(2), as_category(0.00001)
    ('1.5', '2', '0.00001')
    """
    if value is None or isinstance(value, bool | date) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(_TO_YAML)
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")
    return str(value) if isinstance(value, int) else value


def as_bound(value: Any) -> Any:
    """Returns a bound as a number or a text. Refuses booleans, and accepts dates without quotes."""
    if isinstance(value, bool):
        raise ValueError("a number or a date is wanted, not true or false")
    if isinstance(value, datetime):
        return value.isoformat()
    return value.isoformat() if isinstance(value, date) else value


Category = Annotated[
    str, BeforeValidator(as_category), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
Bound = Annotated[int | float | str, BeforeValidator(as_bound)]


class _Declared(BaseModel):
    """What a column holds. A base of its own, so that these keys come before those of `Forms`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    type: Literal["integer", "float", "categorical", "boolean", "ordinal", "date", "datetime"] = Field(
        description="what its values are"
    )
    min: Bound | None = Field(None, description="least value of a number or a date (ISO 8601)")
    max: Bound | None = Field(None, description="greatest value")
    values: tuple[Category, ...] | None = Field(None, description="categories; of an ordinal column in order")
    missing: bool = Field(False, description="whether a value may be missing")
    outside: Literal["reject", "clip"] = Field("reject", description="what becomes of a value out of bounds")
    weight: float = Field(1.0, gt=0, le=1000, description="how much the column counts in distances")
    bins: int | None = Field(None, ge=1, le=10_000, description="bins of a measured marginal; null: 32, or each value")
    format: Annotated[str | None, NEWER] = Field(
        None,
        description="how texts write a date, such as '%d.%m.%Y' or '%m/%d/%y %I:%M %p'; or unix, unix-ms, unix-us, "
        "unix-ns: numbers since 1970; null: ISO 8601",
    )
    decimals: Annotated[int | None, NEWER] = Field(
        None,
        ge=0,
        le=MOST_DECIMALS,
        description="digits after the point of a float: records are rounded to them as they are read, and samples have "
        "no more; null: all digits",
    )
    multiple_of: Annotated[float | None, NEWER] = Field(
        None,
        gt=0,
        description="a float's values are whole multiples of it, such as 0.5 or 5, and records are rounded to them as "
        "they are read; in place of decimals",
    )
    log_from: Annotated[float | None, NEWER] = Field(
        None,
        gt=0,
        description="for numbers of many sizes, such as money: from this size on bins and distances go by ratio, below "
        "it by difference, and 0 has a bin of its own; null: by difference",
    )


class Column(Forms, _Declared):
    """One column.

    Numbers and dates have a least and a greatest value, categorical and ordinal columns their values (ordinal: in
    order), booleans nothing.
    """

    @model_validator(mode="after")
    def _check(self) -> Column:
        if self.type in NUMBERS:
            if self.values is not None or self.min is None or self.max is None:
                raise ValueError(f"{self.type}: min and max are wanted, and no values")
            low, high = self.low, self.high
            if not low <= high:
                raise ValueError(f"bounds reversed: min {self.min!r} is above max {self.max!r}")
            if self.type == "integer" and not (low.is_integer() and high.is_integer()):
                raise ValueError("integer: whole numbers are wanted as min and max")
            if max(-low, high) >= EXACT and self.type != "float":
                raise ValueError(f"{self.type}: bounds of 2^53 or beyond cannot be told apart exactly")
            if not math.isfinite(high - low):
                raise ValueError("float: the range from min to max is too wide")
        else:
            self._check_choices()
        if self.decimals is not None:
            self._check_decimals(self.decimals)
        if self.multiple_of is not None:
            self._check_multiples(self.multiple_of)
        if self.log_from is not None:
            self._check_log(self.log_from)
        self.check_forms()
        return self

    def _check_decimals(self, decimals: int) -> None:
        if self.type != "float":
            raise ValueError(f"decimals: is for float, not for {self.type}")
        largest = max(-self.low, self.high)
        if largest >= EXACT / 10**decimals:
            most = next((each for each in range(decimals, -1, -1) if largest < EXACT / 10**each), None)
            allowed = "null, all digits, is" if most is None else f"{most} at most are"
            raise ValueError(
                f"decimals: {decimals} cannot be told apart exactly within these bounds; {allowed} allowed"
            )
        for key, bound in (("min", self.low), ("max", self.high)):
            if self.nearest(np.array(bound)) != bound:
                raise ValueError(
                    f"{key}: {bound:.15g} has more digits after the point than decimals: {decimals} allows"
                )

    def _check_multiples(self, step: float) -> None:
        if self.type != "float":
            raise ValueError(f"multiple_of: is for float, not for {self.type}")
        if self.decimals is not None:
            raise ValueError("multiple_of: takes the place of decimals; one of the two is wanted")
        parts, whole = Fraction(repr(step)).as_integer_ratio()
        if max(-self.low, self.high, parts / whole) * whole >= EXACT or whole > 10**MOST_DECIMALS:
            raise ValueError(f"multiple_of: multiples of {step!r} cannot be told apart exactly within these bounds")
        for key, bound in (("min", self.low), ("max", self.high)):
            if self.nearest(np.array(bound)) != bound:
                raise ValueError(f"{key}: {bound:.15g} is no multiple of {step!r}, as multiple_of wants")

    def _check_log(self, size: float) -> None:
        if self.type not in ("integer", "float"):
            raise ValueError(f"log_from: is for integer and float, not for {self.type}")
        if not self.stepped:
            raise ValueError("log_from: wants decimals or multiple_of, which say what the least difference is")
        if size < self.step:
            raise ValueError(f"log_from: {size:.15g} is less than neighbouring values differ by, {self.step:.15g}")

    def _check_choices(self) -> None:
        if self.min is not None or self.max is not None:
            raise ValueError(f"{self.type}: has no min and no max")
        if self.type == "boolean":
            if self.values is not None:
                raise ValueError("boolean: has no values of its own")
        elif not self.values or len({folded(value) for value in self.values}) != len(self.values):
            raise ValueError(
                f"{self.type}: values are wanted, none twice (blanks around them and Unicode forms do not count)"
            )
        if self.outside == "clip":
            raise ValueError(f"{self.type}: values that are not declared can only be rejected")

    def check_forms(self) -> None:
        """Raises ValueError for forms that do not fit the type or each other."""
        for key, types in FITTING.items():
            if getattr(self, key) is not None and self.type not in types:
                raise ValueError(f"{key}: is for {' and '.join(types)}, not for {self.type}")
        check_numbers(self)
        check_words(self, self.values or ())
        if self.format is not None:
            if self.type not in ("date", "datetime"):
                raise ValueError(f"format: is for date and datetime, not for {self.type}")
            if self.format not in EPOCHS:
                DateFormat.of(self.format)

    def inheriting(self, table: Forms, formats: Mapping[str, str | None]) -> Column:
        """Returns this column, with the table's forms for those that the column does not declare.

        Args:
          table: the forms that the table declares for all columns.
          formats: type -> the table's `format` for columns of that type.

        Raises:
          ValueError: the forms contradict each other.
        """
        own = {folded(value) for value in self.values or ()}
        own |= {word.casefold() for word in (*(self.true_words or ()), *(self.false_words or ()))}
        further: dict[str, Any] = {key: getattr(table, key) for key, types in FITTING.items() if self.type in types}
        if self.true_words is not None:
            del further["true_words"], further["false_words"]
        if table.nulls is not None:  # the column's own declaration of a word takes precedence
            further["nulls"] = tuple(word for word in table.nulls if not {word, word.casefold()} & own)
        further["format"] = formats.get(self.type)
        further = {key: value for key, value in further.items() if value is not None and getattr(self, key) is None}
        if not further:
            return self
        found = self.model_copy(update=further)
        found.check_forms()
        return found

    @property
    def low(self) -> float:
        """Smallest code: a number as it is, days or seconds since 1970 for dates, 0 for choices."""
        return self.number(self.min) if self.type in NUMBERS else 0.0

    @property
    def high(self) -> float:
        """Largest code."""
        return self.number(self.max) if self.type in NUMBERS else float(len(self.choices) - 1)

    @property
    def choices(self) -> tuple[str, ...]:
        """Categories as text; for a boolean false and true."""
        return ("false", "true") if self.type == "boolean" else self.values or ()

    @property
    def whole(self) -> bool:
        """Whether codes are whole numbers."""
        return self.type != "float"

    @property
    def ratio(self) -> tuple[float, float] | None:
        """The least distance of two values as two whole numbers, over and under the line: 1, 10 of tenths; None: none.

        A value is (a whole number times the first) / the second, which is the float whose text is shortest.
        """
        if self.whole:
            return 1.0, 1.0
        if self.multiple_of is not None:
            over, under = Fraction(repr(self.multiple_of)).as_integer_ratio()
            return float(over), float(under)
        return None if self.decimals is None else (1.0, 10.0**self.decimals)

    @property
    def step(self) -> float:
        """How far apart neighbouring values are: 1; of a float what it declares, or 0."""
        return 0.0 if self.ratio is None else self.ratio[0] / self.ratio[1]

    def steps_on(self, other: Column) -> bool:
        """Returns whether all values of this column are, bounds aside, values of another one."""
        if self.ratio is None or other.ratio is None:
            return other.ratio is None
        return (self.ratio[0] * other.ratio[1]) % (self.ratio[1] * other.ratio[0]) == 0

    @property
    def stepped(self) -> bool:
        """Whether values lie equal steps apart: whole numbers, and floats with declared decimals or multiples."""
        return self.ratio is not None

    @property
    def distinct(self) -> float:
        """Number of values from the least to the greatest; infinite for a float without declared steps."""
        if self.whole:
            return self.high - self.low + 1
        return float(self.steps(np.array(self.high))) + 1 if self.stepped else math.inf

    def steps(self, codes: np.ndarray) -> np.ndarray:
        """Returns how many steps codes are above the least one, float64; without steps their distance from it."""
        if self.whole or self.ratio is None:
            return codes - self.low
        over, under = self.ratio
        found: np.ndarray = np.rint(codes * under / over) - np.rint(self.low * under / over)
        return found

    def at(self, steps: np.ndarray) -> np.ndarray:
        """Returns the codes so many steps above the least one, float64: the floats whose text is shortest."""
        if self.whole or self.ratio is None:
            return self.low + steps
        over, under = self.ratio
        found: np.ndarray = (np.rint(self.low * under / over) + steps) * over / under
        return found

    def nearest(self, codes: np.ndarray) -> np.ndarray:
        """Returns the nearest codes that are values, bounds aside; without steps the codes themselves."""
        if self.whole:
            return np.round(codes)
        if self.ratio is None:
            return codes
        over, under = self.ratio
        far = np.abs(codes) >= EXACT / under  # beyond all bounds
        found: np.ndarray = np.where(
            far, codes, np.rint(np.where(far, 0.0, codes) * under / over) * over / under + 0.0
        )  # no -0.0
        return found

    def ceiling(self, codes: np.ndarray) -> np.ndarray:
        """Returns the least codes that are values and not below these, bounds aside."""
        near = self.nearest(codes)
        return np.where(near < codes, self.nearest(near + self.step), near)

    def floor(self, codes: np.ndarray) -> np.ndarray:
        """Returns the greatest codes that are values and not above these, bounds aside."""
        near = self.nearest(codes)
        return np.where(near > codes, self.nearest(near - self.step), near)

    @property
    def moves(self) -> bool:
        """Whether a variation moves along an order (numbers, dates, ordinals). Other values are drawn again."""
        return self.type in NUMBERS or self.type == "ordinal"

    @property
    def arrow(self) -> pa.DataType:
        """Type of the payload, one that Parquet gives back as it was: it has no seconds."""
        kinds = {"integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_(), "date": pa.date32()}
        return {**kinds, "datetime": pa.timestamp("ms")}.get(self.type, pa.string())

    @property
    def marginal_bins(self) -> int:
        """Number of bins of a measured marginal, without the bin for missing values."""
        if self.type not in NUMBERS:
            return len(self.choices)
        distinct = self.distinct
        if self.edges is not None:
            return len(self.edges) - 1
        if self.bins is not None:
            return int(min(self.bins, distinct))
        return int(distinct) if distinct <= EACH else (1 if self.low == self.high else _BINS)

    @property
    def edges(self) -> np.ndarray | None:
        """Steps at which bins by ratio begin and the last one ends, float64; None: bins are equal parts."""
        if self.log_from is None or (self.bins is None and self.distinct <= EACH):
            return None
        return _edges_by_ratio(self)

    def scaled(self, codes: np.ndarray) -> np.ndarray:
        """Maps codes within bounds to places from 0 to 1, float64; NaN stays. Bins by ratio are equally long there.

        Within such a bin it is linear, so that no place depends on a machine's logarithms. A value has the middle of
        its step: float32 does not move it out of its bin.
        """
        edges = self.edges
        if edges is None:
            found: np.ndarray = (codes - self.low) / ((self.high - self.low) or 1.0)
            return found
        steps, count = self.steps(codes), len(edges) - 1
        bins = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, count - 1)
        places: np.ndarray = (bins + (steps - edges[bins] + 0.5) / np.diff(edges)[bins]) / count
        return places

    def unscaled(self, places: np.ndarray) -> np.ndarray:
        """Maps places from 0 to 1 to codes, float64; of a column with bins by ratio they are values."""
        edges = self.edges
        if edges is None:
            return self.low + places * (self.high - self.low)
        at, sizes = places * (len(edges) - 1), np.diff(edges)
        bins = np.clip(np.floor(np.nan_to_num(at)), 0, len(sizes) - 1).astype(np.int64)
        within = np.clip(np.floor((at - bins) * sizes[bins]), 0, sizes[bins] - 1)
        return self.at(edges[bins] + within)

    @property
    def roomy(self) -> bool:
        """Whether a bin of a measured marginal holds several values of a number or a date."""
        return self.type in NUMBERS and self.low < self.high and self.marginal_bins < self.distinct

    def number(self, value: Any) -> float:
        """Returns a declared value as a code. Raises ValueError for another value."""
        if self.type in CHOICES:
            text = str(value).lower() if self.type == "boolean" else as_category(value)
            if text not in self.choices:
                raise ValueError(f"{value!r} is not among the declared values")
            return float(self.choices.index(text))
        if self.type in ("date", "datetime"):
            return _moment(value, days=self.type == "date")
        try:
            number = float(value)
        except OverflowError:
            raise ValueError(f"{self.type}: a number that fits a float64 (up to 1.7e308) is wanted") from None
        except ValueError:
            raise ValueError(f"{self.type}: {_shown(value)}: a number is wanted") from None
        if not math.isfinite(number):
            raise ValueError("a finite number is wanted")
        if self.type == "integer" and isinstance(value, int) and abs(value) >= EXACT:
            raise ValueError("integer: bounds of 2^53 or beyond cannot be told apart exactly")
        return number


@functools.lru_cache(maxsize=1024)
def _edges_by_ratio(column: Column) -> np.ndarray:
    """Returns `Column.edges` of a column with `log_from`: asinh, which is linear about 0 and a logarithm far from it.

    Bins without a value are left out; 0 has its own.
    """
    size, bins = column.log_from, column.bins or _BINS
    assert size is not None
    first, last = (math.asinh(end / size) for end in (column.low, column.high))
    ends = [size * math.sinh(first + (last - first) * k / bins) for k in range(1, bins)]
    codes = np.clip([float(f"{end:.12g}") for end in ends], column.low, column.high)  # the same on every machine
    zero = column.steps(np.zeros(1)) if column.low <= 0 <= column.high else np.zeros(0)
    edges = np.concatenate([[0.0, column.distinct], column.steps(column.ceiling(codes)), zero, zero + 1])
    found: np.ndarray = np.unique(np.clip(edges, 0, column.distinct))
    found.flags.writeable = False
    return found


def _moment(value: Any, *, days: bool) -> float:
    """Returns days or seconds since 1970 of a declared date. Raises ValueError."""
    try:
        if days:
            return float(date.fromisoformat(str(value)).toordinal() - date(1970, 1, 1).toordinal())
        found = datetime.fromisoformat(str(value))
    except ValueError:
        wanted = "date: {}: a date as YYYY-MM-DD" if days else "datetime: {}: a date and time as YYYY-MM-DDTHH:MM:SS"
        raise ValueError(f"{wanted.format(_shown(value))} is wanted") from None
    return float(round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else format(value, "g") if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
