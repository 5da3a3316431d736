"""Floats with declared decimals: what is read, counted, drawn, repaired and proposed lies on their digits."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from pydantic import ValidationError

from pe_beam.contracts.generator import Marginals, Step, Within
from pe_beam.contracts.options import Options
from pe_beam.modalities.relational.generator import Relational, RelationalOptions
from pe_beam.modalities.sequence.generator import SequenceGenerator
from pe_beam.modalities.tabular.codec import TableContent, encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import holds
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.marginals import (
    bin_of,
    code_in,
    code_of,
    likeliest,
    slice_of,
    slices_of,
    uniform_shares,
)
from pe_beam.modalities.tabular.propose import propose_schema
from pe_beam.modalities.tabular.reading import OUTSIDE, read_column
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.modalities.tabular.view import shown

TEMPERATURE: dict[str, Any] = {"type": "float", "min": 34, "max": 42, "decimals": 1}
PRICE: dict[str, Any] = {"type": "float", "min": 0, "max": 10_000, "decimals": 2}
WARD: dict[str, Any] = {
    "columns": {
        "temperature": TEMPERATURE,
        "highest": {**TEMPERATURE, "decimals": 2, "max": 42.25},
        "dose": {"type": "float", "min": -0.3, "max": 0.7, "decimals": 1, "missing": True},
        "drug": PRICE,
        "stay": {**PRICE, "decimals": 1},
        "bill": {**PRICE, "max": 12_000.01},
        "plain": {"type": "float", "min": 0, "max": 1},
    },
    "constraints": [
        {"less_or_equal": ["temperature", "highest"]},
        {"sum": ["drug", "stay"], "equals": "bill"},
        {"if": {"temperature": {"min": 38.05}}, "then": {"dose": {"min": 0.05}}},
        {"if": {"temperature": {"max": 35}}, "then": {"dose": [0.2, 0.25, 0.3]}},
    ],
}


def on_digits(values: np.ndarray, decimals: int) -> bool:
    """Returns whether values have no more digits after the point, in their shortest text."""
    return all(-Decimal(repr(value)).as_tuple().exponent <= max(decimals, 1) for value in values.tolist())  # type: ignore[operator]


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, i]) for i in range(count)]


@pytest.mark.parametrize(
    "declared",
    [
        TEMPERATURE,
        PRICE,
        {"type": "float", "min": -0.3, "max": 0.7, "decimals": 1},
        {"type": "float", "min": 0, "max": 100, "decimals": 2, "bins": 7},
        {"type": "float", "min": 0, "max": 1, "decimals": 15},
        {"type": "float", "min": -9e9, "max": 9e9, "decimals": 5},
        {"type": "float", "min": 5, "max": 5, "decimals": 0},
    ],
    ids=lambda own: f"{own['max']}-{own['decimals']}",
)
def test_each_value_has_its_bin_and_slice_and_comes_back_with_its_digits(declared: dict[str, Any]) -> None:
    column, rng = Column(**declared), np.random.default_rng(0)
    values = column.nearest(rng.uniform(column.low, column.high, 2000))
    values[:2] = column.low, column.high
    assert [float(f"{value:.{column.decimals}f}") for value in values.tolist()] == values.tolist()
    bins = bin_of(values, column)
    drawn = code_in(bins, rng.random(len(values)), column)
    assert (bin_of(drawn, column) == bins).all() and (column.nearest(drawn) == drawn).all()
    assert (column.ceiling(values) == values).all() and (column.floor(values) == values).all()
    if not column.roomy:
        assert set(drawn[bins == bins[2]].tolist()) == {values[2]}, "few values have a bin each"
        return
    slices = slice_of(values, column)
    assert (slices // slices_of(column) == bins).all()
    for back in (code_of(slices, rng.random(len(values)), column), likeliest(slices, column)):
        assert (column.nearest(back) == back).all() and column.low <= back.min() and back.max() <= column.high
    assert (slice_of(code_of(slices, rng.random(len(values)), column), column) == slices).all()


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(0.5, 3, 0.5), (-20, 400, 0.5), (-0.25, 900, 0.25), (0, 1e5, 0.05), (0, 5000, 5), (0, 30, 2.5)],
)
def test_multiples_have_bins_and_slices_of_their_own_as_decimals_have(low: float, high: float, step: float) -> None:
    column, rng = Column(type="float", min=low, max=high, multiple_of=step), np.random.default_rng(0)
    values = column.nearest(rng.uniform(low, high, 2000))
    values[:2] = low, high
    exact = [Decimal(repr(value)) for value in values.tolist()]
    assert not any(value % Decimal(repr(step)) for value in exact) and column.distinct == round((high - low) / step) + 1
    bins = bin_of(values, column)
    drawn = code_in(bins, rng.random(len(values)), column)
    assert (bin_of(drawn, column) == bins).all() and (column.nearest(drawn) == drawn).all()
    assert column.roomy or (drawn == values).all(), "few values have a bin each"
    if column.roomy:
        slices = slice_of(values, column)
        back = code_of(slices, rng.random(len(values)), column)
        assert (slice_of(back, column) == slices).all() and (column.nearest(back) == back).all()
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=TableSchema(columns={"x": column}))
    vectors = embedder.embed(pa.table({"x": values})).vectors
    assert (embedder.marginal_bins(vectors)[:, 0] == bins).all()


def test_doses_are_halves_in_the_file_in_constraints_and_in_samples() -> None:
    dose = {"type": "float", "min": 0.5, "max": 300, "multiple_of": 0.5}
    rules = [{"if": {"old": [True]}, "then": {"dose": {"max": 9.9}}}, {"less_or_equal": ["dose", "most"]}]
    columns = {"old": {"type": "boolean"}, "dose": dose, "most": {**dose, "multiple_of": 0.2, "min": 0.6, "max": 301}}
    schema = TableSchema.model_validate({"columns": columns, "constraints": rules})
    codes, bad = read_column(pa.array(["1.5", "1.6", "1.8", "0.3", "0.2"]), schema.columns["dose"])
    assert codes[:4].tolist() == [1.5, 1.5, 2.0, 0.5] and bad[OUTSIDE].tolist() == [False] * 4 + [True]
    made = Tabular(TabularOptions(), labels=[None], schema=schema).random([None] * 300, rngs(300))
    doses, most = np.array(made["dose"].to_pylist()), np.array(made["most"].to_pylist())
    assert (doses * 2 % 1 == 0).all() and on_digits(most, 1) and (np.rint(most * 10) % 2 == 0).all()
    assert (doses <= most).all() and (doses[np.array(made["old"].to_pylist())] <= 9.5).all()
    total = {**dose, "multiple_of": 0.2, "max": 600.2, "min": 0.6}
    for parts, said in ((["dose", "dose2"], "sum cannot be met"), (["most", "most"], "a column twice")):
        with pytest.raises(ValidationError, match=said):
            sums = {
                "columns": columns | {"dose2": dose, "all": total},
                "constraints": [{"sum": parts, "equals": "all"}],
            }
            TableSchema.model_validate(sums)


def test_public_files_show_multiples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    halves, fives = rng.integers(1, 500, 200) / 2, rng.integers(1, 99_999_999, 200) / 20
    found = {"dose": halves, "price": fives, "tenths": rng.integers(1, 500, 200) / 10, "same": np.full(200, 1.5)}
    csv.write_csv(pa.table(found), tmp_path / "public.csv")
    columns = propose_schema(tmp_path / "public.csv", public=True)["schema"]["columns"]
    assert columns["dose"]["multiple_of"] == 0.5 and columns["price"]["multiple_of"] == 0.05
    assert [columns[name].get("decimals") for name in found] == [None, None, 1, 1]
    TableSchema.model_validate({"columns": columns})


def test_they_are_counted_as_whole_numbers_of_their_last_digit() -> None:
    """Bins, slices and distances: 38.5 among 34.0 to 42.0 is 385 among 340 to 420."""
    for most, bins in ((42, None), (420, None), (42, 9)):
        tenths = Column(type="integer", min=340, max=10 * most, bins=bins)
        column = Column(type="float", min=34, max=most, decimals=1, bins=bins)
        whole = np.arange(340, 10 * most + 1, dtype=np.float64)
        assert (bin_of(whole / 10, column) == bin_of(whole, tenths)).all()
        assert (slice_of(whole / 10, column) == slice_of(whole, tenths)).all()
        assert (uniform_shares(column, 0.1) == uniform_shares(tenths, 0.1)).all()
    schema = TableSchema.model_validate({"columns": {"x": {**TEMPERATURE, "bins": 20}}})
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=schema)
    values = np.arange(340, 421) / 10
    vectors = embedder.embed(pa.table({"x": values})).vectors
    own = schema.columns["x"]
    assert (embedder.marginal_bins(vectors)[:, 0] == bin_of(values, own)).all()
    assert (embedder.sliced_bins(vectors)[:, 0] == slice_of(values, own)).all()


def test_records_are_rounded_as_they_are_read_and_then_compared_with_bounds() -> None:
    column = Column(**TEMPERATURE, missing=True, nulls=("99.99",))
    values = [36.949, 38.7, 42.04, 42.06, 1e300, float("nan"), 99.99]
    codes, bad = read_column(pa.array(values), column)
    assert codes[:3].tolist() == [36.9, 38.7, 42.0] and np.isnan(codes[5:]).all()
    assert bad[OUTSIDE].tolist() == [False, False, False, True, True, False, False]
    clipped, none = read_column(pa.array(values), column.model_copy(update={"outside": "clip"}))
    assert clipped[3:5].tolist() == [42.0, 42.0] and not none
    single, bad = read_column(pa.array([38.7, 42.0], pa.float32()), column)
    assert single.tolist() == [38.7, 42.0] and not bad
    near, _ = read_column(pa.array(["-0.04"]), Column(type="float", min=-1, max=1, decimals=1))
    assert str(near[0]) == "0.0", "no minus before a zero"
    whole, _ = read_column(pa.array(["3.4", "3.6"]), Column(type="float", min=0, max=9, decimals=0))
    assert whole.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("steps", ["uniform", "gaussian", "redraw"])
def test_candidates_have_their_digits_whatever_constraints_repair(steps: str) -> None:
    schema = TableSchema.model_validate(WARD)
    generator = Tabular(TabularOptions(steps=steps), labels=[None], schema=schema)
    made = generator.random([None] * 200, rngs(200)).append_column("label", pa.nulls(200, pa.string()))
    varied = generator.vary(made, Step(iteration=1, iterations=1, degree=0.4), rngs(200))
    again = generator.redraw(made, rngs(200))
    names = list(schema.columns)
    for table in (made, varied, again):
        codes = encode_payload(table, schema)
        assert all(holds(codes, names, schema.columns, each).all() for each in schema.constraints)
        for name, column in schema.columns.items():
            values = np.array(table[name].drop_null().to_pylist())
            assert column.decimals is None or on_digits(values, column.decimals), name
        added = np.array(table["drug"].to_pylist()) + np.array(table["stay"].to_pylist())
        assert np.abs(added - np.array(table["bill"].to_pylist())).max() < 1e-9
    assert set(made["dose"].drop_null().to_pylist()) <= {round(-0.3 + i / 10, 1) for i in range(11)}


def test_a_release_with_more_digits_to_start_from_is_varied_on_them() -> None:
    schema = TableSchema.model_validate({"columns": {"t": TEMPERATURE}})
    generator = Tabular(TabularOptions(steps="redraw"), labels=[None], schema=schema)
    old = pa.table({"t": np.random.default_rng(0).uniform(34, 42, 100), "label": pa.nulls(100, pa.string())})
    varied = generator.vary(old, Step(iteration=1, iterations=1, degree=0.1), rngs(100))
    assert on_digits(varied["t"].to_numpy(), 1)


def test_a_report_shows_all_digits_of_a_price() -> None:
    assert [shown(value) for value in (12345.67, 4.5, 7.0, 0.1 + 0.2, 1 / 3, None)] == [
        *("12345.67", "4.5", "7", "0.3", "0.333333", "–"),
    ]


def test_a_value_that_comes_often_is_drawn_itself() -> None:
    """36.6 is not round: without decimals its slice gives another value; with them it is a slice of its own."""
    schema = TableSchema.model_validate({"columns": {"t": {**TEMPERATURE, "bins": 10}}})
    own = schema.columns["t"]
    place = int(slice_of(np.array([36.6]), own)[0])
    shares = np.full((10, slices_of(own)), 1 / slices_of(own))
    often = np.zeros(shares.shape, dtype=bool)
    shares[place // slices_of(own)] = np.eye(slices_of(own))[place % slices_of(own)]
    often.ravel()[place] = True
    counts = np.full((1, 10), 1.0)
    counts[0, place // slices_of(own)] = 991.0
    plain = Tabular(TabularOptions(steps="redraw"), labels=[None], schema=schema)
    generator = plain.seeded(Marginals([None], {"t": counts}, 0.1, within={"t": Within(shares, often)}))
    drawn = np.array(generator.random([None] * 100, rngs(100))["t"].to_pylist())
    assert (drawn == 36.6).mean() > 0.9


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"type": "integer", "min": 0, "max": 9, "decimals": 1}, "decimals: is for float, not for integer"),
        ({"type": "boolean", "decimals": 1}, "decimals: is for float, not for boolean"),
        ({"type": "float", "min": 0.25, "max": 9, "decimals": 1}, "min: 0.25 has more digits after the point than"),
        ({"type": "float", "min": 0, "max": 9.999, "decimals": 2}, "max: 9.999 has more digits after the point than"),
        ({"type": "float", "min": 0, "max": 1e9, "decimals": 9}, "9 cannot be told apart .* 6 at most are allowed"),
        ({"type": "float", "min": 0, "max": 1, "decimals": 16}, "less than or equal to 15"),
        ({"type": "float", "min": 0, "max": 1, "decimals": -1}, "greater than or equal to 0"),
        ({"type": "integer", "min": 0, "max": 9, "multiple_of": 3}, "multiple_of: is for float"),
        ({"type": "float", "min": 0, "max": 9, "multiple_of": 0.5, "decimals": 1}, "takes the place of decimals"),
        ({"type": "float", "min": 0.3, "max": 9, "multiple_of": 0.5}, "min: 0.3 is no multiple of 0.5"),
        ({"type": "float", "min": 0, "max": 9, "multiple_of": 1 / 3}, "cannot be told apart"),
        ({"type": "float", "min": 0, "max": 1e16, "multiple_of": 0.5}, "cannot be told apart"),
        ({"type": "float", "min": 0, "max": 9, "multiple_of": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_declared_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TableSchema.model_validate({"columns": {"x": declared}})


@pytest.mark.parametrize(
    "constraint",
    [
        {"sum": ["plain", "drug"], "equals": "bill"},  # a total with two digits
        {"if": {"temperature": [36.65]}, "then": {"dose": [0.1]}},
        {"if": {"temperature": [36.6]}, "then": {"dose": {"min": 0.11, "max": 0.19}}},
    ],
)
def test_constraints_that_no_such_digits_can_meet_are_refused(constraint: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"constraints\.0: "):
        TableSchema.model_validate(WARD | {"constraints": [constraint]})


def test_public_files_show_decimals_and_others_do_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "single": pa.array(np.round(rng.uniform(34, 42, 300), 1), pa.float32()),
            "price": np.round(rng.gamma(1, 100, 300), 2),
            "cent": pa.array([Decimal("1.25"), Decimal("-0.5"), None] * 100),
            "text": ["1,5", "2,25", ""] * 100,
            "dense": rng.random(300),
            "dense32": rng.random(300).astype(np.float32),
            "finer": np.round(rng.random(300), 7),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    proposed = propose_schema(tmp_path / "p.parquet", public=True)["schema"]
    found = {name: column.get("decimals") for name, column in proposed["columns"].items() if column["type"] == "float"}
    assert found == {"single": 1, "price": 2, "cent": 2, "dense": None, "dense32": None, "finer": None}
    csv.write_csv(table.select(["text"]), tmp_path / "p.csv")
    text = propose_schema(tmp_path / "p.csv", public=True)["schema"]["columns"]["text"]
    assert (text["decimals"], text["min"], text["max"]) == (2, 1.5, 2.25)
    assert (proposed["columns"]["single"]["min"], proposed["columns"]["single"]["max"]) == (34.0, 42.0)
    payload, faults = TableContent(TableSchema.model_validate(proposed)).convert(table)
    assert not faults and on_digits(np.array(payload["single"].to_pylist()), 1)
    assert not any(
        "decimals" in column for column in propose_schema(tmp_path / "p.parquet")["schema"]["columns"].values()
    )


def test_events_and_children_have_their_digits_too() -> None:
    step = Step(iteration=1, iterations=1, degree=0.5)
    events = {
        "most": 5,
        "time": {"type": "date", "min": "2020-01-01", "max": "2026-12-31"},
        "kind": {"values": ["visit", "stay"]},
        "gaps": {"unit": "days", "edges": [0, 7]},
        "attributes": {"heat": TEMPERATURE},
    }
    tables = {
        "parent": {"name": "patients", "key": "id", "columns": {"weight": {**TEMPERATURE, "max": 99.9}}},
        "child": {"name": "visits", "key": "id", "most": 3, "columns": {"heat": TEMPERATURE}},
        "constraints": [{"if": {"weight": {"max": 50}}, "then": {"visits.heat": {"max": 37.04}}}],
    }
    for maker, name in (
        (SequenceGenerator(Options(), labels=[None], schema=events), "events"),
        (Relational(RelationalOptions(), labels=[None], schema=tables), "visits"),
    ):
        made = maker.random([None] * 60, rngs(60)).append_column("label", pa.nulls(60, pa.string()))
        for table in (made, maker.vary(made, step, rngs(60))):
            heat = np.array(table[name].combine_chunks().flatten().field("heat").to_pylist())
            assert on_digits(heat, 1) and len(np.unique(heat)) > 20
            if name == "visits":
                weights = table["weight"].to_numpy()
                assert on_digits(weights, 1)
                children = table[name].to_pylist()
                light = [
                    each["heat"] for own, weight in zip(children, weights, strict=True) for each in own if weight <= 50
                ]
                assert max(light) == 37.0
