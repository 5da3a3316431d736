"""Slices of bins: which values they hold, which are worth counting, and rows that have what comes often."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.generator import Within
from pe_beam.driver.loop import evolve
from pe_beam.engine import counting
from pe_beam.engine.cells import columns_in_slices, commit_bins, read_bins
from pe_beam.engine.choose import _noisy_votes
from pe_beam.engine.frozen import shards_of
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.measuring import StepCells, asked, steps_of
from pe_beam.engine.populations import read_histogram
from pe_beam.engine.queries import measurement_of
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.spending import grid_bits, sigma_of
from pe_beam.errors import RecipeError
from pe_beam.measuring.known import Known
from pe_beam.measuring.slices import SPIKE, clique_of, sliced, within, worth_counting
from pe_beam.modalities.tabular.codec import decode_payload
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.embedder import TabularEmbedder, TabularEmbedderOptions
from pe_beam.modalities.tabular.marginals import bin_of, code_of, likeliest, slice_of, slices_of
from pe_beam.modalities.tabular.places import Places
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.plan import make_plan

COLUMNS: dict[str, Any] = {
    "kind": {"type": "categorical", "values": ["in", "out"]},
    "cost": {"type": "integer", "min": 0, "max": 99_999, "outside": "clip"},
    "dose": {"type": "float", "min": 0, "max": 40, "missing": True},
    "when": {"type": "date", "min": "2020-01-01", "max": "2026-12-31"},
}
ROOMY = [
    {"type": "integer", "min": -7, "max": 1000},
    {"type": "integer", "min": 0, "max": 99, "bins": 7},
    {"type": "integer", "min": 0, "max": 99_999, "bins": 10_000},
    {"type": "float", "min": -3.3, "max": 1e6},
    {"type": "float", "min": 0, "max": 1, "bins": 10_000},
    {"type": "float", "min": -3.3, "max": 1000, "decimals": 2},
    {"type": "date", "min": "2020-01-01", "max": "2025-06-01"},
]


def rows(count: int, seed: int = 0) -> pa.Table:
    """Costs are 0 for half of all, doses one of three numbers or missing, dates even."""
    rng = np.random.default_rng(seed)
    dose = rng.choice([2.5, 12.5, 33.3], count, p=[0.5, 0.3, 0.2])
    return pa.table(
        {
            "kind": rng.choice(["in", "out"], count),
            "cost": np.where(rng.random(count) < 0.5, 0, rng.gamma(1, 2000, count).astype(int)),
            "dose": pa.array(dose, mask=rng.random(count) < 0.2),
            "when": pa.array(18262 + rng.integers(0, 2557, count), pa.int32()).cast(pa.date32()),
            "group": rng.choice(["low", "high"], count),
        }
    )


def recipe_of(path: Path) -> dict[str, Any]:
    return {
        "name": "sliced",
        "data": {
            "source": "parquet",
            "path": str(path),
            "columns": {"label": "group"},
            "labels": ["low", "high"],
            "schema": {"columns": COLUMNS},
            "expected_records": 3000,
        },
        "modality": "tabular",
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 400, "population": 400, "smoothing": 0.5},
        "privacy": {
            "epsilon": 3,
            "delta": 1e-5,
            "keep_secret": True,
            "measure": {"one_way": {"budget": 0.5}, "slices": {"budget": 0.2}},
        },
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that counts slices. No test changes it."""
    folder = tmp_path_factory.mktemp("sliced")
    pq.write_table(rows(3000), folder / "rows.parquet")
    evolve(parse_recipe(recipe_of(folder / "rows.parquet")), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("declared", ROOMY, ids=lambda own: f"{own['type']}-{own['max']}")
def test_slices_part_a_bin_and_each_value_is_in_one_of_them(declared):
    column, rng = Column(**declared), np.random.default_rng(0)
    values = rng.uniform(column.low, column.high, 2000)
    values = column.nearest(values)
    values[:2] = column.low, column.high
    slices = slice_of(values, column)
    assert (slices // slices_of(column) == bin_of(values, column)).all()
    back = code_of(slices, rng.random(len(values)), column)
    assert (slice_of(back, column) == slices).all()
    if column.distinct / column.marginal_bins <= 256:
        drawn = [code_of(slices[:20], rng.random(20), column) for _ in range(60)]
        assert (np.stack(drawn) == values[:20]).any(axis=0).all(), "each value can be drawn"
    last = np.array([column.marginal_bins * slices_of(column)])
    assert (slice_of(np.array([np.nan]), column) == last).all() and np.isnan(code_of(last, np.zeros(1), column)).all()


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ({"type": "float", "min": 0, "max": 40}, 12.5),
        ({"type": "float", "min": 0, "max": 40}, 0.0),
        ({"type": "float", "min": -3, "max": 7}, -1.25),
        ({"type": "float", "min": 0, "max": 200_000}, 45_000.0),
        ({"type": "integer", "min": 0, "max": 99_999}, 7000.0),
        ({"type": "integer", "min": 0, "max": 99_999, "outside": "clip"}, 99_999.0),
        ({"type": "integer", "min": 0, "max": 99_999_999}, 75_000_000.0),
        ({"type": "float", "min": 0.01, "max": 1e6}, 0.01),
        ({"type": "float", "min": 5, "max": 5.0000001}, 5.0000001),
        ({"type": "float", "min": 30, "max": 43, "decimals": 2}, 36.67),
        ({"type": "integer", "min": -1_000_000, "max": -1}, -1.0),
        ({"type": "date", "min": "1900-01-01", "max": "2199-12-31"}, "2000-01-01"),
        ({"type": "date", "min": "1850-07-09", "max": "2199-12-31"}, "1850-07-09"),
        ({"type": "datetime", "min": "1970-01-01T00:00:00", "max": "2069-12-31T00:00:00"}, "2000-03-01T00:00:00"),
    ],
)
def test_a_value_that_comes_often_is_taken_for_the_likeliest_of_its_slice(declared, value):
    """As vectors have it, which are float32: 75,000,000 is then in the slice below its own."""
    schema = TableSchema.model_validate({"columns": {"x": declared}})
    column, embedder = schema.columns["x"], TabularEmbedder(TabularEmbedderOptions(), schema=schema)
    codes = np.array([column.number(value)])
    found = embedder.sliced_bins(embedder.embed(decode_payload(codes[None], schema)).vectors)[:, 0]
    assert likeliest(found, column).tolist() == codes.tolist()


@pytest.mark.parametrize(
    ("low", "high"), [(2.5734521958240174e163, 2.5734521958240187e163), (1e-20, 3e-20), (-1e300, 1.5e308)]
)
def test_the_likeliest_value_is_within_bounds_of_any_size(low, high):
    column = Column(type="float", min=low, max=high)
    found = likeliest(np.arange(32 * slices_of(column), step=31), column)
    assert ((found >= low) & (found <= high)).all()


@pytest.mark.parametrize("declared", ROOMY, ids=lambda own: f"{own['type']}-{own['max']}")
def test_values_stay_in_their_bin_and_are_even_where_no_slice_was_counted(declared):
    """Of bins with 14 or 15 values each, those with 14 have a slice without any."""
    column = Column(**declared)
    bins, each = column.marginal_bins, slices_of(column)
    shares, often = np.full((bins, each), 1 / each), np.ones((bins, each), dtype=bool)
    place, uniform = (
        np.repeat(np.arange(min(bins, 50)), 300),
        np.tile((np.arange(300) + 0.5) / 300, min(bins, 50)),
    )
    even = Places(column).codes(place, uniform)
    found = Places(column, Within(shares, ~often)).codes(place, uniform)
    assert (bin_of(found, column) == place).all()
    assert np.abs(found - even).max() <= max(1, (column.high - column.low) / bins / each)
    special = Places(column, Within(shares, often)).codes(place, uniform)
    assert (special >= column.low).all() and (special <= column.high).all()
    shares[:] = np.eye(each)[-1]  # the last one has no values in some bins
    assert (bin_of(Places(column, Within(shares, ~often)).codes(place, uniform), column) == place).all()


def test_the_embedder_finds_the_slices_of_rows():
    schema, data = TableSchema.model_validate({"columns": COLUMNS}), rows(500)
    embedder = TabularEmbedder(TabularEmbedderOptions(), schema=schema)
    assert list(embedder.marginal_slices()) == ["cost", "dose", "when"]
    found = embedder.sliced_bins(embedder.embed(data.drop_columns(["group"])).vectors)
    days = data["when"].cast(pa.int32()).to_numpy().astype(float)
    for place, (name, codes) in enumerate({"cost": data["cost"].to_numpy().astype(float), "when": days}.items()):
        assert np.array_equal(found[:, 2 * place], slice_of(codes, schema.columns[name]))
    missing = np.array(data["dose"].is_null())
    assert (found[missing, 1] == 32 * 256).all() and (found[~missing, 1] < 32 * 256).all()
    assert len(set(found[~missing, 1].tolist())) == 3


def test_exact_counts_are_those_of_numpy_and_a_record_adds_no_more_than_the_noise_is_for(done):
    run, data = open_run(done), rows(3000)
    vectors = run.embedder.embed(data.drop_columns(["group"])).vectors
    bins = np.concatenate([run.embedder.marginal_bins(vectors), run.embedder.sliced_bins(vectors)], axis=1)
    labels = (np.array(data["group"].to_pylist()) == "high").astype(np.int32)
    exact = pq.read_table(done / counting.counts_name(0))["count"].to_numpy()
    cliques, step = asked(run, 0), steps_of(run)[0]
    assert [each.columns for each in cliques][:2] == [(4,), (5,)], "slices come after the columns"
    direct = [
        np.bincount(own.groups[0][bins[:, own.columns[0]]], minlength=own.shape[0]) * own.weight for own in cliques
    ]
    assert np.array_equal(exact, np.concatenate(direct))
    [shard] = shards_of(run)
    cells = measurement_of(run, 0).ballots()
    assert cells.sliced and np.array_equal(cells.tally(read_bins(run, shard, sliced=True)).counts, exact)
    no_vectors, by_older_versions = shard | {"shard": "nowhere"}, {"shard": shard["shard"]}
    assert np.array_equal(cells.tally(read_bins(run, no_vectors, sliced=True)).counts, exact)
    assert np.array_equal(cells.tally(read_bins(run, by_older_versions, sliced=True)).counts, exact)
    assert not measurement_of(run, -1).ballots().sliced
    ballots = StepCells(run, 0)
    records, counted = ballots.ballots(vectors[:40], labels[:40])
    for record in range(40):
        _, often = np.unique(counted[records == record], return_counts=True)
        assert (often**2).sum() <= step.norm_squared == ballots.votes_per_record == 16 * 4


def test_bins_that_an_older_version_froze_without_slices_do(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    run = open_run(tmp_path / "run")
    [shard] = shards_of(run)
    [(bins, labels)] = read_bins(run, {"shard": shard["shard"]})
    packed = pa.array([row.tobytes() for row in bins.astype(np.uint8)], pa.binary(bins.shape[1]))
    shard |= commit_bins(run, "older", pa.table({"label": labels, "bins": packed}))
    [(again, _)] = read_bins(run, shard)
    assert np.array_equal(again, bins)
    exact = pq.read_table(done / counting.counts_name(0))["count"].to_numpy()
    assert np.array_equal(measurement_of(run, 0).ballots().tally(read_bins(run, shard, sliced=True)).counts, exact)


def test_who_reads_the_release_can_choose_and_estimate_again(done):
    run, folder = open_run(done), done / "release/iteration=0000/measured"
    one_way = pq.read_table(folder / "1-one_way.parquet")
    counts, start = [], 0
    for size in run.embedder.marginal_sizes().values():
        counts.append(one_way["noisy_count"].to_numpy()[start : (start := start + 2 * size)].reshape(2, size))
    weights = np.array([1 / each.shape[1] for each in counts])
    totals = (weights[:, None] * np.stack([each.sum(axis=1) for each in counts])).sum(axis=0) / weights.sum()
    ordered = run.embedder.marginal_ordered()
    columns = sliced(run.embedder.marginal_sizes(), ordered, run.embedder.marginal_slices())
    sigma = json.loads((done / "ledger.jsonl").read_text().splitlines()[1])["sigma"]
    chosen = Known(counts, totals, list(ordered.values())).slices(columns, sigma=sigma, bound=64)
    said = json.loads((folder / "2-slices.json").read_text())
    assert {"cost", "dose"} <= {name for each in said for name in each["columns"]}
    names = {name: place for place, name in enumerate(["cost", "dose", "when"])}
    assert all(each["slices"] == columns[names[each["columns"][0]]].slices for each in said)
    shown = (done / "release/report.html").read_text()
    assert all(f"{each['columns'][0]} in slices of {len(each['sliced'])} of its bins" in shown for each in said)
    for each, own in zip(said, chosen, strict=True):
        column = columns[names[each["columns"][0]]]
        assert (own.columns, own.weight) == ((column.place,), each["weight"])
        assert np.array_equal(own.groups[0], clique_of(column, np.array(each["sliced"]), 1).groups[0])
    noisy, found, start = pq.read_table(folder / "2-slices.parquet")["noisy_count"].to_numpy(), read_marginals(run), 0
    for own, [name] in zip(chosen, (each["columns"] for each in said), strict=True):
        column = columns[names[name]]
        part = noisy[start : (start := start + own.shape[0])]
        told = within(column, own.groups[0], part, sigma / own.weight, found.counts[name].sum(axis=0))
        np.testing.assert_allclose(found.within[name].shares, told[0])
        assert np.array_equal(found.within[name].often, told[1])
    assert start == len(noisy)


def test_samples_have_the_values_that_come_often(done):
    samples = pq.read_table(done / "release/samples.parquet")
    cost, dose = samples["cost"].to_numpy(), samples["dose"].to_pylist()
    assert np.mean(cost == 0) == pytest.approx(0.5, abs=0.12)
    there = [each for each in dose if each is not None]
    assert np.mean([each in (2.5, 12.5, 33.3) for each in there]) > 0.9
    dates = samples["when"].to_pylist()
    assert len(set(dates)) > 0.7 * len(dates), "even dates stay even"
    privacy = json.loads((done / "release/privacy.json").read_text())
    assert "counts of slices of bins that hold many records" in privacy["statement"]


def test_bins_of_few_records_are_left_out_and_their_share_goes_to_one_way_counts():
    columns = sliced({"a": 2, "x": 8, "y": 9}, {"a": 0, "x": 8, "y": 8}, {"x": 16, "y": 16})
    assert [(each.place, each.size) for each in columns] == [(3, 128), (4, 129)]
    counts = [np.array([500.0, 90, 0, 0, 0, 0, 0, 400]), np.array([30.0] * 9)]
    assert [each.tolist() for each in worth_counting(columns, counts, [10, 10])] == [[0, 7], []]
    assert [each.tolist() for each in worth_counting(columns, counts, [10, 1], most=48)] == [[0, 7], [0]]
    by_label = [np.array([[500.0, 490.0]]), counts[0][None], counts[1][None]]
    known = Known(by_label, np.array([990.0]), [0, 8, 8])
    [own] = known.slices(columns, sigma=45.0, bound=48)  # 110 records in each bin of y
    assert (own.columns, own.weight, own.shape) == ((3,), 6, (49,)), "with more weight a third bin holds enough"
    for sigma in (1000.0, 1e9):  # no bin holds enough
        assert [each.columns for each in known.slices(columns, sigma=sigma, bound=48)] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("seed", range(4))
def test_noise_alone_is_no_value_that_comes_often(seed):
    rng = np.random.default_rng(seed)
    [column] = sliced({"x": 4}, {"x": 4}, {"x": 200})
    clique = clique_of(column, np.array([1, 2]), 1)
    even = np.concatenate([[0.0], np.full(200, 20.0), np.full(200, 5.0)])
    counts = even + rng.normal(0, 30, 401)
    counts[1 + 77] += 12 * 30
    shares, often = within(column, clique.groups[0], counts, 30.0, np.array([0.0, 4360, 1000, 0]))
    assert (shares[[0, 3]] == 1 / 200).all()
    assert np.flatnonzero(often.ravel()).tolist() == [200 + 77]
    assert shares[1, 77] == pytest.approx(380 / 4360, abs=SPIKE * 30 / 4360)
    assert np.abs(np.delete(shares[1], 77) * 4360 - 20).mean() < 15, "a third of what noise would move them by"
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_records_close_together_in_a_wide_range_are_not_all_one_value():
    """Incomes below 100,000 of a column up to a billion are in a slice or two: nothing says that they are all 0."""
    column = Column(type="float", min=0, max=1e9)
    [own] = sliced({"x": 32}, {"x": 32}, {"x": 256})
    clique, rng = clique_of(own, np.array([0]), 1), np.random.default_rng(0)
    for values, spike in [
        (rng.lognormal(10.5, 0.7, 20_000), False),
        (rng.lognormal(10.5, 2.0, 20_000), False),
        (rng.exponential(90_000, 20_000), False),
        (np.where(rng.random(20_000) < 0.95, 0, rng.exponential(1e7, 20_000)), True),
    ]:
        slices = slice_of(np.clip(values, 0, 1e9), column)
        counts = np.bincount(clique.groups[0][slices], minlength=257) + rng.normal(0, 30, 257)
        totals = np.bincount(slices // 256, minlength=32) + rng.normal(0, 15, 32)
        _, often = within(own, clique.groups[0], counts, 30.0, totals)
        assert often[0, 0] == spike


def test_places_follow_shares_and_missing_values_stay_missing():
    column = Column(type="float", min=0, max=4, bins=4, missing=True)
    each = slices_of(column)
    shares, often = np.full((4, each), 1 / each), np.zeros((4, each), dtype=bool)
    shares[1] = 0
    shares[1, [0, 128]] = 0.25, 0.75
    often[1, 128] = True
    places, uniform = Places(column, Within(shares, often)), np.linspace(0, 1, 1000, endpoint=False)
    codes = places.codes(np.full(1000, 1), uniform)
    assert np.mean(codes == 1.5) == 0.75 and (codes[:250] < 1 + 1 / each).all()
    assert np.allclose(places.codes(np.full(1000, 2), uniform), 2 + uniform)
    assert np.isnan(places.codes(np.full(3, 4), uniform[:3])).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("data", {"schema": {"columns": {"kind": COLUMNS["kind"]}}}), "no column has bins of several values"),
        (("embedder", {"name": "tabular", "one_hot": 0.5}), None),
    ],
)
def test_without_bins_of_several_values_slices_are_refused(tmp_path, change, said):
    recipe = recipe_of(tmp_path / "rows.parquet")
    recipe[change[0]] |= change[1]
    if said is None:
        assert [each.name for each in make_plan(parse_recipe(recipe)).measurements] == ["one_way", "slices"]
        return
    with pytest.raises(RecipeError, match=said):
        make_plan(parse_recipe(recipe))


def test_a_client_is_bounded(tmp_path):
    data = rows(900).append_column("who", pa.array([f"c{i % 300}" for i in range(900)]))
    pq.write_table(data, tmp_path / "rows.parquet")
    recipe = recipe_of(tmp_path / "rows.parquet")
    data = data.append_column("at", pa.array(1_600_000_000 + np.arange(900) * 10_000, pa.timestamp("s")))
    price = np.where(np.arange(900) % 2, 0.01, np.arange(900) * 1000.0 + 1)
    pq.write_table(data.append_column("price", pa.array(price)), tmp_path / "rows.parquet")
    recipe["data"]["columns"]["client"] = "who"
    recipe["data"]["schema"]["columns"] = COLUMNS | {
        "at": {"type": "datetime", "min": "2020-01-01T00:00:00", "max": "2021-01-01T00:00:00", "outside": "clip"},
        "price": {"type": "float", "min": 0.01, "max": 1e6},
    }
    recipe["privacy"] |= {"unit": "client", "epsilon": 100}
    evolve(parse_recipe(recipe), tmp_path / "run")
    run = open_run(tmp_path / "run")
    counts = pq.read_table(tmp_path / "run" / counting.counts_name(0))["count"].to_numpy()
    assert np.sqrt((counts.astype(float) ** 2).sum()) / 2 ** grid_bits(run, 0) <= 300
    assert {each.column for each in columns_in_slices(run.embedder)} == {1, 2, 3, 4, 5}
    samples = pq.read_table(tmp_path / "run/release/samples.parquet")
    assert np.mean(samples["cost"].to_numpy() == 0) > 0.3 and np.mean(samples["price"].to_numpy() == 0.01) > 0.3
    assert samples["at"].type == pa.timestamp("ms")


def test_votes_of_a_label_are_brought_to_its_records_before_any_is_selected(done):
    run, histogram = open_run(done), read_histogram(open_run(done), 1)
    noisy, codes = histogram["noisy_votes"].to_numpy(), run.recipe.codes(histogram["label"].to_pylist())
    marginals, sigma = read_marginals(run), sigma_of(run, 1)
    found = _noisy_votes(run, 1, noisy, codes)
    for code, records in enumerate(marginals.totals()):
        own, variance = noisy[codes == code], (codes == code).sum() * sigma**2
        wanted = np.average([own.sum(), records], weights=[1 / variance, 1 / marginals.total_variance()])
        assert found[codes == code].sum() == pytest.approx(wanted)
        assert abs(wanted - records) < abs(own.sum() - records)
    several = recipe_of(done.parent / "rows.parquet")
    several["evolution"]["votes_per_record"] = 3
    thrice = _noisy_votes(Run(str(done), parse_recipe(several)), 1, 3 * noisy, codes)
    assert thrice.sum() == pytest.approx(3 * found.sum(), rel=0.02)
    plain = recipe_of(done.parent / "rows.parquet")
    del plain["privacy"]["measure"]
    plain["privacy"]["marginals"] = {"budget": 0.5}
    assert _noisy_votes(Run(str(done), parse_recipe(plain)), 1, noisy, codes) is noisy
