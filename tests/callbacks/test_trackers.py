"""Trackers get what is released, after each iteration, and nothing else."""

from __future__ import annotations

import io
import sys
import types

import pytest

import pe_beam
from pe_beam.callbacks import figures, mlflow, tensorboard, wandb
from pe_beam.errors import InputError, MissingExtraError
from pe_beam.releases.reading import Release, open_release


@pytest.fixture
def whole(runs, small):
    return open_release(runs.finished(small))


def at(release: Release, iteration: int) -> Release:
    return Release(release.folder, release.privacy, release.recipe, iteration)


def test_figures_are_those_of_the_release(whole):
    found = figures(at(whole, 1))
    votes = whole.histogram(1)["noisy_votes"].to_numpy()
    assert found["candidates"] == 40 and found["votes/total"] == votes.sum() and found["votes/largest"] == votes.max()
    assert found["votes/above_threshold"] == (votes >= whole.manifest(1)["selection"]["threshold"]["0"]).mean()
    assert set(figures(at(whole, 0))) == {"candidates", "epsilon_spent"}


def test_tensorboard_reads_what_its_writer_was_given(whole, tmp_path):
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard was NOT tested"
    )
    call = tensorboard(tmp_path / "logs")
    for t in whole.iterations:
        call(at(whole, t))
    read = {}
    for path in (tmp_path / "logs").iterdir():
        log = events.EventAccumulator(str(path))
        log.Reload()
        for tag in log.Tags()["scalars"]:
            read.setdefault(tag, {}).update({event.step: event.value for event in log.Scalars(tag)})
        assert log.Tags()["images"] == ["population"]
    assert read["candidates"] == {0: 40, 1: 40, 2: 40}
    assert read["votes/total"] == {t: pytest.approx(figures(at(whole, t))["votes/total"]) for t in (1, 2)}


def stand_in(name, monkeypatch, calls):
    """A module that notes the calls its documentation has; the library itself is not installed here."""
    module = types.ModuleType(name)
    for function in ("log_metrics", "log_image", "log_text", "log", "Image", "Table"):
        setattr(module, function, lambda *args, _name=function, **named: calls.append((_name, args, named)))
    monkeypatch.setitem(sys.modules, name, module)


def test_mlflow_and_wandb_are_called_as_documented(whole, monkeypatch):
    calls = []
    stand_in("mlflow", monkeypatch, calls)
    stand_in("wandb", monkeypatch, calls)
    mlflow()(at(whole, 1))
    (metrics, given, step), (picture, image, where) = calls
    assert metrics == "log_metrics" and given == (figures(at(whole, 1)),) and step == {"step": 1}
    assert picture == "log_image" and image[0].size == (7 * 16, 6 * 16)
    assert where == {"artifact_file": "population/0001.png"}
    calls.clear()
    wandb()(at(whole, 2))
    assert [name for name, *_ in calls] == ["Image", "log"]
    assert calls[1][2] == {"step": 2} and set(calls[1][1][0]) == {*figures(at(whole, 2)), "population"}


def test_nothing_unprotected_is_sent_away(small, tmp_path, monkeypatch):
    calls = []
    stand_in("mlflow", monkeypatch, calls)
    small["privacy"]["epsilon"] = "inf"
    small["evolution"]["iterations"] = 1
    from pe_beam.recipe.loading import parse_recipe

    recipe = parse_recipe(small)
    with pytest.raises(pe_beam.errors.PeBeamError, match=r"on_iteration: callbacks\.mlflow: .*NOT PRIVATE.*goes on"):
        pe_beam.evolve(recipe, tmp_path / "run", on_iteration=mlflow(), progress=io.StringIO())
    assert not calls
    pe_beam.evolve(recipe, tmp_path / "run", on_iteration=mlflow(send_unprotected=True), progress=io.StringIO())
    assert all(name.startswith("NOT PRIVATE/") for name in calls[0][1][0])
    with pytest.raises(InputError, match="send_unprotected=True"):
        mlflow()(open_release(tmp_path / "run"))


@pytest.mark.parametrize(("make", "module"), [(mlflow, "mlflow"), (wandb, "wandb")])
def test_a_missing_library_is_said_at_once(monkeypatch, make, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"callbacks.{module}: needs the package {module}, which"):
        make()


def test_a_missing_tensorboard_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="needs the package tensorboard and torch"):
        tensorboard(tmp_path)
