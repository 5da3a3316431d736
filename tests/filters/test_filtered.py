"""Candidates that fail are made again; runs with filters are repeatable, resume, and count what was rejected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.contracts.filter import Filter, without_filters
from pe_beam.contracts.generator import Generator, Step
from pe_beam.driver.loop import evolve
from pe_beam.driver.preview import make_preview
from pe_beam.engine.populations import read_population
from pe_beam.errors import PeBeamError, RecipeError, StageError, UnusableError
from pe_beam.recipe.costs import estimate_costs
from pe_beam.recipe.filtered import Filtered, Filters, unfiltered
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.recipe.parts import new_generator
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests

SMALL = ["evolution.iterations=2", "evolution.samples=40", "evolution.population=40"]
EVEN = 'evolution.filters=[{"name": "python", "function": "tests.filters.parts:even"}]'


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(row) for row in range(count)]


def digits(*filters: str, attempts: int = 3) -> Generator:
    return new_generator(load_recipe("digits", [*SMALL, *filters, f"evolution.filter_attempts={attempts}"]))


def test_what_passes_at_once_is_what_the_generator_alone_makes() -> None:
    labels = [str(row % 10) for row in range(40)]
    alone, filtered = digits().random(labels, rngs(40)), digits(EVEN).random(labels, rngs(40))
    odd = [row for row, image in enumerate(filtered["image"].to_pylist()) if len(image) % 2]
    same = [a == b for a, b in zip(alone.to_pylist(), filtered.to_pylist(), strict=True)]
    at_once = [len(image) % 2 == 0 for image in alone["image"].to_pylist()]
    assert not odd
    assert 0 < sum(at_once) < 40
    assert same == at_once


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    generator = digits(EVEN)
    labels = [str(row % 10) for row in range(20)]
    made = generator.random(labels, rngs(20))
    parents = made.append_column("label", pa.array(labels, pa.string()))
    step = Step(iteration=1, iterations=2, degree=0.5)
    varied = generator.vary(parents, step, rngs(20))
    for row in (3, 11):
        assert generator.vary(parents.slice(row, 1), step, [rngs(20)[row]]).equals(varied.slice(row, 1))
        alone = generator.random(labels[row : row + 1], [rngs(20)[row]])
        assert "true" in str(made["state"][row]) or alone.equals(made.slice(row, 1))  # but for stand-ins


def test_stand_ins_are_parents_or_others_that_passed_and_are_counted() -> None:
    class Odd(Filter):
        """Passes nothing in odd places of what it sees first, and nothing later."""

        seen = 0

        def __init__(self) -> None:
            pass

        def passing(self, candidates: Any, rngs: Any, *, chunk: Any = None) -> list[bool]:
            self.seen += 1
            return [self.seen == 1 and row % 2 == 0 for row in range(candidates.num_rows)]

    inner = digits()
    labels = ["1", "1", "2", "2"]
    generator = Filtered(inner, Filters([("odd", Odd())], 2))
    made = generator.random(labels, rngs(4))
    images = made["image"].to_pylist()
    assert images == [images[0], images[0], images[2], images[2]]
    assert generator.summary(made)["filters"] == {"rejected_answers": {"odd": 6}, "stand_ins": 2}
    parents = made.append_column("label", pa.array(labels, pa.string()))
    generator = Filtered(inner, Filters([("odd", Odd())], 1))
    varied = generator.vary(parents, Step(iteration=1, iterations=1, degree=0.5), rngs(4))
    assert [varied["image"][row] == made["image"][row] for row in range(4)] == [False, True, False, True]
    assert [without_filters(state) for state in varied["state"].to_pylist()][1] == without_filters(
        made["state"][1].as_py()
    )


def test_a_few_rows_of_which_the_generator_makes_nothing_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = digits(EVEN, attempts=1)
    alone = unfiltered(generator)
    whole = alone.random

    def picky(labels: Any, own: Any) -> pa.Table:
        if len(labels) < 20:
            raise UnusableError("generator: nothing could be used")
        return whole(labels, own)

    monkeypatch.setattr(alone, "random", picky)
    made = generator.random(["1"] * 20, rngs(20))
    told = generator.summary(made)["filters"]
    assert not [image for image in made["image"].to_pylist() if len(image) % 2]
    assert told["rejected_answers"] == {"(unusable)": told["stand_ins"], "python": told["stand_ins"]}
    with pytest.raises(UnusableError):
        generator.random(["1"] * 19, rngs(19))


def test_a_chunk_of_which_nothing_passes_ends_the_run() -> None:
    nothing = 'evolution.filters=[{"name": "python", "function": "tests.filters.parts:nothing"}]'
    with pytest.raises(StageError, match=r"none of 3 candidates passes \(python 6\)"):
        digits(nothing, attempts=1).random(["0", "1", "2"], rngs(3))


def test_a_run_with_filters_repeats_and_says_what_they_rejected(secret_file: Path) -> None:
    recipe = load_recipe("digits", [*SMALL, EVEN])
    run = evolve(recipe, "memory://filtered", secret_file=secret_file)
    again = evolve(recipe, "memory://filtered-again", secret_file=secret_file, unroll=True)
    assert run.store.digest("release/samples.parquet") == again.store.digest("release/samples.parquet")
    for t in range(3):
        told = json.loads(run.store.read(f"release/iteration={t:04d}/manifest.json"))["generation"]["filters"]
        assert told["rejected_answers"]["python"] > 0
        if not told["stand_ins"]:
            assert not [image for image in read_population(run, t)["image"].to_pylist() if len(image) % 2]
    released = json.loads(run.store.read("release/recipe.json"))["evolution"]["filters"]
    assert released == [{"name": "python", "function": "(withheld)"}]


def test_filters_are_in_the_id_of_a_run_and_none_leave_it() -> None:
    plain = run_id(load_recipe("digits", []))
    assert run_id(load_recipe("digits", ["evolution.filters=[]", "evolution.filter_attempts=3"])) == plain
    assert run_id(load_recipe("digits", [EVEN])) != plain


def judged(texts: dict[str, Any], prompt: str = "Is this about {label} soup? {sample}") -> dict[str, Any]:
    texts["evolution"] |= {
        "filters": [{"name": "judge", "model": "tiny", "prompt": prompt, "accept": "(?i)^[a-r]", "max_tokens": 40}]
    }
    return texts


def test_a_judge_is_paid_once_an_attempt_also_after_a_kill(
    texts: dict[str, Any], tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Filtered.vary
    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(serve(judged(texts), server))
        evolve(recipe, tmp_path / "whole", secret_file=secret_file)
        whole = len(server.requests())

        def stop(self: Filtered, *args: Any, **more: Any) -> Any:
            real(self, *args, **more)
            raise RuntimeError("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(Filtered, "vary", stop)
            with pytest.raises(PeBeamError):
                evolve(recipe, tmp_path / "killed", secret_file=secret_file)
        evolve(recipe, tmp_path / "killed", secret_file=secret_file)
        assert len(server.requests()) == 2 * whole
    assert release_digests(tmp_path / "whole") == release_digests(tmp_path / "killed")
    manifest = json.loads((tmp_path / "whole/release/iteration=0001/manifest.json").read_text())
    assert manifest["generation"]["filters"]["rejected_answers"]["judge"] > 0
    assert whole > 2 * 3 * 24  # a call for each candidate and one for its judge, and those that were rejected


def test_a_judges_calls_are_in_the_estimate_and_in_a_preview(texts: dict[str, Any], tmp_path: Path) -> None:
    with Served(tmp_path / "log") as server:
        plain = estimate_costs(parse_recipe(serve(texts, server)))
        recipe = parse_recipe(serve(judged(texts), server))
        preview = make_preview(recipe, 6)
    costs = estimate_costs(recipe)
    assert plain is not None
    assert costs is not None
    assert costs.calls == 2 * plain.calls
    assert costs.input_tokens > plain.input_tokens
    rejected = sum(side["filters"]["rejected_answers"].get("judge", 0) for side in preview.summary.values())
    assert rejected > 0
    assert sum(len(one.exchanges) for one in [*preview.made, *preview.varied]) == 12 + rejected


def test_a_remote_judge_falls_under_the_rule_of_runs_without_a_promise(texts: dict[str, Any]) -> None:
    texts["privacy"] = {"epsilon": "inf", "delta": 1e-3}
    texts["generator"] |= {"backend": "huggingface", "model": "nowhere"}
    with pytest.raises(RecipeError, match="remote service would send private data out"):
        evolve(parse_recipe(judged(texts)), "memory://judged")
