"""Strokes, whole: a diffusion model of printed digits, trained here, evolved towards private handwriting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pe_beam.driver.loop import evolve
from pe_beam.engine.run import open_run
from pe_beam.errors import StageError
from pe_beam.modalities.image.diffusion import generator as module
from pe_beam.recipe.loading import load_recipe
from tests.modalities.image.strokes import RECIPE, SMALL, accuracies, evolve_strokes, train
from tests.whole_runs import release_digests

pytestmark = pytest.mark.xdist_group("strokes")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in some seconds."""
    folder = tmp_path_factory.mktemp("strokes")
    train(folder / "model", SMALL)
    return folder / "model"


@pytest.fixture(scope="module")
def finished(model: Path) -> Path:
    """The run directory of a finished run."""
    evolve_strokes(model, model.parent / "run", SMALL)
    return model.parent / "run"


def test_samples_teach_more_of_handwriting_than_the_model_knows(finished: Path) -> None:
    found = accuracies(finished)
    assert found["last"] > found["first"] + 0.08, found
    assert found["real"] > found["last"]


def test_the_release_says_which_class_each_picture_is_of(finished: Path) -> None:
    run = open_run(finished)
    manifest = json.loads((finished / "release/iteration=0002/manifest.json").read_text())
    assert manifest["generation"] == {"rejected_answers": {}, "stand_ins": 0}
    assert run.generator.chunk_size == 50


def test_a_kill_in_mid_generation_makes_no_committed_chunk_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret_file: Path
) -> None:
    changed = {"generator.model": str(model), **SMALL.changed, "evolution.iterations": 1, "evolution.samples": 100}
    changed |= {"generator.random.steps": 2, "generator.vary.steps": 2, "evolution.population": 100}
    recipe = load_recipe(RECIPE, changed)
    evolve(recipe, tmp_path / "whole", secret_file=secret_file)
    calls, real = [0], module.Diffusers.vary

    def dies(own: module.Diffusers, *args: object) -> object:
        calls[0] += 1
        if calls[0] == 2:
            raise StageError("generator: killed")
        return real(own, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Diffusers, "vary", dies)
    with pytest.raises(StageError, match="killed"):
        evolve(recipe, tmp_path / "run", secret_file=secret_file)
    committed = sorted((tmp_path / "run/work/iteration=0001/chunks").iterdir())
    assert len(committed) == 1
    evolve(recipe, tmp_path / "run", secret_file=secret_file)
    assert calls[0] == 3, "two chunks, one of them twice"
    assert release_digests(tmp_path / "run") == release_digests(tmp_path / "whole")
