"""What files hold for one and the same value: the types that Arrow and pandas give, and the forms that are declared."""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pe_beam.contracts.newer import without_newer_defaults
from pe_beam.modalities.tabular.codec import TableContent
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.reading import read_column
from pe_beam.modalities.tabular.schema import TableSchema

BERLIN, NEW_YORK = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/New_York")
DAYS: dict[str, Any] = {"type": "date", "min": "1900-01-01", "max": "2100-01-01", "missing": True}
SECONDS = DAYS | {"type": "datetime"}
NUMBERS: dict[str, Any] = {"type": "float", "min": -1e9, "max": 1e9, "missing": True}
CODES: dict[str, Any] = {"type": "categorical", "values": ["1", "2", "x"], "missing": True}
UNKNOWN = "category that is not declared"


def read(given_: list[Any] | pa.Array, **column: Any) -> tuple[list[float | None], dict[str, list[int]]]:
    array = given_ if isinstance(given_, pa.Array) else pa.array(given_)
    codes, bad = read_column(array, Column.model_validate(column))
    shown = [None if np.isnan(x) else float(x) for x in codes]
    return shown, {kind: np.flatnonzero(rows).tolist() for kind, rows in bad.items()}


def read_days(array: Any, **more: Any) -> list[str | None]:
    codes, bad = read(array, **DAYS | more)
    assert not bad
    return [None if code is None else str(dt.date(1970, 1, 1) + dt.timedelta(days=code)) for code in codes]


LOCAL = [
    dt.datetime(2024, 1, 1, 0, 0),
    dt.datetime(2024, 7, 1, 0, 0),  # summer time
    dt.datetime(2024, 3, 31, 23, 59, 59),  # the day on which it begins
    dt.datetime(2024, 10, 27, 2, 30),  # an hour that comes twice
    dt.datetime(1950, 6, 1, 0, 30),
]
LOCAL_DAYS = ["2024-01-01", "2024-07-01", "2024-03-31", "2024-10-27", "1950-06-01"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "America/New_York", "+05:30", "-11:00", "Z"])
def test_a_day_is_that_of_the_zone_as_iso_text_gives_it(unit: str, zone: str | None) -> None:
    fixed = {"+05:30": dt.timezone(dt.timedelta(hours=5.5)), "-11:00": dt.timezone(dt.timedelta(hours=-11))}
    own = {"Europe/Berlin": BERLIN, "America/New_York": NEW_YORK, **fixed}.get(zone or "", dt.UTC)
    moments = [moment.replace(tzinfo=own) for moment in LOCAL]
    stamps = pa.array([moment.astimezone(dt.UTC).replace(tzinfo=None) for moment in moments], pa.timestamp(unit))
    array = stamps.cast(pa.int64()).cast(pa.timestamp(unit, zone))
    assert read_days(array) == LOCAL_DAYS
    assert read_days([moment.isoformat() for moment in moments]) == LOCAL_DAYS
    assert read_days(pa.concat_arrays([array, pa.nulls(1, array.type)])) == [*LOCAL_DAYS, None]
    # A moment is the same in every zone.
    seconds = [float(moment.timestamp()) for moment in moments]
    assert read(array, **SECONDS)[0] == read([moment.isoformat() for moment in moments], **SECONDS)[0] == seconds


def test_what_is_finer_than_a_second_or_a_day_is_left_out_towards_the_past() -> None:
    last = 1_700_006_399_999_999_999  # a nanosecond before midnight: more than a float64 can tell
    stamps = pa.array([last, -1], pa.timestamp("ns"))
    assert read_days(stamps) == ["2023-11-14", "1969-12-31"]
    assert read(stamps, **SECONDS)[0] == [1_700_006_399, -1]
    assert read(["2023-11-14T23:59:59.999999", "1969-12-31T23:59:59.9"], **SECONDS)[0] == [1_700_006_399, -1]
    noon = [dt.datetime(2024, 1, 1, 12, 0), dt.datetime(1900, 1, 2, 23, 59, 59, 999_999)]
    assert read_days(pa.array(noon, pa.timestamp("us"))) == ["2024-01-01", "1900-01-02"]
    assert read_days([str(moment) for moment in noon]) == ["2024-01-01", "1900-01-02"]


def test_days_of_every_type() -> None:
    days = [dt.date(1969, 12, 31), dt.date(2024, 2, 29), None]
    wanted = ["1969-12-31", "2024-02-29", None]
    for array in (pa.array(days), pa.array(days, pa.date64()), pa.array(days).dictionary_encode()):
        assert read_days(array) == wanted
        assert read(array, **SECONDS)[0] == [-86_400, 1_709_164_800, None]
    assert read_days(pa.array([-1, 86_399_999], pa.date64())) == ["1969-12-31", "1970-01-01"]  # no whole days


def test_a_zone_that_is_not_known_stops_before_anything_is_read() -> None:
    content = TableContent(TableSchema.model_validate({"columns": {"day": DAYS, "at": SECONDS}}))
    odd = pa.timestamp("us", "Europe/Nowhere")
    assert "zone of this timestamp is not known" in (content.wanted("day", odd) or "")
    assert content.wanted("at", odd) is None  # a moment needs none
    assert content.wanted("day", pa.timestamp("ns", "Europe/Berlin")) is None
    assert content.wanted("day", pa.time64("us")) and content.wanted("day", pa.int64())


WHOLE = [1, 2, 3, None]


@pytest.mark.parametrize(
    "array",
    [
        *(pa.array(WHOLE).cast(kind) for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32())),
        pa.array([1.0, 2.0, 3.0, float("nan")]),
        pa.array([1.0, 2.0, 3.0, None]).dictionary_encode(),
        pa.array(WHOLE).dictionary_encode(),
        pa.array([None if x is None else decimal.Decimal(x) for x in WHOLE], pa.decimal128(10, 3)),
        pa.array(["1", "2.0", "3.00", ""]),
        pa.array([" 1.0 ", "2", "3.0", None], pa.large_string()),
        pa.array(["1", "2", "3", " "]).cast(pa.string_view()),
    ],
    ids=lambda array: str(array.type)[:24],
)
def test_whole_numbers_and_codes_are_the_same_in_every_type(array: pa.Array) -> None:
    content = TableContent(TableSchema.model_validate({"columns": {"code": CODES}}))
    assert content.wanted("code", array.type) is None
    assert read(array, **CODES) == ([0, 1, None, None], {UNKNOWN: [2]})
    assert read(array, type="ordinal", values=["3.0", "2.0", "1.0"], missing=True) == ([2, 1, 0, None], {})
    assert read(array, type="integer", min=0, max=9, missing=True) == ([1, 2, 3, None], {})
    flags = read(array, type="boolean", missing=True)
    assert flags == ([1, None, None, None], {"value that is not true or false": [1, 2]})


def test_codes_that_only_look_alike_stay_apart() -> None:
    assert read(["01", "1", "1.5", "+1", "1e0", "-0.0"], **CODES)[1] == {UNKNOWN: [0, 2, 3, 4, 5]}
    # Where codes have fractions of their own, 401.0 is not 401.
    illness = {"type": "categorical", "values": ["401", "401.1", "402.10"]}
    assert read(["401", "401.0", "401.1", "401.10", "402.1"], **illness)[1] == {UNKNOWN: [1, 3, 4]}
    assert read([401.0, 401.1, 402.1], **illness) == ([0, 1, 2], {})  # a number has no form of its own
    assert read(["1", "1.0"], type="categorical", values=["1", "1.0"])[0] == [0, 1]
    assert read([1.0], type="categorical", values=["1", "1.0"])[1] == {UNKNOWN: [0]}
    assert read(pa.array([0.1, 2.5], pa.float32()), type="categorical", values=["0.1", "2.5"])[0] == [0, 1]
    large = {"type": "categorical", "values": [str(2**53), str(2**53 + 1), "12345678901"]}
    assert read([12345678901.0, 2.0**53], **large)[1] == {"whole number of 2^53 or more": [1]}
    assert read([2**53 + 1], **large) == ([1], {})
    assert read([float("inf")], **CODES)[1] == {"number that is not finite": [0]}


def test_booleans_of_every_type() -> None:
    wanted = ([1, 0, None], {})
    for array in (
        pa.array([True, False, None]),
        pa.array([1.0, 0.0, float("nan")]),
        pa.array([1, 0, None], pa.int8()),
        pa.array(["True", "FALSE", ""]),
        pa.array(["1.0", "0.0", None]),
        pa.array([True, False, None]).dictionary_encode(),
    ):
        assert read(array, type="boolean", missing=True) == wanted
    for values in (["true", "false"], ["True", "False"], ["1", "0"]):
        column = {"type": "categorical", "values": values, "missing": True}
        assert read(pa.array([True, False, None]), **column) == ([0, 1, None], {})


def test_names_are_compared_without_blanks_and_unicode_forms() -> None:
    column = {"type": "categorical", "values": ["Zürich", " Oslo"]}
    assert read(["Zu\u0308rich", " Zürich ", "Oslo", "\u00a0Oslo"], **column) == ([0, 0, 1, 1], {})
    with pytest.raises(ValidationError, match="none twice"):
        Column.model_validate({"type": "categorical", "values": ["Zürich", "Zu\u0308rich"]})


def test_numbers_take_what_is_declared_and_nothing_else() -> None:
    texts = ["1,234.50", "(12)", "12 %", "1e3", "+5", "٣", "1 234", "5-", "--5", "−5", "0x1F", "1_0", "1.234,5"]
    no_number = "value that is no number"
    assert read(texts, **NUMBERS)[0][3:5] == [1000, 5]
    assert read(texts, **NUMBERS)[1] == {no_number: [0, 1, 2, *range(5, 13)]}
    english = NUMBERS | {"thousands": ",", "units": ["%", "$"], "parentheses": True}
    codes, bad = read([*texts, "$ 1,000", "(-$5)", "-$5", "$-5.5", "($5)"], **english)
    assert codes[:5] == [1234.5, -12, 12, 1000, 5] and codes[13:] == [1000, None, -5, -5.5, -5]
    assert bad == {no_number: [*range(5, 13), 14]}
    german = NUMBERS | {"decimal": ",", "thousands": ".", "units": ["€", "EUR"]}
    texts = ["1.234,5 €", "EUR 7", "1.234", "1234,5", "1.23", "12.34,5", "€5€", "1,234.5", ",5", "€"]
    codes, bad = read(texts, **german)
    assert codes == [1234.5, 7, 1234, 1234.5, None, None, None, None, 0.5, None]
    assert bad == {no_number: [4, 5, 6, 7, 9]}
    blank = NUMBERS | {"decimal": ",", "thousands": " "}
    assert read(["1 234,5", "1\u202f234", "1\u00a0234 567"], **blank)[0] == [1234.5, 1234, 1234567]
    assert read(["1'234.5", "1’234"], **NUMBERS | {"thousands": "'"})[0] == [1234.5, 1234]
    whole = {"type": "integer", "min": 0, "max": 10**6, "thousands": ","}
    assert read(["12,345", "1,5", "1.5"], **whole)[1] == {no_number: [1], "not a whole number": [2]}
    assert read(["nan", "-inf", "1e999"], **german)[1] == {"number that is not finite": [1, 2]}


@given(st.floats(-1e8, 1e8) | st.integers(-(10**8), 10**8), st.sampled_from([(".", ","), (",", "."), (",", " ")]))
def test_a_number_that_is_written_in_a_declared_form_is_that_number(value: float, signs: tuple[str, str]) -> None:
    text = f"{value:,.3f}".replace(",", "T").replace(".", signs[0]).replace("T", signs[1])
    form = {"decimal": signs[0], "thousands": signs[1], "units": ["kr"]}
    assert read([f"{text} kr"], **NUMBERS | form)[0] == [float(f"{value:.3f}")]


def test_words_that_stand_for_nothing() -> None:
    words = {"nulls": ["NA", "-", -999, "9999-12-31"]}
    assert read(["NA", " - ", "-999", "-999.0", "5", ""], **NUMBERS | words) == ([None] * 4 + [5, None], {})
    assert read([-999.0, 5.0, float("nan")], **NUMBERS | words)[0] == [None, 5, None]
    assert read([-999, 5], **NUMBERS | words)[0] == [None, 5]
    assert read(["na"], **NUMBERS | words)[1] == {"value that is no number": [0]}  # as it is declared, or not at all
    assert read(["NA", "1"], **NUMBERS | words | {"missing": False})[1] == {"missing value": [0]}
    assert read(["NA", "-999", "-999.0", "x"], **CODES | words) == ([None, None, None, 2], {})
    assert read([-999.0, 1.0], **CODES | words) == ([None, 0], {})
    assert read(["NA", "true"], type="boolean", missing=True, **words) == ([None, 1], {})
    assert read_days(["9999-12-31", "2024-01-01"], **words) == [None, "2024-01-01"]
    assert read_days(pa.array([dt.date(9999, 12, 31), dt.date(2024, 1, 1)]), **words) == [None, "2024-01-01"]
    german = {"nulls": ["31.12.9999"], "format": "%d.%m.%Y"}
    assert read_days(pa.array([dt.date(9999, 12, 31)]), **german) == read_days(["31.12.9999"], **german) == [None]


def test_words_of_booleans() -> None:
    words = {"true_words": ["yes", "Y", "Да"], "false_words": ["no", "N"]}
    texts = ["YES", " y ", "да", "No", "true", "FALSE", "1", "0", "1.0", "maybe"]
    codes, bad = read(texts, type="boolean", **words)
    assert codes == [1, 1, 1, 0, 1, 0, 1, 0, 1, None] and bad == {"value that is not true or false": [9]}
    survey = {"true_words": [1], "false_words": [2]}
    wrong = {"value that is not true or false": [2]}
    assert read(["1", "2.0", "0"], type="boolean", **survey) == ([1, 0, None], wrong)
    assert read([1.0, 2.0, 0.0], type="boolean", **survey) == ([1, 0, None], wrong)


FORMATS: list[tuple[str, dict[str, str | None]]] = [
    ("%d.%m.%Y", {"31.12.2025": "2025-12-31", "1.2.2025": "2025-02-01", "2025-12-31": None, "31.02.2025": None}),
    ("%m/%d/%Y", {"12/31/2025": "2025-12-31", "2/1/2025": "2025-02-01", "31/12/2025": None, "2/1/25": None}),
    ("%Y%m%d", {"20251231": "2025-12-31", "2025131": None, "20251331": None, "٢٠٢٥1231": None}),
    ("%d-%b-%y", {"31-Dec-25": "2025-12-31", "1-feb-27": "1927-02-01", "29-FEB-00": "2000-02-29", "1-Mai-20": None}),
    ("%B %d, %Y", {"September 1, 2020": "2020-09-01", "Sept. 1,  2020": "2020-09-01", "Sept 1 2020": None}),
    ("%d.%m.%Y %H:%M", {"31.12.2025 23:59": "2025-12-31", "31.12.2025 24:00": None, "31.12.2025": None}),
    ("%Y-%m-%d %H:%M:%S%z", {"2025-12-31 23:59:59-11:00": "2025-12-31", "2025-12-31 00:00:00Z": "2025-12-31"}),
]


@pytest.mark.parametrize(("form", "texts"), FORMATS, ids=[form for form, _ in FORMATS])
def test_dates_of_a_declared_format(form: str, texts: dict[str, str | None]) -> None:
    codes, bad = read(list(texts), **DAYS | {"format": form, "max": "2026-12-31"})
    found = [None if code is None else str(dt.date(1970, 1, 1) + dt.timedelta(days=code)) for code in codes]
    assert found == list(texts.values())
    none = [i for i, day in enumerate(texts.values()) if day is None]
    assert bad == ({"value that is no date": none} if none else {})


def test_moments_of_a_declared_format() -> None:
    clock = SECONDS | {"format": "%m/%d/%Y %I:%M:%S.%f %p"}
    texts = ["1/2/1970 12:00:00.9 AM", "1/2/1970 12:30:59.999 pm", "1/2/1970 13:00:00.0 pm"]
    assert read(texts, **clock) == ([86_400, 86_400 + 45_059, None], {"value that is no date and time": [2]})
    zone = SECONDS | {"format": "%Y-%m-%dT%H:%M:%S%z"}
    texts = ["1970-01-01T01:00:00+01:00", "1969-12-31T18:30:00-0530", "1970-01-01T00:00:00Z"]
    assert read(texts, **zone) == ([0, 0, 0], {})


def test_dates_that_are_numbers() -> None:
    assert read_days(pa.array([20251231, None]), format="%Y%m%d") == ["2025-12-31", None]
    assert read_days(pa.array([20251231.0, float("nan")]), format="%Y%m%d") == ["2025-12-31", None]
    assert read([20251231.5], **DAYS | {"format": "%Y%m%d"})[1] == {"value that is no date": [0]}
    assert read([86_400_000, -1], **SECONDS | {"format": "unix-ms"})[0] == [86_400, -1]
    assert read_days(["0", "1.7e9", "-1"], format="unix") == ["1970-01-01", "2023-11-14", "1969-12-31"]
    last = 1_700_006_399_999_999_999
    assert read_days(pa.array([last, None]), format="unix-ns") == ["2023-11-14", None]
    assert read(["soon"], **DAYS | {"format": "unix"})[1] == {"value that is no date": [0]}
    content = TableContent(TableSchema.model_validate({"columns": {"day": DAYS | {"format": "unix"}}}))
    assert content.wanted("day", pa.int64()) is None and content.wanted("day", pa.float64()) is None


@given(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2049, 12, 31)), st.sampled_from(["%d/%m/%y", "%Y%m%d%H%M%S"]))
def test_a_date_that_is_written_in_a_declared_format_is_that_date(moment: dt.datetime, form: str) -> None:
    column = {"type": "date", "min": "1950-01-01", "max": "2049-12-31", "format": form}
    assert read([moment.strftime(form)], **column)[0] == [(moment.date() - dt.date(1970, 1, 1)).days]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (NUMBERS | {"thousands": "."}, "thousands: '.' is the decimal sign; declare decimal: ','"),
        (NUMBERS | {"decimal": ",", "thousands": ","}, "is the decimal sign"),
        (NUMBERS | {"decimal": ";"}, "decimal"),
        (NUMBERS | {"units": ["-"]}, "without digits"),
        (NUMBERS | {"units": [True]}, "in quotes"),
        (NUMBERS | {"nulls": [None]}, "in quotes"),
        (NUMBERS | {"nulls": [" "]}, "empty word"),
        (NUMBERS | {"format": "%d.%m.%Y"}, "format: is for date and datetime"),
        (CODES | {"decimal": ","}, "decimal: is for integer and float, not for categorical"),
        (CODES | {"nulls": ["x"]}, "'x' is among the values"),
        (CODES | {"true_words": ["a"], "false_words": ["b"]}, "true_words: is for boolean"),
        ({"type": "boolean", "true_words": ["yes"]}, "both are wanted"),
        ({"type": "boolean", "true_words": ["A"], "false_words": ["a"]}, "two things"),
        ({"type": "boolean", "true_words": ["no"], "false_words": ["true"]}, "true is true"),
        ({"type": "boolean", "true_words": ["y"], "false_words": ["n"], "nulls": ["N"]}, "two things"),
        (DAYS | {"format": "%d.%m"}, "year"),
        (DAYS | {"format": "%d.%m.%Y %Y"}, "twice"),
        (DAYS | {"format": "%d.%m.%Y %I"}, "%I goes with %p"),
        (DAYS | {"format": "%d.%m.%Y %Q"}, "'%Q' is not known"),
        (DAYS | {"format": "%d.%m.20%y"}, "digits of its own"),
        (DAYS | {"format": "%d.%m.%Y %"}, "'%' is not known"),
    ],
)
def test_forms_that_contradict_are_refused(column: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Column.model_validate(column)


def test_a_table_says_it_for_all_its_columns() -> None:
    given_ = {
        "columns": {
            "price": NUMBERS,
            "rate": NUMBERS | {"decimal": ".", "thousands": "", "nulls": ["?"]},
            "country": {"type": "categorical", "values": ["NA", "DE"], "missing": True},
            "paid": {"type": "boolean", "missing": True},
            "born": DAYS,
            "seen": SECONDS | {"format": "unix"},
        },
        "nulls": ["NA"],
        "decimal": ",",
        "thousands": ".",
        "units": ["€"],
        "true_words": ["ja"],
        "false_words": ["nein"],
        "date_format": "%d.%m.%Y",
        "datetime_format": "%d.%m.%Y %H:%M",
    }
    schema = TableSchema.model_validate(given_)
    row = {"price": "1.234,5 €", "rate": "1.5", "country": "NA", "paid": "ja", "born": "31.12.2000", "seen": "60"}
    nothing = dict.fromkeys(row, "NA") | {"rate": "?", "country": "DE", "seen": ""}
    payload, faults = TableContent(schema).convert(pa.Table.from_pylist([row, nothing]))
    assert not faults and payload.schema == schema.payload
    assert [str(value) for value in payload.to_pylist()[0].values()] == [
        *("1234.5", "1.5", "NA", "True", "2000-12-31", "1970-01-01 00:01:00")
    ]
    assert list(payload.to_pylist()[1].values()) == [None, None, "DE", None, None, None]
    # What is resolved reads back as the same, and every value of a release in plain form is read as it is.
    again = TableSchema.model_validate(schema.model_dump(mode="json", by_alias=True, exclude_none=True))
    assert again == schema
    plain = TableSchema.model_validate({"columns": given_["columns"] | {"rate": NUMBERS, "seen": SECONDS}})
    texts = pa.table([pc.cast(column, pa.string()) for column in payload.columns], names=payload.column_names)
    assert TableContent(plain).convert(texts)[0].equals(payload)
    with pytest.raises(ValidationError, match=r"columns\.price: with what the table declares, thousands"):
        TableSchema.model_validate({"columns": {"price": NUMBERS | {"decimal": ","}}, "thousands": ","})
    with pytest.raises(ValidationError, match=r"date_format: .*year"):
        TableSchema.model_validate({"columns": {"price": NUMBERS}, "date_format": "%d"})


def test_forms_at_their_default_are_no_part_of_a_schema() -> None:
    schema = TableSchema.model_validate({"columns": {"a": NUMBERS, "b": DAYS}})
    plain = without_newer_defaults(schema, schema.model_dump(mode="json", by_alias=True))
    assert set(plain) == {"columns", "bins", "constraints"}
    assert set(plain["columns"]["a"]) == {"type", "min", "max", "values", "missing", "outside", "weight", "bins"}
