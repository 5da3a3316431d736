"""Several initial measurements: what each counts and costs, how later ones are chosen, and rows that follow them."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.generator import Joint, Marginals, Step
from pe_beam.driver import launching, status
from pe_beam.driver import loop as driver
from pe_beam.driver.loop import evolve
from pe_beam.engine import choose as choosing
from pe_beam.engine import counting, ingest, measuring
from pe_beam.engine.cells import bin_rows, commit_bins, read_bins
from pe_beam.engine.choose import choose
from pe_beam.engine.frozen import INDEX, fingerprint_of, shards_of
from pe_beam.engine.measurements import read_marginals
from pe_beam.engine.measuring import PAIR_WEIGHT, StepCells, answers, asked, read_measured, steps_of
from pe_beam.engine.populations import read_histogram
from pe_beam.engine.queries import measurement_of
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.shards import listed
from pe_beam.engine.spending import grid_bits
from pe_beam.errors import DataError, InputError, PeBeamError, RecipeError
from pe_beam.measuring.cliques import norm_squared
from pe_beam.measuring.estimates import Sums, estimate
from pe_beam.measuring.groups import equal_mass
from pe_beam.measuring.interactions import blocks
from pe_beam.measuring.known import Answer, Known
from pe_beam.measuring.pairs import Question, scores
from pe_beam.modalities.tabular.codec import encode_payload
from pe_beam.modalities.tabular.generator import Tabular, TabularOptions
from pe_beam.modalities.tabular.schema import TableSchema
from pe_beam.modalities.tabular.view import _balance
from pe_beam.privacy.accounting import spent_epsilon
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.outlook import outlook
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.sources import private_source
from pe_beam.report.history import History
from pe_beam.report.votes import _measured
from pe_beam.storage import open_folder
from pe_beam.voting.records import vector_batch
from pe_beam.voting.votes import read_batch
from tests.modalities.tabular.test_pairs import SCHEMA, rngs, rows
from tests.whole_runs import SECRET, release_digests

MEASURE = {
    "one_way": {"budget": 0.3},
    "cliques": {"budget": 0.1, "columns": [["b", "x"]], "groups": 3},
    "halves": {"budget": 0.05, "columns": 3},
    "coarse": {"budget": 0.1},
    "tree": {"budget": 0.2, "groups": 6},
}


def recipe_of(path: Path) -> dict[str, Any]:
    return {
        "name": "measured",
        "data": {
            "source": "parquet",
            "path": str(path),
            "columns": {"label": "group"},
            "labels": ["low", "high"],
            "schema": copy.deepcopy(SCHEMA),
            "expected_records": 3000,
        },
        "modality": "tabular",
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"iterations": 1, "samples": 40, "population": 160, "draws": "balanced"},
        "privacy": {"epsilon": 3, "delta": 1e-5, "keep_secret": True, "measure": copy.deepcopy(MEASURE)},
    }


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    pq.write_table(rows(3000), tmp_path / "rows.parquet")
    return recipe_of(tmp_path / "rows.parquet")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with five measurements. No test changes it."""
    folder = tmp_path_factory.mktemp("measured")
    pq.write_table(rows(3000), folder / "rows.parquet")
    (folder / "secret").write_bytes(SECRET)
    evolve(parse_recipe(recipe_of(folder / "rows.parquet")), folder / "run", secret_file=folder / "secret")
    return folder / "run"


def lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()]


def released(run_dir: Path, step: str) -> tuple[list[dict[str, Any]], pa.Table]:
    """What a step asked and the table that it released."""
    folder = run_dir / "release/iteration=0000/measured"
    [said], [table] = folder.glob(f"*-{step}.json"), folder.glob(f"*-{step}.parquet")
    return json.loads(said.read_text()), pq.read_table(table)


def test_cells_in_which_a_record_counts_oftener_than_noise_is_for_are_not_counted(done, monkeypatch):
    run = open_run(done)
    for iteration, step in steps_of(run).items():
        assert StepCells(run, iteration).votes_per_record == step.norm_squared >= norm_squared(asked(run, iteration))
        heavier = [dataclasses.replace(each, weight=each.weight + 1) for each in asked(run, iteration)]
        with monkeypatch.context() as patch:
            patch.setattr(measuring, "asked", lambda *_, cliques=heavier: cliques)
            with pytest.raises(InputError, match=f"privacy.measure.{step.name}: a record would count oftener"):
                StepCells(run, iteration)


def test_each_step_has_its_line_and_all_together_keep_the_budget(done):
    found = lines(done)
    assert [line["iteration"] for line in found] == [-4, -3, -2, -1, 0, 1]
    plan = make_plan(open_run(done).recipe)
    for line, planned, share in zip(found, plan.measurements, (0.3, 0.1, 0.05, 0.1, 0.2), strict=False):
        assert (line["sigma"], line["sensitivity"]) == (planned.sigma, planned.sensitivity)
        whole = sum(each["noise_multiplier"] ** -2 for each in found)
        assert line["noise_multiplier"] ** -2 / whole == pytest.approx(share, rel=1e-6)
    assert [each.sensitivity**2 for each in plan.measurements] == pytest.approx([4, 1, 4, 6, PAIR_WEIGHT**2 * 3])
    privacy = json.loads((done / "release/privacy.json").read_text())
    assert privacy["spent_epsilon"] == spent_epsilon([line["noise_multiplier"] for line in found], 1e-5) <= 3
    together = privacy["label_shares_noise_multiplier"]
    assert sum(line["noise_multiplier"] ** -2 for line in found[:-1]) <= together**-2
    assert spent_epsilon([together, found[-1]["noise_multiplier"]], 1e-5) <= 3
    assert [each["step"] for each in privacy["measurements"]] == list(MEASURE)
    [told] = status.privacy([str(done)])["runs"]
    assert [line.get("measured") for line in told["ledger"]] == [*MEASURE, None]
    assert (
        "counts of declared columns together, counts of up to 3 columns together, in two groups of each"
        in privacy["statement"]
    )
    manifest = json.loads((done / "release/iteration=0000/manifest.json").read_text())
    assert {f"measured/{i}-{name}.{end}" for i, name in enumerate(MEASURE, 1) for end in ("json", "parquet")} <= {
        *manifest["files"]
    }


def test_columns_are_estimated_from_the_released_counts_alone(done):
    """Who has the release and its noise multipliers estimates the same, of all counts but the halves."""
    found, sigmas = (
        read_marginals(open_run(done)),
        dict(zip(MEASURE, (line["sigma"] for line in lines(done)), strict=False)),
    )
    alone, sums = {name: [] for name in SCHEMA["columns"]}, {name: [] for name in SCHEMA["columns"]}
    for step in ("one_way", "cliques", "coarse", "tree"):
        asked_for, table = released(done, step)
        noisy, start = table["noisy_count"].to_numpy(), 0
        for each in asked_for:
            shape = (2 if each["by_label"] else 1, *(max(own) + 1 for own in each["groups"]))
            counts = noisy[start : (start := start + math.prod(shape))].reshape(shape)
            sigma = sigmas[step] / each["weight"]
            if len(each["columns"]) == 1:
                alone[each["columns"][0]].append((counts, sigma**-2))
                continue
            for (name, groups), other in zip(zip(each["columns"], each["groups"], strict=True), (2, 1), strict=True):
                own = Sums(np.array(groups), counts.sum(axis=other), shape[other] * sigma**2)
                sums[name].append(own)
    for name, ordered in (("a", 0), ("b", 0), ("x", 20), ("y", 32)):
        counts, precisions = zip(*alone[name], strict=True)
        mean = np.average(np.stack(counts), axis=0, weights=precisions)
        assert len(sums[name]) > 3
        wanted = estimate(mean, sum(precisions) ** -0.5, sums[name], ordered)
        np.testing.assert_allclose(found.counts[name], wanted, rtol=1e-9, atol=1e-6)
        assert not np.allclose(found.counts[name], mean)


def test_exact_counts_are_those_of_numpy_and_a_record_adds_no_more_than_the_noise_is_for(done):
    run, data = open_run(done), rows(3000)
    vectors = run.embedder.embed(data.drop_columns(["group"])).vectors
    bins = run.embedder.marginal_bins(vectors)
    labels = (np.array(data["group"].to_pylist()) == "high").astype(np.int32)
    codes = encode_payload(data, TableSchema.model_validate(SCHEMA))
    assert np.array_equal(bins[:, 2], codes[:, 2])
    for t, step in steps_of(run).items():
        exact = pq.read_table(done / counting.counts_name(t))["count"].to_numpy()
        expected = []
        for each in asked(run, t):
            shape = (2 if each.by_label else 1, *each.shape)
            own = [groups[bins[:, column]] for column, groups in zip(each.columns, each.groups, strict=True)]
            direct = np.zeros(shape, np.int64)
            np.add.at(direct, (labels if each.by_label else np.zeros_like(labels), *own), each.weight)
            expected.append(direct.ravel())
        assert np.array_equal(exact, np.concatenate(expected)), step.name
        ballots = StepCells(run, t)
        records, cells = ballots.ballots(vectors[:50], labels[:50])
        for record in range(50):
            _, often = np.unique(cells[records == record], return_counts=True)
            assert (often**2).sum() <= step.norm_squared == ballots.votes_per_record
        backwards = ballots.ballots(vectors[49::-1], labels[49::-1])
        assert np.array_equal(np.sort(cells), np.sort(backwards[1])), "order tells nothing"


def test_steps_count_the_frozen_bins_and_read_no_vectors(done, tmp_path):
    run = open_run(done)
    [shard] = shards_of(run)
    vectors, labels, _ = read_batch(listed(pq.read_table(done / shard["shard"])))
    [(bins, own)] = read_bins(run, shard)
    assert np.array_equal(bins, run.embedder.marginal_bins(vectors)) and np.array_equal(own, labels)
    assert bins.dtype == np.uint8
    of_older_versions = {"shard": shard["shard"]}
    for t in steps_of(run):
        exact = pq.read_table(done / counting.counts_name(t))["count"].to_numpy()
        cells = measurement_of(run, t).ballots()
        assert np.array_equal(cells.tally(read_bins(run, shard | {"shard": "nowhere"})).counts, exact)
        assert np.array_equal(cells.tally(read_bins(run, of_older_versions)).counts, exact)


def test_bins_that_are_gone_are_made_again_and_damaged_ones_are_refused(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    run = open_run(tmp_path / "run")
    [shard], [piece] = shards_of(run), private_source(run.recipe).pieces()
    file = tmp_path / "run" / shard["bins"]
    right = file.read_bytes()
    file.unlink()
    ingest.check_piece(run, piece)
    assert file.read_bytes() == right
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(DataError, match="private/bins: a frozen file is damaged"):
        list(read_bins(run, shard))
    with pytest.raises(DataError, match="private/bins: a frozen file is missing or damaged"):
        ingest.check_piece(run, piece)


def test_the_fingerprint_that_lines_pay_for_binds_the_bins(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    index = tmp_path / "run" / INDEX
    found = json.loads(index.read_text())
    [shard] = found["shards"]
    assert found["fingerprint"] != fingerprint_of([{"sha256": shard["sha256"]}])
    shard |= {"bins": shard["shard"], "bins_sha256": shard["sha256"]}  # other bins, with their own digest
    index.write_text(json.dumps(found))
    with pytest.raises(InputError, match="names other files than were frozen"):
        shards_of(open_run(tmp_path / "run"))


def test_many_bins_take_two_bytes(table):
    table["data"]["schema"]["columns"]["a"] = {"type": "categorical", "values": [f"v{i}" for i in range(300)]}
    run = Run("memory://many-bins", parse_recipe(table))
    rng = np.random.default_rng(1)
    vectors = rng.random((9000, run.embedder.dimension), dtype=np.float32)
    labels = [("low", "high")[i % 2] for i in range(9000)]
    rows = pa.Table.from_batches([vector_batch(vectors, labels, None, {}, run.recipe.label_codes)])
    [(bins, own)] = read_bins(run, commit_bins(run, "piece", bin_rows(run, rows)))
    assert bins.dtype == np.uint16 and bins.max() > 255
    assert np.array_equal(bins, run.embedder.marginal_bins(vectors)) and own[:3].tolist() == [0, 1, 0]
    [(bins, own)] = read_bins(run, commit_bins(run, "empty", bin_rows(run, rows.slice(0, 0))))
    assert (bins.shape, own.shape) == ((0, 4), (0,)), "as of an input without records under never_stop"


def test_the_chance_of_a_sample_is_no_interaction_and_a_parity_of_few_rows_is_one() -> None:
    rng, found = np.random.default_rng(3), []
    for _ in range(12):
        bins, labels = rng.integers(0, 2, (150, 8)), rng.integers(0, 2, 150)
        parity = np.concatenate([bins[:, :7], bins[:, :3].sum(axis=1, keepdims=True) % 2], axis=1)
        for own in (bins, parity):
            counts = np.stack([np.eye(2)[labels].T @ np.eye(2)[column] for column in own.T])
            known = Known(list(counts), counts[0].sum(axis=1), [0] * 8)
            [halves] = known.halves(None)
            counts = np.bincount(halves.cells(own, labels), minlength=512).reshape(2, *halves.shape)
            found.append([each.answer.clique.columns for each in known.interactions([Answer(halves, counts, 0.0)])])
    assert found[::2] == [[]] * 12 and found[1::2] == [[(0, 1, 2, 7)]] * 12


def test_a_share_above_one_by_rounding_is_no_fault() -> None:
    above = np.array([[1 + 2**-52]])
    with np.errstate(all="raise"):
        assert scores(np.ones(1), [above, above], {(0, 1): np.array([[9.0]])}, 0.0, 10.0) == {
            (0, 1): pytest.approx(0.1)
        }


def test_who_reads_the_release_can_choose_again(done):
    """What a step counted follows from released files and declared facts alone."""
    columns = list(SCHEMA["columns"])

    def shaped(step: str) -> list[tuple[dict[str, Any], np.ndarray]]:
        said, counted = released(done, step)
        noisy, found, start = counted["noisy_count"].to_numpy(), [], 0
        for each in said:
            shape = (2 if each["by_label"] else 1, *(max(own) + 1 for own in each["groups"]))
            found.append((each, noisy[start : start + np.prod(shape)].reshape(shape)))
            start += int(np.prod(shape))
        assert start == len(noisy)
        return found

    one_way = [counts for _, counts in shaped("one_way")]
    weights = np.array([1 / counts.shape[1] for counts in one_way])
    totals = (weights[:, None] * np.stack([counts.sum(axis=1) for counts in one_way])).sum(axis=0) / weights.sum()
    known = Known(one_way, totals, [0, 0, 20, 32])

    def told(cliques: list[Any]) -> list[dict[str, Any]]:
        return [
            {
                "columns": [columns[i] for i in each.columns],
                "groups": [own.tolist() for own in each.groups],
                "by_label": each.by_label,
                "weight": each.weight,
            }
            for each in cliques
        ]

    assert told([known.together([1, 2], 3, by_label=True)]) == released(done, "cliques")[0]
    assert told(known.halves(3)) == released(done, "halves")[0]
    assert told(known.all_pairs(4)) == released(done, "coarse")[0]
    sigmas = [line["sigma"] for line in lines(done)]
    sets = zip(known.halves(3), shaped("halves"), strict=True)
    more = known.interactions([Answer(own, counts, sigmas[2]) for own, (_, counts) in sets], [[1, 2]])
    pairs = known.all_pairs(4)
    coarse = [Answer(own, counts, sigmas[3]) for own, (_, counts) in zip(pairs, shaped("coarse"), strict=True)]
    chosen = known.tree(
        coarse, sigma=sigmas[4], bound=48, weight=PAIR_WEIGHT, most=6, by_label=True, joined=[[1, 2]], more=more
    )
    assert told(chosen) == released(done, "tree")[0]
    assert {tuple(each["columns"]) for each in told(chosen)[:2]} == {("a", "b"), ("x", "y")}


def test_columns_over_all_labels_are_in_the_same_line_and_their_noise_is_that_of_the_sums(table, tmp_path):
    table["privacy"]["measure"] = {"one_way": {"budget": 0.9, "overall": True}}
    evolve(parse_recipe(table), tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert lines(tmp_path / "run")[0]["sensitivity"] ** 2 == pytest.approx(8)
    said, _ = released(tmp_path / "run", "one_way")
    assert [each["by_label"] for each in said] == [True] * 4 + [False] * 4
    marginals = read_marginals(run)
    for name, own in zip(SCHEMA["columns"], answers(run, 0)[4:], strict=True):
        estimated = marginals.counts[name]
        assert (estimated >= 0).all()
        assert np.abs(estimated.sum(axis=0) - own.counts[0]).max() < 5 * own.sigma
    privacy = json.loads((tmp_path / "run/release/privacy.json").read_text())
    shown = _measured(History(open_folder(tmp_path / "run/release"), {}, privacy))
    assert shown.count("over all labels") == 4


def test_votes_of_a_rank_may_add_up_to_zero(done, monkeypatch):
    other = recipe_of(done.parent / "rows.parquet")
    other["evolution"] |= {"selection": "rank", "draws": "weighted"}
    released = read_histogram(open_run(done), 1)
    votes = pa.array(np.tile([-1.0, 1.0], len(released) // 2))
    monkeypatch.setattr(choosing, "read_histogram", lambda *_: released.set_column(2, "noisy_votes", votes))
    with np.errstate(all="raise"):
        table, notes = choose(Run(str(done), parse_recipe(other)), 1)
    assert len(table) == 40 and "balance" not in notes


def test_a_balanced_draw_can_be_made_again_from_the_release(done, tmp_path):
    for name in ("release", "recipe.yaml", "ledger.jsonl"):
        (shutil.copytree if name == "release" else shutil.copy)(done / name, tmp_path / name)
    table, notes = choose(open_run(tmp_path), 1)
    made = pq.read_table(done / "release/samples.parquet")
    assert table["parent_id"].to_pylist() == made["parent_id"].to_pylist()
    manifest = json.loads((done / "release/iteration=0001/manifest.json").read_text())
    assert manifest["selection"] == notes
    before, after = notes["balance"]["beyond_noise"]
    assert after < 0.7 * before
    replaced = notes["balance"]["replaced"]
    assert replaced > 0
    assert f" {replaced} times a drawn row gave way" in _balance(History(open_folder(done / "release"), {}, {}))


def test_a_run_that_is_killed_between_steps_goes_on_and_spends_nothing_twice(
    table, done, tmp_path, secret_file, monkeypatch
):
    table["data"]["path"] = str(done.parent / "rows.parquet")
    real = driver.run_iteration

    def killed(run: Any, t: int, job: Any) -> None:
        if t == -1:
            raise KeyboardInterrupt
        real(run, t, job)

    monkeypatch.setattr(driver, "run_iteration", killed)
    with pytest.raises(KeyboardInterrupt):
        evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    monkeypatch.undo()
    assert [line["iteration"] for line in lines(tmp_path / "run")] == [-4, -3, -2]
    for lost in ("work", "private/bins"):  # both are made again
        shutil.rmtree(tmp_path / "run" / lost)
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    assert (tmp_path / "run/ledger.jsonl").read_bytes() == (done / "ledger.jsonl").read_bytes()
    assert without_report(tmp_path / "run") == without_report(done)


def without_report(run_dir: Path) -> dict[str, str]:
    return {name: digest for name, digest in release_digests(run_dir).items() if "report" not in name}


def test_one_job_for_all_gives_the_same(table, done, tmp_path, secret_file):
    table["data"]["path"] = str(done.parent / "rows.parquet")
    evolve(parse_recipe(table), tmp_path / "unrolled", secret_file=secret_file, unroll=True)
    assert without_report(tmp_path / "unrolled") == without_report(done)


def test_counts_without_their_line_are_refused(done, tmp_path):
    shutil.copytree(done, tmp_path / "run")
    found = (tmp_path / "run/ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/ledger.jsonl").write_text("".join(line for line in found if '"iteration": -2' not in line))
    (tmp_path / "run/release/privacy.json").unlink()
    with pytest.raises(PeBeamError, match="no line for iteration -2"):
        evolve(open_run(done).recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"coarse": None}, "both are wanted, or none"),
        ({"one_way": {"budget": 0.7}}, "below 1, so that votes have one"),
        ({"cliques": {"budget": 0.1, "columns": [["a", "b"], ["b", "x"], ["x", "a"]]}}, "a circle is closed"),
        ({"cliques": {"budget": 0.1, "columns": [["a", "a"]]}}, "2 to 4 different columns"),
        ({"one_way": {"budget": 0.1}, "halves": {"budget": 1}}, "halves.budget"),
        ({"cliques": {"budget": 0.1, "columns": [["a", "z"]]}}, "'z' is no column of data.schema; allowed: a, b, x, y"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_spent(table, change, said):
    table["privacy"]["measure"] |= change
    with pytest.raises(RecipeError, match=said):
        make_plan(parse_recipe(table))


def test_draws_are_balanced_where_something_says_how(table):
    default, without = copy.deepcopy(table), copy.deepcopy(table)
    default["evolution"]["draws"] = "weighted"
    del without["evolution"]["draws"]
    assert run_id(parse_recipe(default)) == run_id(parse_recipe(without)) != run_id(parse_recipe(table))
    ranked = copy.deepcopy(table)
    ranked["evolution"]["selection"] = "rank"
    with pytest.raises(RecipeError, match="draws: balanced is for draws by share of votes"):
        parse_recipe(ranked)
    del table["privacy"]["measure"]
    with pytest.raises(RecipeError, match=r"evolution\.draws: balanced needs counts of columns"):
        make_plan(parse_recipe(table))


def test_marginals_and_measure_exclude_each_other(table):
    table["privacy"]["marginals"] = {"budget": 0.1}
    with pytest.raises(RecipeError, match="in place of marginals"):
        parse_recipe(table)


def test_a_client_is_bounded_in_each_step(table, tmp_path, secret_file):
    """All of a client's records have norm 1 in each step, and the counts of all steps have one scale."""
    data = rows(600).append_column("who", pa.array([f"c{i % 300}" for i in range(600)]))
    pq.write_table(data, tmp_path / "rows.parquet")
    table["data"]["columns"]["client"] = "who"
    table["privacy"] |= {"unit": "client", "epsilon": 100}
    del table["privacy"]["measure"]["cliques"]
    evolve(parse_recipe(table), tmp_path / "run", secret_file=secret_file)
    run = open_run(tmp_path / "run")
    for t in steps_of(run):
        counts = pq.read_table(tmp_path / "run" / counting.counts_name(t))["count"].to_numpy()
        assert np.sqrt((counts.astype(float) ** 2).sum()) / 2 ** grid_bits(run, t) <= 300
    marginals = read_measured(run)
    assert [own.columns for own in marginals.joints] == [("x", "y"), ("a", "b")]
    sums = [own.counts.sum() for own in marginals.joints]
    assert np.mean(sums) == pytest.approx(marginals.totals().sum(), rel=0.1)


def known(count: int, sigma: float, seed: int = 0) -> tuple[Known, list[Answer]]:
    """Four columns of which the first two go together, after noisy one-way and coarse counts."""
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, 8, (count, 4))
    bins[:, 1] = np.where(rng.random(count) < 0.7, bins[:, 0], bins[:, 1])
    one = [np.bincount(bins[:, i], minlength=8)[None, :] + rng.normal(0, sigma, (1, 8)) for i in range(4)]
    made = Known(one, np.array([float(count)]), [8, 8, 0, 0])
    pairs = made.all_pairs(4)
    labels = np.zeros(count, np.int32)
    exact = [np.bincount(each.cells(bins, labels), minlength=each.cell_count(1)) for each in pairs]
    noisy = [
        (counts + rng.normal(0, sigma, len(counts))).reshape(1, *each.shape)
        for each, counts in zip(pairs, exact, strict=True)
    ]
    return made, [Answer(each, counts, sigma) for each, counts in zip(pairs, noisy, strict=True)]


def test_pairs_are_counted_as_finely_as_noise_allows_and_what_is_left_goes_to_one_way_counts():
    made, coarse = known(20_000, 10.0)
    ask = functools.partial(made.tree, coarse, bound=48, weight=4, most=8, by_label=True)
    for sigma, shape in ((40.0, (8, 8)), (4_000.0, (5, 5))):
        [pair, *singles] = ask(sigma=sigma)
        assert (pair.columns, pair.shape) == ((0, 1), shape)
        assert [(own.columns, own.weight) for own in singles] == [((0,), 3), ((1,), 3), ((2,), 3), ((3,), 2)]
        assert norm_squared([pair, *singles]) == 47
    hidden = ask(sigma=400_000.0)
    assert [(own.columns, own.weight) for own in hidden] == [((0,), 4), ((1,), 3), ((2,), 3), ((3,), 3)]


def test_on_few_records_no_pair_is_taken():
    taken = 0
    for seed in range(40):
        made, coarse = known(60, 40.0, seed)
        asked_for = made.tree(coarse, sigma=160.0, bound=48, weight=4, most=8, by_label=True)
        taken += sum(len(own.columns) > 1 for own in asked_for)
    assert taken <= 2  # 240 pairs; each passes by chance in about 0.1% of runs, so 3 are less likely than 0.2%


def halved(
    bins: np.ndarray, labels: np.ndarray, sigma: float, ordered: list[int], sizes: list[int]
) -> tuple[Known, Answer]:
    """What is known after exact one-way counts, and noisy counts of all columns in halves, of two labels."""
    one = [np.stack([np.bincount(bins[labels == own, i], minlength=n) for own in (0, 1)]) for i, n in enumerate(sizes)]
    made = Known([each.astype(float) for each in one], np.bincount(labels, minlength=2).astype(float), ordered)
    [asked_for] = made.halves(None)
    assert max(asked_for.shape) == 2
    exact = np.bincount(asked_for.cells(bins, labels), minlength=asked_for.cell_count(2))
    noisy = exact + np.random.default_rng(9).normal(0, sigma, len(exact))
    return made, Answer(asked_for, noisy.reshape(2, *asked_for.shape), sigma)


def test_columns_that_say_something_only_all_together_are_found_and_pairs_are_left_to_pairs():
    """The label is the parity of a coin, a number above its middle and a category; two more columns go together."""
    rng, count = np.random.default_rng(0), 4000
    sizes, ordered = [2, 8, 3, 4, 5], [0, 8, 0, 4, 4]  # the last one has missing values
    bins = np.stack([rng.integers(0, size, count) for size in sizes], axis=1)
    bins[:, 2] = rng.choice(3, count, p=[0.5, 0.3, 0.2])
    bins[:, 4] = np.where(rng.random(count) < 0.8, bins[:, 3], 4)
    labels = ((bins[:, 0] + (bins[:, 1] > 3) + (bins[:, 2] > 0) + (rng.random(count) < 0.05)) % 2).astype(np.int32)
    made, halves = halved(bins, labels, 10.0, ordered, sizes)
    [interaction] = made.interactions([halves])
    found = interaction.answer
    assert interaction.score == pytest.approx(0.9, abs=0.1)
    assert found.clique.columns == (0, 1, 2) and found.sigma == pytest.approx(20.0)
    cells = [np.bincount(found.clique.cells(bins, labels), minlength=16)]
    assert np.abs(found.counts.ravel() - cells).max() < 5 * found.sigma
    assert not made.interactions([halves], joined=[[0, 2]]), "it would close a circle"
    assert not made.interactions([Answer(halves.clique, halves.counts, 300.0)]), "noise may be all of it"
    coarse = [Answer(each, np.zeros((1, *each.shape)), 1e6) for each in made.all_pairs(4)]
    ask = functools.partial(made.tree, coarse, bound=96, weight=4, by_label=True, most=8, more=[interaction])
    for sigma, shape in ((80.0, (2, 8, 3)), (160.0, (2, 4, 3))):
        [again, *singles] = ask(sigma=sigma)
        assert (again.columns, again.shape, again.weight) == ((0, 1, 2), shape, 9), "as finely as noise lets it"
        assert (np.flatnonzero(np.diff(again.groups[1] >= shape[1] // 2)) == 3).all(), "halves stay whole"
        assert {own.columns for own in singles} == {(i,) for i in range(5)} and norm_squared([again, *singles]) <= 96
    assert all(len(own.columns) == 1 for own in ask(sigma=800.0)), "halves are as fine as noise lets it"


def test_of_many_columns_three_that_are_a_parity_are_found_where_six_are_counted_at_a_time():
    """Noise of all 14 columns at once would hide it. What noise blurs is counted again."""
    rng = np.random.default_rng(5)
    bins = rng.integers(0, 2, (8000, 14))
    labels = ((bins[:, [1, 6, 13]].sum(axis=1) + (rng.random(8000) < 0.05)) % 2).astype(np.int32)
    counts = [np.stack([np.bincount(column[labels == own], minlength=2) for own in (0, 1)]) for column in bins.T]
    made = Known([each.astype(float) for each in counts], np.bincount(labels).astype(float), [0] * 14)

    def answered(most: int | None, sigma: float) -> list[Answer]:
        asked = made.halves(most)
        exact = [np.bincount(own.cells(bins, labels), minlength=own.cell_count(2)) for own in asked]
        noisy = [each + rng.normal(0, sigma, each.shape) for each in exact]
        return [Answer(own, each.reshape(2, *own.shape), sigma) for own, each in zip(asked, noisy, strict=True)]

    assert not made.interactions(answered(None, 10.0))
    [interaction] = made.interactions(answered(6, 10.0 * np.sqrt(35)))  # 35 sets share the budget
    assert interaction.answer.clique.columns == (1, 6, 13) and interaction.score == pytest.approx(0.9, abs=0.2)
    coarse = [Answer(each, np.zeros((1, *each.shape)), 1e6) for each in made.all_pairs(4)]
    ask = functools.partial(made.tree, coarse, bound=208, weight=4, by_label=True, most=8, more=[interaction])
    assert [own.columns for own in ask(sigma=150.0) if len(own.columns) > 1] == [(1, 6, 13)]
    assert all(len(own.columns) == 1 for own in ask(sigma=15_000.0)), "it would be no clearer"


@pytest.mark.parametrize("columns", [3, 5, 12, 17])
@pytest.mark.parametrize("most", [3, 6, 9])
def test_any_three_columns_are_in_halves_together(columns, most):
    found = [set(own) for own in blocks(columns, most)]
    assert max(map(len, found)) <= max(most, 3)
    assert all(any({*three} <= own for own in found) for three in itertools.combinations(range(columns), 3))


def test_a_pair_is_in_the_finest_groups_that_noise_leaves_and_beyond_twelve_it_has_to_leave_more():
    def groups(sigma: float) -> int:
        asked = Question(
            sigma=sigma, total=1e4, labels=2, most=32, groups_of=lambda _, most: np.arange(32) * most // 32
        )
        found = asked.finest((0, 1), 0.8, 4)
        return 0 if found is None else found.shape[0]

    # noise of g groups a side is 2 g^2 sigma sqrt(2 / pi) / 40000
    assert [groups(sigma) for sigma in (9.0, 30.0, 60.0, 139.0, 200.0, 6000.0)] == [32, 18, 12, 12, 10, 0]


def test_four_columns_that_are_nearly_one_are_left_to_pairs():
    rng = np.random.default_rng(2)
    one = rng.integers(0, 8, (3000, 1))
    bins = np.where(rng.random((3000, 4)) < 0.9, one, rng.integers(0, 8, (3000, 4)))
    made, halves = halved(bins, (rng.random(3000) < 0.5).astype(np.int32), 5.0, [8] * 4, [8] * 4)
    assert not made.interactions([halves])


def test_of_independent_columns_nothing_is_found_however_skewed_they_are():
    rng, sizes = np.random.default_rng(1), [2] * 8
    for skewed in (0.5, 0.1, 0.01):
        bins = (rng.random((2000, 8)) < skewed).astype(np.int64)
        labels = (rng.random(2000) < 0.4).astype(np.int32)
        made, halves = halved(bins, labels, 15.0, [0] * 8, sizes)
        assert not made.interactions([halves])


@pytest.mark.parametrize("ordered", [0, 30, 29])
def test_groups_are_of_equal_mass_and_no_more_than_asked_for(ordered):
    rng = np.random.default_rng(1)
    for most in (2, 5, 12, 40):
        shares = rng.dirichlet(np.full(30, 0.2))
        groups = equal_mass(shares, ordered, most)
        assert sorted(set(groups.tolist())) == list(range(max(groups) + 1))
        assert max(groups) < most + (ordered == 29)
        if ordered:
            assert (np.diff(groups) >= 0).all()
        mass = np.bincount(groups, weights=shares)
        alone = [np.flatnonzero(groups == own).size == 1 for own in range(len(mass))]
        assert (mass[~np.array(alone)] <= 2.5 / most + 1e-9).all() or most == 2


def test_rows_follow_a_clique_of_three_that_no_pair_shows():
    """c says whether a equals b: each pair is independent, the three are not."""
    schema = TableSchema.model_validate({"columns": {name: {"type": "boolean"} for name in "abcd"}})
    plain = Tabular(TabularOptions(steps="redraw"), labels=[None], schema=schema)
    counts = {name: np.array([[500.0, 500.0]]) for name in "abcd"}
    parity = np.array([[[250.0, 0], [0, 250]], [[0, 250], [250, 0]]])[None]
    joint = Joint(("a", "b", "c"), (np.arange(2),) * 3, parity, 1.0)
    with_d = Joint(("c", "d"), (np.arange(2),) * 2, np.array([[[450.0, 50.0], [50.0, 450.0]]]), 1.0)
    made = plain.seeded(Marginals([None], counts, 1.0, joints=[joint, with_d]))
    fresh = made.random([None] * 2000, rngs(2000)).append_column("label", pa.nulls(2000, pa.string()))
    varied = made.vary(fresh, Step(iteration=1, iterations=1, degree=0.5), rngs(2000, 1))
    for found in (fresh, varied):
        a, b, c, d = (np.array(found[name].to_pylist()) for name in "abcd")
        assert (c == (a ^ b)).mean() > 0.999
        assert (c == d).mean() == pytest.approx(0.9, abs=0.03)
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.08
    assert (np.array(varied["d"].to_pylist()) != np.array(fresh["d"].to_pylist())).mean() > 0.05


def test_a_launcher_pays_all_measurements_and_makes_them_in_one_job(done, tmp_path, monkeypatch):
    """Jobs that nobody waits for: that of iteration 0 makes the measurements before it too."""
    shutil.copytree(done, tmp_path / "run")
    for name in ("release", "work", "private/counts", "private/noised"):
        shutil.rmtree(tmp_path / "run" / name)
    (tmp_path / "run/ledger.jsonl").unlink()
    real = launching.new_job
    monkeypatch.setattr(launching, "new_job", lambda run, args, leaves: real(run, args))  # this one waits
    monkeypatch.setattr(launching, "pin_secret", lambda *given, **told: None)
    launching.launch_iteration(tmp_path / "run", 0)
    assert [line["iteration"] for line in lines(tmp_path / "run")] == [-4, -3, -2, -1, 0]
    assert "Iteration 00" in (tmp_path / "run/work/job.json").read_text()
    launching.launch_iteration(tmp_path / "run", 1)
    assert (tmp_path / "run/ledger.jsonl").read_bytes() == (done / "ledger.jsonl").read_bytes()
    assert without_report(tmp_path / "run") == without_report(done)


def test_the_plan_says_what_noise_moves_and_recommends_a_split(table):
    del table["privacy"]["measure"]["cliques"]
    recipe = parse_recipe(table)
    plan = make_plan(recipe)
    found = outlook(recipe, plan)
    coarse = [each["expected_noise_tvd"] for each in found.measured if "label" not in each["columns"]]
    assert len(coarse) == 6 and np.mean(coarse) == pytest.approx(plan.measurements[2].expected_error, rel=0.01)
    one_way = [each["expected_noise_tvd"] for each in found.measured if each["columns"][1:] == ["label"]]
    assert np.mean(one_way) == pytest.approx(plan.measurements[0].expected_error, rel=0.01)
    assert "privacy.measure.tree.budget" in found.recommended() and "marginals" not in found.recommended()
