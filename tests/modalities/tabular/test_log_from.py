"""Numbers of many sizes: bins, slices, vectors and moves by ratio (`log_from`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from pe_beam.contracts.generator import Step
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.comparing import grid_of
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.marginals import (
    bin_of,
    code_in,
    code_of,
    likeliest,
    slice_of,
    slice_sizes,
    slices_of,
    uniform_shares,
)
from pe_beam.modalities.tabular.propose import propose_schema
from pe_beam.modalities.tabular.schema import TableSchema

MONEY = {"type": "float", "min": 0, "max": 10_000_000, "decimals": 2, "log_from": 100}
COLUMNS = {
    "money": MONEY,
    "balance": {**MONEY, "min": -50_000, "max": 2_000_000, "missing": True},
    "visits": {"type": "integer", "min": 0, "max": 5000, "log_from": 1},
    "doses": {"type": "float", "min": 0.5, "max": 900, "multiple_of": 0.5, "log_from": 2, "bins": 9},
}


def _codes(column: Column, n: int = 4000) -> np.ndarray:
    """Returns values of all sizes, the bounds and 0 among them, where it is within."""
    rng = np.random.default_rng(0)
    found = np.exp(rng.uniform(-4, np.log(column.high), n)) * rng.choice([-1, 1], n)
    ends = [column.low, column.high, 0.0, -column.step, column.step]
    return np.clip(column.nearest(np.concatenate([found, ends])), column.low, column.high)


@pytest.mark.parametrize("name", COLUMNS)
def test_bins_go_by_ratio_and_zero_has_its_own(name: str) -> None:
    column = Column.model_validate(COLUMNS[name])
    codes = _codes(column)
    bins = bin_of(codes, column)
    count = column.marginal_bins
    assert (np.diff(bins[np.argsort(codes)]) >= 0).all() and bins.min() == 0 and bins.max() == count - 1
    for within in (0.0, 0.37, np.nextafter(1.0, 0.0)):
        back = code_in(np.arange(count), np.full(count, within), column)
        assert (bin_of(back, column) == np.arange(count)).all() and (column.nearest(back) == back).all()
    if column.low <= 0:
        assert (bins[codes != 0] != bin_of(np.zeros(1), column)).all()
    width = np.diff(np.asarray(column.edges)) * column.step
    assert width[-1] > 20 * width.min()  # far from 0 they are wide
    assert np.allclose(uniform_shares(column, 0.1)[0, :count], (0.9 if column.missing else 1) / count)
    assert np.isnan(code_in(np.array([count]), np.zeros(1), column)).all()


@pytest.mark.parametrize("name", COLUMNS)
def test_slices_hold_every_value_once(name: str) -> None:
    column = Column.model_validate(COLUMNS[name])
    codes = _codes(column)
    slices = slice_of(codes, column)
    assert (slices // slices_of(column) == bin_of(codes, column)).all()
    low, high = (code_of(slices, np.full(len(codes), end), column) for end in (0.0, np.nextafter(1.0, 0.0)))
    assert ((low <= codes) & (codes <= high)).all()
    assert slice_sizes(column).sum() == column.distinct
    if column.low <= 0:
        assert likeliest(slice_of(np.zeros(1), column), column) == 0


@pytest.mark.parametrize("name", COLUMNS)
def test_vectors_keep_the_bin_and_go_by_ratio(name: str) -> None:
    column = Column.model_validate(COLUMNS[name])
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=TableSchema(columns={name: column}))
    codes = _codes(column)
    table = pa.table({name: pa.array(codes).cast(column.arrow)})
    vectors = embedder.embed(table).vectors
    assert (vectors[:, 0] >= 0).all() and (vectors[:, 0] <= 1).all()
    assert (np.diff(vectors[np.argsort(codes), 0]) >= 0).all()
    found = embedder.marginal_bins(vectors)[:, 0]
    assert (found == bin_of(codes, column)).mean() > 0.995  # a value at an edge may be in either bin
    if column.low <= 0:
        assert (found[codes == 0] == bin_of(np.zeros(1), column)).all()
    assert (grid_of(codes, column) == np.floor(column.scaled(codes) * 19)).all()


def test_ratios_are_distances() -> None:
    column = Column.model_validate(MONEY)
    at = column.scaled(np.array([1_000.0, 10_000.0, 100_000.0, 1_000_000.0]))
    assert np.allclose(np.diff(at), np.diff(at)[0], rtol=0.05)
    linear = Column.model_validate({**MONEY, "log_from": None})
    assert linear.edges is None and linear.scaled(np.array([5e6])) == 0.5


@pytest.mark.parametrize("steps", ["uniform", "gaussian", "redraw"])
def test_rows_obey_bounds_and_variations_stay_near(steps: str) -> None:
    schema = TableSchema.model_validate({"columns": COLUMNS, "constraints": [{"less_or_equal": ["visits", "money"]}]})
    generator = Tabular(TabularOptions(steps=steps), labels=[None], schema=schema)
    rngs = [keyed_rng(0, 0, i, "test") for i in range(500)]
    rows = generator.random([None] * 500, rngs)
    money = rows["money"].to_numpy()
    assert 0.1 < (money < 1000).mean() < 0.4 and money.max() <= 10_000_000  # all sizes, and not the largest alone
    parents = rows.append_column("label", pa.nulls(500, pa.string()))
    varied = generator.vary(parents, Step(iteration=1, iterations=9, degree=0.02), rngs)
    after = varied["money"].to_numpy()
    assert (varied["visits"].to_numpy() <= after).all() and varied["balance"].null_count
    near = np.abs(np.log((after + 100) / (money + 100))) < 1
    assert near.mean() > 0.95  # those that broke the constraint may be drawn anew


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            {"type": "date", "min": "2000-01-01", "max": "2020-01-01", "log_from": 9},
            "log_from: is for integer and float",
        ),
        ({"type": "float", "min": 0, "max": 9, "log_from": 1}, "log_from: wants decimals or multiple_of"),
        ({**MONEY, "log_from": 0.001}, "less than neighbouring values differ by, 0.01"),
        ({**MONEY, "log_from": 0}, "greater than 0"),
    ],
)
def test_what_is_refused(column: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column.model_validate(column)


def test_few_values_have_a_bin_each_and_a_single_one_is_fine() -> None:
    assert Column(type="integer", min=0, max=100, log_from=1).marginal_bins == 101
    assert Column(type="integer", min=7, max=7, log_from=1, bins=5).marginal_bins == 1


def test_public_files_show_numbers_of_many_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    income = np.round(np.exp(rng.normal(10, 1.2, 500)), 2) * (rng.random(500) < 0.9)
    found = {
        "income": income,
        "visits": np.round(np.exp(rng.normal(2, 1.5, 500))).astype(int),
        "delay": np.round(np.exp(rng.normal(2, 1.2, 500)) * rng.choice([-1, 1], 500)).astype(int),
        "age": rng.integers(0, 100, 500),
        "year": rng.integers(1800, 2000, 500),
        "salary": np.round(rng.normal(50_000, 9_000, 500)).astype(int),
        "almost": np.append(rng.integers(1000, 1200, 499), 5000),  # crowded, but of one size
        "any": np.exp(rng.normal(0, 2, 500)),  # no least difference
    }
    csv.write_csv(pa.table(found), tmp_path / "public.csv")
    columns = propose_schema(tmp_path / "public.csv", public=True)["schema"]["columns"]
    named = {name: column["log_from"] for name, column in columns.items() if "log_from" in column}
    assert named == {"income": 1000, "visits": 1, "delay": 1}
    assert Column.model_validate(columns["income"]).edges is not None
