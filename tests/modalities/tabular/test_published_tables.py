"""The two-stage recipes of Tab-PE as they are shipped, on data made to their declared schema.

The sets themselves cannot be had offline. The larger recipe runs at a fifth of its size: as many records a candidate,
and so as much noise for each of them. What is checked: sizes and origins by phase, no paid round that does nothing,
one ledger line each, a report, and that a classifier learns from the samples what the labels look like.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_limits

from pe_beam.contracts.metric import Comparison
from pe_beam.driver.loop import evolve
from pe_beam.engine import populations
from pe_beam.engine.run import Run, open_run
from pe_beam.modalities.tabular.classifiers import classifiers
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.privacy import accounting
from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import load_recipe
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sources import source_at
from pe_beam.selection.schedules import resolve_schedule
from tests.whole_runs import RECIPES

pytestmark = [
    pytest.mark.xdist_group("published-tables"),
    pytest.mark.reported,
]  # one run of each recipe serves all tests
SWITCH, ROUNDS = 5, 14
PUBLISHED_SIGMA = {"artificial-characters": 13.573, "person-activity": 16.034}
PUBLISHED_ROWS = {"artificial-characters": 1000, "person-activity": 5000}
FOLD = {"artificial-characters": 2, "person-activity": 10}  # a run here is smaller by this


def sizes_of(n: int) -> list[int]:
    """Of all populations where n samples are wanted."""
    return [n] * SWITCH + [4 * n] * (ROUNDS - SWITCH) + [n]


def rows_of(recipe: Recipe) -> int:
    """How many samples a run here makes."""
    return PUBLISHED_ROWS[recipe.name] // FOLD[recipe.name]


def records(recipe: Recipe, count: int, seed: int) -> pa.Table:
    """Records of the declared schema: each label has its own place in every number, and its own usual categories.

    Labels differ in size, as in the sets themselves: the first has about a quarter.
    """
    rng, homes = np.random.default_rng(seed), np.random.default_rng(99)
    labels = recipe.data.labels or []
    shares = 1 / (np.arange(len(labels)) + 2.0)
    of = rng.choice(len(labels), count, p=shares / shares.sum())
    columns: dict[str, Any] = {}
    for name, column in TableSchema.model_validate(recipe.data.table_schema).columns.items():
        if column.choices:
            usual = homes.integers(0, len(column.choices), len(labels))
            place = np.where(rng.random(count) < 0.6, usual[of], rng.integers(0, len(column.choices), count))
            columns[name] = np.array(column.choices)[place]
            continue
        width = column.high - column.low
        home = column.low + homes.permutation(len(labels) + 2)[: len(labels)] / (len(labels) + 1) * width
        value = np.clip(home[of] + rng.normal(0, 0.15 * width, count), column.low, column.high)
        columns[name] = np.round(value).astype(np.int64) if column.whole else value
    return pa.table(columns | {str(recipe.data.columns["label"]): np.array(labels)[of]})


@pytest.fixture(scope="module", params=["artificial-characters", "person-activity"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of the recipe as it is shipped but for `FOLD`, with as many records as it guesses."""
    folder = tmp_path_factory.mktemp(request.param)
    shipped = load_recipe(RECIPES / f"{request.param}.yaml")
    assert shipped.evolution.populations() == sizes_of(PUBLISHED_ROWS[shipped.name])
    n = rows_of(shipped)
    changes: dict[str, Any] = {"data.path": str(folder / "train.csv"), "data.holdout": str(folder / "test.csv")}
    if FOLD[shipped.name] > 1:
        changes |= {"evolution.samples": n, "evolution.population": sizes_of(n)[:-1]}
    recipe = load_recipe(RECIPES / f"{request.param}.yaml", changes)
    assert recipe.data.expected_records is not None
    count = recipe.data.expected_records // FOLD[recipe.name]
    pyarrow.csv.write_csv(records(recipe, count, 1), folder / "train.csv")
    pyarrow.csv.write_csv(records(recipe, 1500, 2), folder / "test.csv")
    (folder / "secret").write_bytes(bytes(range(32)))
    evolve(recipe, folder / "run", secret_file=folder / "secret", unroll=True)
    return open_run(folder / "run")


def lineage(run: Run, t: int) -> tuple[set[int], list[int]]:
    """Of population t: ids of kept candidates, and the parent of each varied one."""
    rows = populations.read_population(run, t).select(["candidate_id", "parent_id", "origin"]).to_pylist()
    kept = {row["candidate_id"] for row in rows if row["origin"] == "kept"}
    return kept, [row["parent_id"] for row in rows if row["origin"] == "varied"]


def ids(run: Run, t: int) -> set[int]:
    return set(populations.read_population(run, t)["candidate_id"].to_pylist())


def test_populations_are_those_of_the_two_stages(done: Run) -> None:
    n = rows_of(done.recipe)
    assert [populations.read_population(done, t).num_rows for t in range(ROUNDS + 1)] == sizes_of(n)
    assert set(populations.read_population(done, 0)["origin"].to_pylist()) == {"random"}
    for t in range(1, ROUNDS + 1):
        kept, parents = lineage(done, t)
        assert kept | set(parents) <= ids(done, t - 1)
        if t < SWITCH:  # drawn by share of votes, a variation for each draw, no parents
            assert not kept and len(parents) == n
        elif t == SWITCH:  # drawn, now with families: a parent may come twice, and then is kept once
            assert 1 < len(kept) < n and set(parents) == kept
            assert all(count % 4 == 3 for count in Counter(parents).values())
        elif t < ROUNDS:  # the best by rank, each with three variations
            assert len(kept) == n and Counter(parents) == dict.fromkeys(kept, 3)
        else:
            assert len(kept) == n and not parents


def test_every_round_that_is_paid_for_selects(done: Run) -> None:
    """Each drops candidates of the population before; from the switch on it keeps the best of each label."""
    for t in range(1, ROUNDS + 1):
        kept, parents = lineage(done, t)
        assert kept | set(parents) < ids(done, t - 1)
        if t <= SWITCH:
            continue
        histogram = populations.read_histogram(done, t)
        votes, labels = histogram["noisy_votes"].to_numpy(), np.array(histogram["label"].to_pylist())
        chosen = np.isin(histogram["candidate_id"].to_numpy(), list(kept))
        for label in done.recipe.data.labels or []:
            own = labels == label
            assert votes[own & chosen].min() >= votes[own & ~chosen].max()


def test_the_ledger_has_a_line_for_each_round_and_the_label_shares(done: Run) -> None:
    lines = [json.loads(line) for line in done.store.read("ledger.jsonl").decode().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(ROUNDS + 1))
    delta = done.recipe.privacy.delta
    spent = accounting.spent_epsilon([line["noise_multiplier"] for line in lines], delta)
    assert 0.999 < spent <= 1
    # Label shares cost 2% of the budget, delta is a number below the published one: a little more noise than published.
    published = PUBLISHED_SIGMA[done.recipe.name]
    assert published < lines[1]["noise_multiplier"] < 1.03 * published
    degrees = resolve_schedule(done.recipe.evolution.degree, ROUNDS, name="evolution.degree")
    assert [round(degrees[t - 1], 3) for t in (1, 2, 8, 14)] == [0.5, 0.215, 0.079, 0.024]  # as published


def accuracy(run: Run, samples: pa.Table) -> float:
    """Of gradient boosting trained on some candidates, on the records that were set aside."""
    source = source_at(run.recipe, str(run.recipe.data.holdout), part="test")
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    assert not any(batch.faults for batch in batches)
    comparison = Comparison(
        iteration=ROUNDS,
        samples=samples,
        held_out=pa.concat_tables([b.payload.append_column("label", pa.array(b.labels)) for b in batches]),
        training=None,
        labels=run.recipe.data.labels,
        recipe=to_plain(run.recipe),
        seed=0,
    )
    with threadpool_limits(1):  # threads that wait for each other over so few rows take ten times as long
        return classifiers(comparison).figures["hist_gradient_boosting_accuracy"]


def test_samples_teach_what_the_labels_look_like(done: Run) -> None:
    release = Path(done.store.at(done.layout.release))
    assert "</html>" in (release / "report.html").read_text()
    samples = pq.read_table(release / "samples.parquet")
    assert samples.num_rows == rows_of(done.recipe)
    counts = Counter(samples["label"].to_pylist())
    assert set(counts) == set(done.recipe.data.labels or [])
    held_out = pyarrow.csv.read_csv(str(done.recipe.data.holdout))
    truth = Counter(held_out[str(done.recipe.data.columns["label"])].to_pylist())
    majority = max(truth.values()) / sum(truth.values())
    reached, floor = (accuracy(done, table) for table in (samples, populations.read_population(done, 0)))
    assert reached > 2.5 * majority
    assert floor < 1.5 * majority  # random rows teach nothing: it is the votes that do
