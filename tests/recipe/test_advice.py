"""What a plan expects of its measurements and votes, and what it recommends: from declared facts alone."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pe_beam.cli.main import main
from pe_beam.modalities.tabular.generator import Tabular
from pe_beam.recipe.accuracy import measured_tables
from pe_beam.recipe.advice import WANTED, advise, draft_of, recommend, usual_samples, with_measurements
from pe_beam.recipe.identity import to_plain
from pe_beam.recipe.loading import load_recipe, parse_recipe, set_key
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.outlook import outlook
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.trade import trade_of
from tests.modalities.tabular.tables import TABLE
from tests.whole_runs import ROOT


def _recipe(**changes: Any) -> Recipe:
    raw = copy.deepcopy(TABLE)
    raw["data"] |= {"path": "/nowhere.csv", "expected_records": 20_000}
    raw["evolution"] |= {"final": "selected", "threshold": 0}
    for key, value in changes.items():
        set_key(raw, key.replace("__", "."), value)
    return parse_recipe(raw)


def test_two_votes_under_a_sigma_of_six_are_drowned() -> None:
    def warned(records: int) -> bool:
        recipe = _recipe(data__expected_records=records, privacy__epsilon=None, privacy__noise_multiplier=6.0)
        plan = make_plan(recipe)
        assert plan.votes_over_sigma == pytest.approx([records / 30 / 6])
        return any("noise drowns the signal" in each for each in plan.warnings)

    assert warned(60)
    assert not warned(90)


def test_columns_that_noise_drowns_are_warned_of() -> None:
    def warned(records: int) -> list[str]:
        plan = make_plan(_recipe(data__expected_records=records))
        return [each for each in plan.warnings if "noise drowns what is measured" in each]

    assert warned(20_000) == warned(1000) == []
    assert len(warned(100)) == 1 and "moves a column by 0." in warned(100)[0]


def test_votes_that_gather_are_drowned_where_hardly_any_candidate_can_stand_out(small: dict[str, Any]) -> None:
    def warned(records: int) -> bool:
        small["data"]["expected_records"] = records
        recipe = parse_recipe(small)  # a threshold of 1 sigma
        plan = make_plan(recipe)
        standing = [records / recipe.label_count / (2 * sigma) for sigma in plan.schedule.sigmas]
        assert (min(standing) < 3) == (records == 100)
        return any("noise drowns the signal" in each for each in plan.warnings)

    assert warned(100)
    assert not warned(1000)


def test_votes_for_all_candidates_of_a_label_tell_nothing(small: dict[str, Any]) -> None:
    def warned(votes: int, sizes: list[int]) -> list[str]:
        evolution = {"iterations": 2, "samples": 30, "population": sizes, "votes_per_record": votes}
        plan = make_plan(parse_recipe(small | {"evolution": evolution}))
        return [each for each in plan.warnings if "votes tell nothing" in each]

    labels = parse_recipe(small).label_count
    few, enough = 3 * labels, 4 * labels
    assert warned(1, [enough, enough]) == warned(3, [enough, enough]) == []
    assert "evolution.votes_per_record: 3" in warned(3, [few, enough])[0]
    assert "(iteration 2)" in warned(3, [enough, few])[0]
    assert "(iteration 1)" in warned(1, [labels, enough])[0]


@pytest.mark.parametrize("privacy", [{}, {"pairs": 3}, {"adjacency": "replace-one"}, {"unit": "client"}])
def test_the_expected_error_of_a_marginal_is_that_of_its_noise(privacy: dict[str, Any]) -> None:
    """Against noise that is drawn, on a record that counts as the measurement has it count."""
    pairs = privacy.pop("pairs", None)
    recipe = _recipe(**{f"privacy__{key}": value for key, value in privacy.items()}, privacy__marginals__pairs=pairs)
    schedule = make_plan(recipe).schedule
    assert schedule.label_noise_multiplier and schedule.label_sigma
    tables = measured_tables(recipe)
    columns = 4  # of which age has 10 bins, income 4 and one for missing values
    weight, squared = {None: (1, 4), 3: (1, 10)}[pairs]
    count = weight / math.sqrt(squared) if recipe.privacy.unit == "client" else weight  # a client's norm is 1
    assert [each.cells for each in tables[:columns]] == [30, 15, 9, 3]
    assert len(tables) == columns + (6 if pairs else 0)
    rng = np.random.default_rng(0)
    for table in tables:
        drawn = rng.normal(0, schedule.label_sigma, (400, table.cells)) / (count * 20_000)
        seen = 0.5 * np.abs(drawn).sum(axis=1).mean()
        assert table.noise_tvd(schedule.label_noise_multiplier, 20_000) == pytest.approx(seen, rel=0.15)


def test_the_trade_says_the_epsilon_of_a_plan_whose_votes_are_heard() -> None:
    recipe = _recipe(evolution__population=400)
    found = trade_of(recipe, make_plan(recipe))
    assert found is not None
    for row, column in itertools.product((0, 3), (0, 4)):
        changed = {
            "evolution.iterations": found.iterations[row],
            "evolution.population": found.populations[column],
            "privacy.epsilon": found.epsilon[row][column],
        }
        signal = make_plan(_recipe(**{k.replace(".", "__"): v for k, v in changed.items()})).votes_over_sigma
        assert signal == pytest.approx([WANTED] * found.iterations[row], rel=1e-3)
    assert "[" in "".join(found.lines()[2:])
    assert trade_of(recipe, make_plan(recipe)) == found
    assert trade_of(_recipe(data__expected_records=None), make_plan(recipe)) is not None  # the plan has the votes


def test_the_recommended_plan_is_what_a_plan_of_it_says() -> None:
    for epsilon, records in ((1, 20_000), (0.3, 20_000), (3, 500)):
        recipe = _recipe(privacy__epsilon=epsilon, data__expected_records=records)
        advice = advise(recipe, make_plan(recipe))
        assert advice is not None and advice.budget is not None
        taken = _recipe(
            privacy__epsilon=epsilon,
            data__expected_records=records,
            privacy__marginals=None if advice.steps else {"budget": advice.budget},
            privacy__measure={k: {"budget": v} for k, v in advice.steps.items()} if advice.steps else None,
            evolution__iterations=advice.iterations,
            evolution__population=advice.population,
            evolution__smoothing=advice.smoothing,
        )
        plan = make_plan(taken)
        assert plan.votes_over_sigma == pytest.approx([advice.votes_over_sigma] * advice.iterations, rel=1e-6)
        again = advise(taken, plan)  # whatever split it is asked about
        assert again is not None
        assert (again.budget, again.population, again.reason) == (advice.budget, advice.population, advice.reason)


def test_votes_are_heard_on_fewer_candidates_than_samples() -> None:
    recipe = _recipe(data__expected_records=5000)
    many, few = (recommend(recipe, make_plan(recipe), samples=each) for each in (4000, 1000))
    assert many == few and 1000 <= many.population < 4000 and many.votes_over_sigma >= WANTED


@pytest.mark.parametrize(
    ("records", "rate", "samples"),
    [
        (100_000, 1, 4000),
        (100_000, 0.5, 1000),
        (400, 1, 400),
        (np.int64(400), 1, 400),
        (1, 1, 3),  # labels
        (None, 1, 1000),
    ],
)
def test_samples_that_are_proposed_are_no_more_than_records_but_for_a_family_of_each_label(
    records: Any, rate: float, samples: int
) -> None:
    raw = to_plain(_recipe(privacy__sampling_rate=rate, privacy__marginals={"budget": 0.2}))
    raw["data"]["expected_records"] = records
    assert usual_samples(draft_of(raw)) == samples
    raw["evolution"] |= {"variations": 4, "final": "varied"}
    assert usual_samples(draft_of(raw)) == max(samples // 4 * 4, 12)


def test_it_buys_more_where_noise_is_larger_and_votes_less_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def about(epsilon: float, records: int, samples: int = 1000) -> Any:
        recipe = _recipe(privacy__epsilon=epsilon, data__expected_records=records)
        return recommend(recipe, make_plan(recipe), samples=samples)

    rich, poor = about(1, 100_000), about(0.1, 2000)
    assert (rich.budget, rich.iterations, rich.population) == (0.5, 4, 3000)
    assert rich.steps == {"one_way": 0.276, "halves": 0.02, "coarse": 0.023, "tree": 0.161, "slices": 0.02}
    assert poor.steps == {"one_way": poor.budget}
    assert (poor.budget, poor.iterations, poor.population) == (0.9, 1, 1998)
    assert "votes say little" in poor.reason
    assert poor.smoothing == pytest.approx(4 * rich.smoothing, rel=0.02)  # noise is not followed
    assert about(1, 5000, 100_000).population < 100_000  # samples are no votes
    monkeypatch.setattr(Tabular, "takes_slices", False)  # as of a generator of others
    assert "slices" not in about(1, 100_000).steps


@pytest.mark.parametrize(
    ("columns", "halves"),
    [
        (8, {"budget": 0.02}),
        (12, {"budget": 0.03}),
        (16, {"budget": 0.02, "columns": 6}),
        (30, None),
    ],
)
def test_halves_are_recommended_so_that_a_parity_stands_out(columns: int, halves: dict[str, Any] | None) -> None:
    recipe = _recipe(
        data__expected_records=40_000, data__schema={"columns": {f"x{i}": {"type": "boolean"} for i in range(columns)}}
    )
    advice = recommend(recipe, make_plan(recipe), samples=1000)
    assert with_measurements({}, advice)["measure"].get("halves") == halves


@pytest.mark.parametrize("labels", [1, 2])
def test_columns_of_several_labels_are_counted_over_all_of_them_too(labels: int) -> None:
    recipe = _recipe(data__labels=[f"l{i}" for i in range(labels)])
    advice = recommend(recipe, make_plan(recipe), samples=1000)
    assert with_measurements({}, advice)["measure"]["one_way"].get("overall", False) == (labels > 1)
    said = outlook(recipe, make_plan(recipe)).recommended()
    assert ("privacy.measure.one_way.overall true, " in said) == (labels > 1)


def test_a_plan_asks_no_filter() -> None:
    """It may be a service, and what it says of rows that the schema alone draws is no matter of a plan."""
    nothing = 'evolution.filters=[{"name": "python", "function": "tests.filters.parts:nothing"}]'
    plain, filtered = (load_recipe("breast-cancer", ["evolution.repeats=any", *more]) for more in ([], [nothing]))
    told = advise(plain, make_plan(plain))
    assert told is not None
    assert advise(filtered, make_plan(filtered)) == told


def test_a_recipe_of_pictures_is_told_the_size_of_its_pool_alone(small: dict[str, Any]) -> None:
    small["data"]["expected_records"] = 2000
    recipe = parse_recipe(small)
    advice = advise(recipe, make_plan(recipe))
    assert advice is not None
    assert (advice.budget, advice.smoothing, advice.iterations) == (None, None, recipe.evolution.iterations)
    small["data"]["expected_records"] = None
    recipe = parse_recipe(small)
    assert advise(recipe, make_plan(recipe)) is None


def test_init_writes_what_plan_recommends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema, out = tmp_path / "schema.yaml", str(tmp_path / "r.yaml")
    schema.write_text(yaml.safe_dump(TABLE["data"]["schema"]))
    given = ["--data", "none.csv", "--schema", str(schema), "--label", "group", "--labels", "x,y", "--samples", "500"]
    assert main(["init", "--yes", *given, "--expected-records", "30000", "--out", out]) == 0
    recipe = load_recipe(out)
    assert recipe.privacy.measure is not None
    capsys.readouterr()
    assert main(["plan", out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    wanted, evolution = told["recommended"], recipe.evolution
    assert evolution.iterations == wanted["iterations"]
    assert {name: step.budget for name, step in recipe.privacy.measure.steps.items()} == wanted["steps"]
    assert (evolution.population, evolution.smoothing) == (wanted["population"], wanted["smoothing"])
    assert told["expected_votes_over_sigma"][0] == pytest.approx(wanted["votes_over_sigma"])
    assert {k: told["measured"][0][k] for k in ("columns", "cells")} == {"columns": ["age", "label"], "cells": 20}
    page = tmp_path / "plan.html"
    assert main(["plan", out, "--html", str(page)]) == 0
    said = capsys.readouterr().out
    shown = page.read_text()
    assert "<svg" in shown and "age x label" in shown and wanted["reason"] in shown
    assert main(["plan", out, "--html", str(tmp_path / "none/plan.html")]) == 2
    assert "recommended: privacy.measure.one_way.budget" in said and "iterations \\ candidates" in said


def test_a_plan_says_what_marginals_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(ROOT / "docs/examples/sequences/visits.yaml")]) == 0
    share = load_recipe(ROOT / "docs/examples/sequences/visits.yaml").privacy.label_budget()
    assert f"measured first: privacy.marginals, share {share:g}, epsilon 2." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("records", "column", "slices"),
    [
        (40_000, {"type": "integer", "min": 0, "max": 10_000}, 0.02),
        (600, {"type": "integer", "min": 0, "max": 10_000}, 0.05),
        (100, {"type": "integer", "min": 0, "max": 10_000}, None),
        (40_000, {"type": "integer", "min": 0, "max": 99}, None),  # each value has a bin
    ],
)
def test_slices_are_recommended_where_a_value_that_comes_often_is_seen(
    records: int, column: dict[str, Any], slices: float | None
) -> None:
    schema = {"columns": {"x": column, "y": {"type": "boolean"}}}
    recipe = _recipe(data__expected_records=records, data__schema=schema)
    measure = with_measurements({}, recommend(recipe, make_plan(recipe), samples=100))["measure"]
    assert measure.get("slices") == (slices and {"budget": slices})
