"""The generator and embedder of tables: contract, mutation, constraints, marginals."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pe_beam.contracts.generator import Marginals, Step, Within
from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.measuring.shares import shares_of
from pe_beam.modalities.tabular import modality_of
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.constraints import holds
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.marginals import bin_of, code_in, slices_of
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.testing import check_embedder, check_generator
from tests.modalities.tabular.conftest import KINDS

CONSTRAINED: dict[str, Any] = {
    "columns": {
        "low": {"type": "integer", "min": 0, "max": 50},
        "high": {"type": "integer", "min": 10, "max": 60},
        "part": {"type": "float", "min": 0, "max": 10},
        "rest": {"type": "float", "min": 0, "max": 10},
        "total": {"type": "float", "min": 2, "max": 15},
        "job": {"type": "categorical", "values": ["none", "clerk", "cook"]},
        "pay": {"type": "integer", "min": 0, "max": 100},
    },
    "constraints": [
        {"less_or_equal": ["low", "high"]},
        {"sum": ["part", "rest"], "equals": "total"},
        {"if": {"job": ["none"]}, "then": {"pay": {"max": 0}}},
        {"if": {"pay": {"min": 90}}, "then": {"job": ["cook", "none"]}},
    ],
}


def made(schema: TableSchema, count: int = 200, **options: Any) -> tuple[Tabular, pa.Table]:
    generator = Tabular(TabularOptions(**options), labels=["a", "b"], schema=schema)
    rngs = [keyed_rng(0, 0, i, "random") for i in range(count)]
    rows = generator.random([["a", "b"][i % 2] for i in range(count)], rngs)
    return generator, rows.append_column("label", pa.array([["a", "b"][i % 2] for i in range(count)]))


def varied(generator: Tabular, rows: pa.Table, degree: float, turn: int = 1) -> np.ndarray:
    step = Step(iteration=turn, iterations=9, degree=degree)
    rngs = [keyed_rng(0, turn, i, "vary") for i in range(rows.num_rows)]
    return encode_payload(generator.vary(rows, step, rngs), generator._schema)


@pytest.mark.parametrize("schema", [KINDS, CONSTRAINED])
@pytest.mark.parametrize("steps", ["uniform", "gaussian", "redraw"])
def test_contract(schema: dict[str, Any], steps: str) -> None:
    declared = TableSchema.model_validate(schema)
    generator, rows = made(declared, 8, steps=steps)
    check_generator(generator, modality_of(declared), labels=["a", "b"])
    bad = rows.set_column(1, rows.column_names[1], pa.array([10**6] * 8, rows.schema.types[1]))
    check_embedder(TabularEmbedder(TabularEmbedderOptions(), schema=declared), rows, bad=bad)


@pytest.mark.parametrize("steps", ["uniform", "gaussian", "redraw"])
def test_values_stay_within_what_is_declared(kinds: TableSchema, steps: str) -> None:
    generator, rows = made(kinds, steps=steps)
    for degree in (0.0, 0.3, 1.0):
        codes = varied(generator, rows, degree)
        for i, column in enumerate(kinds.columns.values()):
            fine = (codes[:, i] >= column.low) & (codes[:, i] <= column.high)
            assert (fine | (np.isnan(codes[:, i]) & column.missing)).all()
    assert np.array_equal(varied(generator, rows, 0.0), encode_payload(rows, kinds), equal_nan=True)


def test_mutation_is_as_published(kinds: TableSchema) -> None:
    generator, rows = made(kinds, 4000)
    before, after = encode_payload(rows, kinds), varied(generator, rows, 0.2)
    names = list(kinds.columns)
    age = names.index("age")
    moved = after[:, age] - before[:, age]
    inner = (before[:, age] > 25) & (before[:, age] < 75)
    assert np.abs(moved).max() <= 20 and abs(moved[inner].std() - 0.2 * 99 / np.sqrt(3)) < 0.6
    member = names.index("member")  # drawn anew with probability 0.2, the same half of the time
    assert abs((before[:, member] != after[:, member]).mean() - 0.1) < 0.02
    size = np.abs(after[:, names.index("size")] - before[:, names.index("size")])
    assert size.max() <= 1  # an ordinal moves along its order: 0.2 of 3 steps is one at most


def test_random_rows_are_uniform(kinds: TableSchema) -> None:
    _, rows = made(kinds, 4000)
    codes = encode_payload(rows, kinds)
    assert abs(np.nanmean(codes[:, 0]) - 49.5) < 2 and abs(np.isnan(codes[:, 2]).mean() - 0.1) < 0.02
    assert np.abs(np.bincount(codes[:, 4].astype(int)) / 4000 - 0.25).max() < 0.03


@pytest.mark.parametrize("steps", ["uniform", "redraw"])
def test_every_candidate_obeys_the_constraints(steps: str) -> None:
    schema = TableSchema.model_validate(CONSTRAINED)
    generator, rows = made(schema, 300, steps=steps)
    names = list(schema.columns)
    for codes in (encode_payload(rows, schema), varied(generator, rows, 0.5), varied(generator, rows, 0.02)):
        for constraint in schema.constraints:
            assert holds(codes, names, schema.columns, constraint).all()
        assert len(np.unique(codes[:, names.index("job")])) == 3


WARDS: dict[str, Any] = {
    "columns": {
        "ward": {"type": "categorical", "values": ["children", "births", "other"]},
        "age": {"type": "integer", "min": 0, "max": 99, "bins": 7, "missing": True},
        "dose": {"type": "float", "min": 0, "max": 100, "bins": 3},
        "sex": {"type": "categorical", "values": ["f", "m", "x"]},
    },
    "constraints": [
        {"if": {"ward": ["children"]}, "then": {"age": {"max": 15}, "dose": {"min": 5, "max": 60}}},
        {"if": {"ward": ["births"]}, "then": {"sex": ["f", "x"], "dose": [10, 20, 90]}},
    ],
}


def test_what_a_condition_forbids_is_drawn_among_what_it_allows() -> None:
    """The nearest allowed value would be that of most: of ages up to 15 five in six were 15."""
    schema = TableSchema.model_validate(WARDS)
    generator, rows = made(schema, 3000, steps="redraw")
    for codes in (encode_payload(rows, schema), varied(generator, rows, 0.3)):
        children, births = codes[codes[:, 0] == 0], codes[codes[:, 0] == 1]
        ages = children[~np.isnan(children[:, 1]), 1]
        assert ages.max() == 15 and np.abs(np.bincount(ages.astype(int)) / len(ages) - 1 / 16).max() < 0.04
        assert children[:, 2].min() > 5 and children[:, 2].max() < 60, "none lies at an end"
        assert np.abs(np.histogram(children[:, 2], 5, (5, 60))[0] / len(children) - 0.2).max() < 0.06
        assert abs((births[:, 3] == 2).mean() - 0.5) < 0.06 and set(births[:, 2].tolist()) == {10, 20, 90}
    after = varied(generator, rows, 0.3)
    rngs = [keyed_rng(0, 1, i, "vary") for i in range(3000)]
    alone = generator.vary(rows.slice(17, 1), Step(iteration=1, iterations=9, degree=0.3), rngs[17:18])
    assert np.array_equal(encode_payload(alone, schema)[0], after[17], equal_nan=True), "keyed by the candidate alone"


def test_conditions_may_stand_in_any_order() -> None:
    """Births make women of men, whose weight was right before."""
    rules = [{"if": {"sex": ["f"]}, "then": {"kg": {"max": 69}}}, {"if": {"birth": [True]}, "then": {"sex": ["f"]}}]
    columns = {
        "birth": {"type": "boolean"},
        "sex": {"type": "categorical", "values": ["f", "m"]},
        "kg": {"type": "integer", "min": 30, "max": 129},
    }
    for some in (rules, rules[::-1]):
        declared = TableSchema.model_validate({"columns": columns, "constraints": some})
        _, sex, kg = encode_payload(made(declared, 2000)[1], declared).T
        assert (kg[sex == 0] <= 69).all() and (kg[sex == 0] == 69).mean() < 0.05


def test_what_a_condition_forbids_of_a_sliced_bin_leaves_the_rest_of_it() -> None:
    """Most of the first bin is 0. Where 0 is forbidden, the bin is as likely as the little that remains."""
    rules = [{"if": {"free": [False]}, "then": {"cost": {"min": 0.01}}}]
    cost = {"type": "float", "min": 0, "max": 3200, "decimals": 2}
    declared = TableSchema.model_validate(
        {"columns": {"free": {"type": "boolean"}, "cost": cost}, "constraints": rules}
    )
    shares = np.full((32, slices_of(declared.columns["cost"])), 1.0)
    shares[0, 0] = 99 * shares.shape[1]
    often = shares > 1
    within = Within(shares / shares.sum(axis=1, keepdims=True), often)
    counts = {"free": np.array([[13100.0, 0.0]]), "cost": np.array([[10000.0, *[100.0] * 31]])}
    seeded = made(declared, 1)[0].seeded(Marginals(["a"], counts, 1.0, within={"cost": within}))
    rows = seeded.random(["a"] * 2000, [keyed_rng(0, 0, i, "random") for i in range(2000)])
    cost_made = encode_payload(rows, declared)[:, 1]
    assert (cost_made > 0).all() and abs((cost_made < 100).mean() - 1 / 32) < 0.02


@pytest.mark.parametrize("steps", ["redraw", "uniform"])
def test_a_second_date_within_some_days_of_the_first_is_drawn_among_them(steps: str) -> None:
    """It heaps neither at the first one nor at the end, also where another constraint leaves it less room."""
    day = {"type": "date", "min": "2020-01-01", "max": "2025-12-31"}
    declared = TableSchema.model_validate(
        {
            "columns": {"admitted": day, "discharged": day | {"missing": True}, "dead": day | {"missing": True}},
            "constraints": [
                {"less_or_equal": ["admitted", "discharged"], "within": 9},
                {"less_or_equal": ["discharged", "dead"], "within": 4000},
            ],
        }
    )
    generator, rows = made(declared, 3000, steps=steps)
    for codes in (encode_payload(rows, declared), varied(generator, rows, 0.2)):
        admitted, discharged, dead = codes.T
        days = (discharged - admitted)[~np.isnan(discharged)]
        assert days.min() == 0 and days.max() == 9 and np.bincount(days.astype(int)).max() < 0.2 * len(days)
        assert not (dead < discharged).any() and (dead == discharged).mean() < (0.02 if steps == "redraw" else 0.08)


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"less_or_equal": ["low", "high"], "within": -1}, "greater than or equal to 0"),
        ({"less_or_equal": ["low", "high"], "within": float("inf")}, "finite"),
        ({"sum": ["part", "rest"], "equals": "total", "within": 1}, "within: is for less_or_equal"),
        ({"less_or_equal": ["size", "other"], "within": 1}, "within: is for numbers and dates"),
        ({"less_or_equal": ["part", "far"], "within": 9}, "cannot be met within the bounds"),
    ],
)
def test_a_distance_that_cannot_be_kept_is_refused(constraint: dict[str, Any], said: str) -> None:
    sizes = {name: {"type": "ordinal", "values": ["s", "m"]} for name in ("size", "other")}
    columns = CONSTRAINED["columns"] | sizes | {"far": {"type": "float", "min": 20, "max": 30}}
    with pytest.raises(ValueError, match=said):
        TableSchema.model_validate({"columns": columns, "constraints": [constraint]})


def test_where_nothing_that_is_allowed_is_likely_the_nearest_value_is_taken() -> None:
    schema = TableSchema.model_validate(WARDS)
    plain, _ = made(schema, 1)
    sizes = TabularEmbedder(TabularEmbedderOptions(), schema=schema).marginal_sizes()
    counts = {name: np.full((2, size), 10.0) for name, size in sizes.items()}
    counts["age"] = np.array([[0, 0, 0, 0, 10.0, 10, 10, 0]] * 2)  # from 57 on
    generator = plain.seeded(Marginals(["a", "b"], counts, 0.1))
    rngs = [keyed_rng(0, 0, i, "random") for i in range(300)]
    codes = encode_payload(generator.random(["a", "b"] * 150, rngs), schema)
    assert (codes[codes[:, 0] == 0, 1] == 15).all() and codes[codes[:, 0] != 0, 1].min() >= 57


@pytest.mark.parametrize("schema", [KINDS, CONSTRAINED])
@pytest.mark.parametrize("steps", ["uniform", "redraw"])
def test_with_differ_no_variation_equals_its_parent(schema: dict[str, Any], steps: str) -> None:
    """At a rate of 0 each row differs in one column, but where constraints repair others, and keeps them all."""
    declared = TableSchema.model_validate(copy.deepcopy(schema))
    plain, rows = made(declared, steps=steps)
    before, names = encode_payload(rows, declared), list(declared.columns)
    assert np.array_equal(varied(plain, rows, 0.0), before, equal_nan=True)
    differing, _ = made(declared, steps=steps, differ=True)
    after = varied(differing, rows, 0.0)
    changed = ~((after == before) | (np.isnan(after) & np.isnan(before)))
    assert changed.any(axis=1).all()
    if not declared.constraints:
        assert (changed.sum(axis=1) == 1).all()
    assert all(holds(after, names, declared.columns, each).all() for each in declared.constraints)
    assert np.array_equal(varied(differing, rows, 0.0), after, equal_nan=True)


def test_conditions_that_exclude_each_other_leave_the_rows_to_which_one_applies() -> None:
    """No child is a pensioner: of such a row no age is right, so it is drawn anew, also if it is likely."""
    declared = TableSchema.model_validate(
        {
            "columns": {
                "ward": {"type": "categorical", "values": ["children", "other"]},
                "pension": {"type": "boolean"},
                "age": {"type": "integer", "min": 0, "max": 99},
            },
            "constraints": [
                {"if": {"ward": ["children"]}, "then": {"age": {"max": 15}}},
                {"if": {"pension": [True]}, "then": {"age": {"min": 60}}},
            ],
        }
    )
    generator, rows = made(declared, 400, steps="redraw")
    ward, pension, age = encode_payload(rows, declared).T
    assert not ((ward == 0) & (pension == 1)).any()
    assert 0.25 < (ward == 0).mean() < 0.42 > (pension == 1).mean() > 0.25
    assert (age[ward == 0] <= 15).all() and (age[pension == 1] >= 60).all()

    counts = {"ward": np.array([[9999.0, 1.0]]), "pension": np.array([[0.0, 10000.0]]), "age": np.ones((1, 100))}
    seeded = generator.seeded(Marginals(["a"], counts, 1.0))
    again = encode_payload(seeded.random(["a"] * 20, [keyed_rng(1, 0, i, "random") for i in range(20)]), declared)
    assert all(holds(again, list(declared.columns), declared.columns, each).all() for each in declared.constraints)


def test_a_value_between_two_others_is_lowered_where_it_cannot_be_raised() -> None:
    """To raise `out` to `day` breaks what the ward allows, and the other way round: in circles."""
    whole = {"type": "integer", "min": 0, "max": 100}
    constraints = [
        {"less_or_equal": ["day", "out"]},
        {"if": {"ward": ["short"]}, "then": {"out": {"max": 10}}},
    ]
    ward = {"type": "categorical", "values": ["short", "long"]}
    declared = TableSchema.model_validate(
        {"columns": {"day": whole, "out": whole, "ward": ward}, "constraints": constraints}
    )
    rows = encode_payload(made(declared)[1], declared)
    assert (rows[:, 0] <= rows[:, 1]).all() and (rows[rows[:, 2] == 0, 1] <= 10).all()
    assert 0.4 < (rows[:, 2] == 0).mean() < 0.6


@pytest.mark.parametrize(
    "constraints",
    [
        [
            {"less_or_equal": ["pay", "low"]},
            {"if": {"pay": {"min": 0}}, "then": {"low": {"max": 3}, "pay": {"min": 9}}},
        ],
        [{"sum": ["low", "high"], "equals": "job"}],
        [{"less_or_equal": ["job", "low"]}],
        [{"if": {"job": ["baker"]}, "then": {"pay": [1]}}],
        [{"if": {"job": ["cook"]}, "then": {"pay": {"min": 500}}}],
        [{"if": {"job": ["cook"]}, "then": {"job": ["none"]}}],
        [{"sum": ["part", "part"], "equals": "total"}],
        [{"less_or_equal": ["low", "high"], "sum": ["part"], "equals": "total"}],
        [{"if": {"pay": {"min": 0}}, "then": {"low": {"max": 3}}}, {"if": {"pay": {"min": 0}}, "then": {"low": [9]}}],
    ],
)
def test_constraints_that_cannot_be_are_refused(constraints: list[Any]) -> None:
    with pytest.raises((ValueError, RecipeError)):
        schema = TableSchema.model_validate(CONSTRAINED | {"constraints": constraints})
        made(schema, 1)


@given(st.integers(1, 40), st.integers(0, 300), st.booleans(), st.floats(0, 0.999999))
def test_a_code_of_a_bin_lies_in_it(bins: int, width: int, whole: bool, within: float) -> None:
    kind = {"type": "integer" if whole else "float", "min": -7, "max": -7 + width, "bins": bins, "missing": True}
    column = Column.model_validate(kind)
    every = np.arange(column.marginal_bins + 1)
    codes = code_in(every, np.full(len(every), within), column)
    if whole:
        assert np.array_equal(bin_of(codes, column), every)
        assert (codes[:-1] == np.round(codes[:-1])).all()
    elif width:
        # A float may be rounded over the edge of its bin, no further.
        assert np.abs(bin_of(codes, column) - every)[:-1].max() <= 1
    assert np.isnan(codes[-1])


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=12), st.floats(-10, 100))
def test_shares_are_the_projection_on_the_simplex(counts: list[float], total: float) -> None:
    values = np.array(counts)
    shares = shares_of(values, total)
    assert (shares >= 0).all() and abs(shares.sum() - 1) < 1e-9
    if total >= 1:
        # Optimality: those above 0 all lie the same way off their value, none at 0 would be above it.
        gap = values / total - shares
        inside = gap[shares > 1e-9]
        assert np.ptp(inside) < 1e-6 * max(1.0, np.abs(values / total).max())
        assert (gap[shares <= 1e-9] <= inside.max() + 1e-6 * np.abs(values / total).max()).all()


def test_bought_marginals_are_followed_label_by_label(kinds: TableSchema) -> None:
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=kinds)
    sizes = embedder.marginal_sizes()
    rng = np.random.default_rng(0)
    counts = {name: 1000 * rng.dirichlet(np.ones(size), size=2) for name, size in sizes.items()}
    generator, _ = made(kinds, 1, steps="redraw")
    seeded = generator.seeded(Marginals(["a", "b"], counts, 1.0))
    rngs = [keyed_rng(0, 0, i, "random") for i in range(6000)]
    rows = seeded.random(["a", "b"] * 3000, rngs).append_column("label", pa.array(["a", "b"] * 3000))
    bins = embedder.marginal_bins(embedder.embed(rows).vectors)
    again = varied(seeded, rows, 0.5)
    for i, (name, column) in enumerate(kinds.columns.items()):
        for label in (0, 1):
            wanted = counts[name][label] / 1000
            found = np.bincount(bins[label::2, i], minlength=sizes[name]) / 3000
            after = np.bincount(bin_of(again[label::2, i], column), minlength=sizes[name]) / 3000
            assert 0.5 * np.abs(found - wanted).sum() < 0.08
            assert 0.5 * np.abs(after - wanted).sum() < 0.08  # a mutation does not lead away from them


def test_distances_are_as_published() -> None:
    schema = TableSchema.model_validate(
        {
            "columns": {
                "x": {"type": "float", "min": 10, "max": 20, "weight": 2},
                "c": {"type": "categorical", "values": ["a", "b", "c"], "missing": True},
                "k": {"type": "integer", "min": 3, "max": 3},
            }
        }
    )
    table = pa.table({"x": [10.0, 20.0, 10.0, 10.0], "c": ["a", "a", "b", None], "k": [3, 3, 3, 3]})
    vectors = TabularEmbedder(TabularEmbedderOptions(), schema=schema).embed(table).vectors
    squares = ((vectors[0] - vectors) ** 2).sum(axis=1)
    assert np.allclose(squares, [0, 4, 2 / 9, 2 / 9])


def test_a_row_that_becomes_too_long_is_refused() -> None:
    values = [str(i) for i in range(30_000)]
    schema = copy.deepcopy(KINDS)
    schema["columns"]["city"]["values"] = values
    with pytest.raises(RecipeError, match=r"vectors of .*embedder\.hashed"):
        TabularEmbedder(TabularEmbedderOptions(), schema=TableSchema.model_validate(schema))


WIDE: dict[str, Any] = {
    "columns": {
        "code": {"type": "categorical", "values": [f"c{i}" for i in range(3000)], "missing": True, "weight": 2},
        "age": {"type": "integer", "min": 0, "max": 9},
        "city": {"type": "categorical", "values": [f"c{i}" for i in range(40)]},
        "flag": {"type": "boolean"},
    }
}


def _hashed(size: int, schema: dict[str, Any] = WIDE) -> TabularEmbedder:
    return TabularEmbedder(TabularEmbedderOptions(hashed=size), schema=TableSchema.model_validate(schema))


def test_many_categories_become_short_patterns() -> None:
    declared = TableSchema.model_validate(WIDE)
    plain, short = TabularEmbedder(TabularEmbedderOptions(), schema=declared), _hashed(64)
    assert (plain.dimension, short.dimension) == (3001 + 1 + 40 + 2, 64 + 1 + 1 + 40 + 2)
    _, rows = made(declared, 3000)
    check_embedder(short, rows.slice(0, 50), bad=rows.slice(0, 50).set_column(3, "city", pa.array(["?"] * 50)))
    vectors = short.embed(rows).vectors
    # What a marginal counts is what the rows hold, whichever way they are embedded.
    assert np.array_equal(short.marginal_bins(vectors), plain.marginal_bins(plain.embed(rows).vectors))
    assert np.allclose((vectors[:, :65] ** 2).sum(axis=1), (2 / 3) ** 2)
    # All that is no pattern lies where it would lie without.
    assert np.array_equal(vectors[:, 65:], plain.embed(rows).vectors[:, 3001:])


@pytest.mark.parametrize("size", [64, 500, 1000])
def test_distances_of_patterns_are_about_those_of_one_hot(size: int) -> None:
    codes = np.arange(0, 3000, 3)
    table = pa.table(
        {"code": [f"c{i}" for i in codes], "age": [0] * 1000, "city": ["c0"] * 1000, "flag": [True] * 1000}
    )
    vectors = _hashed(size).embed(table.append_column("x", pa.nulls(1000))).vectors.astype(np.float64)
    products = (vectors[:, :size] @ vectors[:, :size].T)[np.triu_indices(1000, 1)] / (2 / 3) ** 2
    squares = 2 - 2 * products  # a one-hot's are 2
    assert abs(squares.mean() - 2) < 0.01 and abs(squares.std() - 2 / np.sqrt(size)) < 0.02
    assert squares.min() > 0


def test_patterns_follow_from_names_alone() -> None:
    row = pa.table({"code": ["c7"], "age": [3], "city": ["c7"], "flag": [True]})
    first = _hashed(32).embed(row).vectors[0, :32]
    fewer = copy.deepcopy(WIDE)
    fewer["columns"]["code"]["values"] = [f"c{i}" for i in range(2999, 5, -1)]  # another order, other values
    assert np.array_equal(_hashed(32, fewer).embed(row).vectors[0, :32], first)
    signs = "".join("+" if x > 0 else "-" for x in first)
    assert signs == "-+-+--+++-++--+-++-+++-+-+++-++-"  # pinned: another pattern is another embedding
    wide = _hashed(32)
    assert not np.array_equal(wide.embed(row).vectors[0, 34:66], first)  # the same value of another column


def test_a_pattern_that_two_values_share_is_refused() -> None:
    many = copy.deepcopy(WIDE)
    many["columns"]["code"]["values"] = [str(i) for i in range(200_000)]
    with pytest.raises(RecipeError, match=r"embedder\.hashed: two values of column 'code' have one pattern of 32"):
        _hashed(32, many)
    assert _hashed(64, many).dimension == 64 + 1 + 1 + 40 + 2
