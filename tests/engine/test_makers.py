"""Whole runs with several generators: by share, by phase, killed half-way, unrolled, reported and exported."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts.generator import Step
from pe_beam.contracts.makers import without_maker
from pe_beam.driver.export import export
from pe_beam.driver.loop import evolve
from pe_beam.driver.reporting import report
from pe_beam.driver.status import status
from pe_beam.engine import steps
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.populations import read_histogram, read_population
from pe_beam.engine.run import open_run
from pe_beam.errors import PeBeamError, RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.parts import new_generator
from tests.modalities.image.diffusion import models
from tests.whole_runs import SMALL, Runs, copied, release_digests


def by_share() -> dict[str, Any]:
    """Two simulators at once, with kept parents and lookahead."""
    recipe = copy.deepcopy(SMALL)
    del recipe["generator"]
    recipe["generators"] = [
        {"name": "fine", "share": 0.3, "generator": {"name": "text-render", "side": 16}},
        {"name": "coarse", "share": 0.7, "generator": {"name": "text-render", "side": 8}},
    ]
    recipe["evolution"] |= {"keep_parents": True, "lookahead": 1}
    return recipe


@pytest.fixture(scope="module")
def by_phase(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A simulator first, then a diffusion model."""
    model = models.pixel_model(tmp_path_factory.mktemp("model") / "pixels")
    recipe = copy.deepcopy(SMALL)
    del recipe["generator"]
    recipe["data"] |= {"labels": ["0", "1"], "max_rejects": 1}  # the other digits abstain
    diffusion = {"name": "diffusers", "model": str(model), "random": {"steps": 3}, "vary": {"steps": 3}}
    recipe["generators"] = [
        {"name": "letters", "to": 1, "generator": {"name": "text-render", "side": 8}},
        {"name": "paint", "from": 2, "generator": diffusion | {"local": {"batch_size": 4}}},
    ]
    recipe["evolution"] |= {"samples": 12, "iterations": 3, "keep_parents": True}
    return recipe


def makers_of(run: Any, iteration: int) -> list[str]:
    return [without_maker(state)[0] for state in read_population(run, iteration)["state"].to_pylist()]


@pytest.mark.reported
def test_by_share_a_variation_stays_with_its_maker_and_all_is_counted(runs: Runs, tmp_path: Path) -> None:
    run = open_run(copied(runs.finished(by_share()), tmp_path / "run"))
    assert makers_of(run, 0).count("fine") == pytest.approx(12, abs=4)
    for iteration in range(3):
        makers = makers_of(run, iteration)
        table = read_population(run, iteration).to_pylist()
        told = manifest_of(run, iteration)["generation"]["makers"]
        assert list(told) == ["coarse", "fine"]
        new = [name for row, name in zip(table, makers, strict=True) if row["origin"] != "kept"]
        for name, own in told.items():
            assert own["candidates"] == makers.count(name)
            assert own["new"] == new.count(name)
        if iteration:
            before = dict(
                zip(
                    read_population(run, iteration - 1)["candidate_id"].to_pylist(),
                    makers_of(run, iteration - 1),
                    strict=True,
                )
            )
            for row, name in zip(table, makers, strict=True):
                assert before[row["candidate_id"] if row["origin"] == "kept" else row["parent_id"]] == name
            votes = read_histogram(run, iteration).to_pylist()
            for name, own in told.items():
                cast = math.fsum(row["noisy_votes"] for row in votes if before[row["candidate_id"]] == name)
                assert own["noisy_votes"] == cast
        else:
            assert all("noisy_votes" not in own for own in told.values())
    page = (tmp_path / "run/release/report.html").read_text()
    assert "Candidates and noisy votes by generator" in page
    assert '<li title="fine">' in page or '<li title="coarse">' in page
    assert status(str(tmp_path / "run"))["state"] == "complete"
    export(str(tmp_path / "run"), tmp_path / "samples")
    assert len(list((tmp_path / "samples").rglob("*.png"))) == 40
    export(str(tmp_path / "run"), tmp_path / "samples.jsonl")
    report(str(tmp_path / "run"))


@pytest.mark.reported
def test_rows_are_what_each_maker_alone_would_have_made(runs: Runs) -> None:
    run = open_run(runs.finished(by_share()))
    labels = [str(label) for label in range(10)]
    alone = {
        name: TextRender(TextRenderOptions(side=side), labels=labels) for name, side in (("fine", 16), ("coarse", 8))
    }
    first, second = read_population(run, 0), read_population(run, 1)
    degree = run.recipe.evolution.degrees()[0]
    for row in first.to_pylist():
        name, own = without_maker(row["state"])
        made = alone[name].random([row["label"]], [keyed_rng(0, 0, row["candidate_id"], "random")])
        assert (made["image"][0].as_py(), made["state"][0].as_py()) == (row["image"], own)
    places = {i: place for place, i in enumerate(first["candidate_id"].to_pylist())}
    for row in second.to_pylist():
        if row["origin"] != "varied":
            continue
        name, own = without_maker(row["state"])
        parent = first.slice(places[row["parent_id"]], 1)
        state = without_maker(parent["state"][0].as_py())[1]
        parent = parent.set_column(parent.schema.get_field_index("state"), "state", [[state]])
        step = Step(iteration=1, iterations=2, degree=degree)
        made = alone[name].vary(parent, step, [keyed_rng(0, 1, row["candidate_id"], "vary")])
        assert (made["image"][0].as_py(), made["state"][0].as_py()) == (row["image"], own)


def test_a_run_that_stops_half_way_goes_on_to_the_same_release(runs: Runs, tmp_path: Path, secret_file: Path) -> None:
    half = copied(runs.half(by_share()), tmp_path / "run")
    evolve(parse_recipe(by_share()), half, secret_file=secret_file)
    assert release_digests(half) == release_digests(runs.finished(by_share()))


def test_unrolled_and_in_small_chunks_it_is_the_same_release(
    runs: Runs, tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = release_digests(runs.finished(by_share()))
    monkeypatch.setattr(TextRender, "chunk_size", 7)
    evolve(parse_recipe(by_share()), tmp_path / "run", secret_file=secret_file, unroll=True)
    assert release_digests(tmp_path / "run") == whole


def test_shares_move_to_the_one_whose_candidates_win(small: Any, tmp_path: Path, secret_file: Path) -> None:
    """Digits against dots, half and half, at epsilon 1."""
    one = small.pop("generator") | {"side": 8}
    dots = one | {"texts": {str(label): "." for label in range(10)}}
    small["generators"] = [{"name": "digits", "generator": one}, {"name": "dots", "generator": dots}]
    small["evolution"] = {"iterations": 1, "samples": 100}
    run = evolve(parse_recipe(small), tmp_path / "run", secret_file=secret_file)
    told = [manifest_of(run, iteration)["generation"]["makers"] for iteration in range(2)]
    assert told[0]["dots"]["candidates"] == pytest.approx(50, abs=10)
    assert told[1]["digits"]["noisy_votes"] > 10 * told[1]["dots"]["noisy_votes"]
    assert told[1]["dots"]["candidates"] < 10


def test_by_phase_a_simulator_hands_over_to_a_diffusion_model(by_phase: Any, runs: Runs) -> None:
    run = open_run(runs.finished(by_phase))
    told = [manifest_of(run, iteration)["generation"]["makers"] for iteration in range(4)]
    for iteration, maker in enumerate(["letters", "letters", "paint", "paint"]):
        origins = read_population(run, iteration)["origin"].to_pylist()
        new = {name for name, how in zip(makers_of(run, iteration), origins, strict=True) if how != "kept"}
        assert new == {maker}
        assert told[iteration][maker]["new"] == len(origins) - origins.count("kept") > 0
    assert [own["letters"]["candidates"] for own in told[:2]] == [12, 12]
    assert 0 < told[2]["letters"]["candidates"] < 12  # kept ones
    assert told[2]["letters"]["noisy_votes"] != 0
    assert told[2]["paint"]["noisy_votes"] == 0
    assert told[2]["paint"]["summary"] == {"rejected_answers": {}, "stand_ins": 0}
    states = [without_maker(state) for state in read_population(run, 2)["state"].to_pylist()]
    own = [json.loads(state or "") for name, state in states if name == "paint"]
    assert all(set(state) == {"class"} for state in own)  # nothing is left of the letters' own
    recipe = json.loads((Path(run.root.removeprefix("file://")) / "release/recipe.json").read_text())
    assert recipe["generators"][1]["generator"]["model"] == "(withheld)"
    samples = pq.read_table(Path(run.root.removeprefix("file://")) / "release/samples.parquet")
    assert samples.num_rows == 12


def test_what_is_missing_before_a_run_is_told_with_its_maker(by_phase: Any, tmp_path: Path) -> None:
    wrong = copy.deepcopy(by_phase)
    wrong["generators"][1]["generator"]["model"] = str(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match=r"generators, paint: generator\.model"):
        new_generator(parse_recipe(wrong)).ready()


def test_a_phase_that_is_stopped_in_its_hand_over_goes_on_to_the_same_release(
    by_phase: Any, runs: Runs, tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second chunk of the iteration that hands over is not made at first."""
    monkeypatch.setattr("pe_beam.modalities.image.diffusion.generator._CHUNK", 4)
    real, calls = steps.generate_chunk, []

    def stop(run: Any, iteration: int, rows: Any) -> int:
        calls.append(iteration)
        if calls.count(2) == 2:
            raise RuntimeError("stopped")
        return real(run, iteration, rows)

    with monkeypatch.context() as patch:
        patch.setattr(steps, "generate_chunk", stop)
        with pytest.raises(PeBeamError, match="Generate failed"):
            evolve(parse_recipe(by_phase), tmp_path / "run", secret_file=secret_file)
    assert len(list((tmp_path / "run/work/iteration=0002/chunks").iterdir())) == 1
    evolve(parse_recipe(by_phase), tmp_path / "run", secret_file=secret_file, unroll=True)
    found, whole = open_run(tmp_path / "run"), open_run(runs.finished(by_phase))
    for iteration in range(4):
        one, other = (read_population(run, iteration) for run in (found, whole))
        assert one["state"].equals(other["state"])
        assert np.array_equal(one["candidate_id"], other["candidate_id"])
