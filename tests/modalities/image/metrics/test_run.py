"""A run of pictures, evaluated in other spaces as its holder would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.evaluation.pictures import LABELS, write_files
from tests.whole_runs import SMALL

FIGURES = ("fid", "kid", "kid_spread", "precision", "recall", "density", "coverage")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training pictures, 15 held-out ones and 12 samples, of 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("measured")
    write_files(folder / "training", (16,), 1)
    write_files(folder / "held-out", (15,), 2)
    data = {"source": "parquet", "path": f"{folder}/training", "holdout": f"{folder}/held-out", "labels": LABELS}
    evolve(parse_recipe(SMALL | {"data": data, "evolution": {"iterations": 1, "samples": 12}}), folder / "run")
    return folder / "run"


def files(run_dir: Path) -> set[Path]:
    return {path for path in run_dir.rglob("*") if path.is_file()}


def measured(run_dir: Path, *words: str) -> dict[str, Any]:
    assert main(["evaluate", str(run_dir), *words]) == 0
    found: dict[str, Any] = json.loads((run_dir / "private/evaluation/evaluation.json").read_text())
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "inception=/nowhere/x.pt"), "--set inception: weights: '/nowhere/x.pt' is not a file"),
        (("--set", "inceptoin=x"), "not an option of evaluate; allowed: inception: path of its weights"),
        (("--set", "wrn=28"), "--set wrn=28: yes, or DEPTH-WIDTH is wanted"),
        (("--metric-rows", "1"), "--metric-rows 1: 2 at least is wanted"),
    ],
)
def test_what_is_told_wrongly_is_refused_before_anything_is_read(
    run_dir: Path, words: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run_dir)
    assert main(["evaluate", str(run_dir), *words]) == 2
    assert message in capsys.readouterr().err
    assert files(run_dir) == before


@pytest.mark.reported
def test_a_run_is_evaluated_in_other_spaces(run_dir: Path, tmp_path: Path) -> None:
    before, listed = files(run_dir), tmp_path / "spaces.yaml"
    listed.write_text("own: {name: pixels, size: 8}\n")
    asked = ("efficientnet-lite0=yes", f"spaces={listed}", "wrn=10-1", "wrn_epochs=1")
    found = measured(run_dir, *(word for one in asked for word in ("--set", one)))
    figures, floor, ceiling = found["metrics"], found["floor"]["metrics"], found["ceiling"]["metrics"]
    wanted = {f"{name}_{space}" for name in FIGURES for space in ("efficientnet_lite0", "own")}
    for part in (figures, floor, ceiling):
        assert wanted | {"cnn_accuracy", "wrn_10_1_accuracy"} <= set(part)
    copied = {"exact_duplicates_efficientnet_lite0", "probability_closer_efficientnet_lite0"}
    assert copied <= set(figures) and not copied & (set(floor) | set(ceiling))
    assert ceiling["fid_efficientnet_lite0"] < figures["fid_efficientnet_lite0"]
    # The recipe's own space by another way: all rows are there.
    assert figures["fid_own"] == pytest.approx(figures["frechet_distance"], abs=1e-6)
    assert figures["kid_own"] == figures["kernel_distance"] and figures["recall_own"] == figures["recall"]
    assert figures["probability_closer_own"] == found["memorisation"]["probability_closer"]
    assert [series["title"].rpartition(", ")[2] for series in found["series"]] == ["efficientnet_lite0", "own"]
    assert "wrn_10_1_accuracy: trained on 12 pictures, 1 epochs, and tested on 15" in found["notes"]
    page = (run_dir / "private/evaluation/evaluation.html").read_text()
    assert "Distance to the nearest training picture, efficientnet_lite0" in page
    assert all(path.relative_to(run_dir).parts[0] in ("private", "work") for path in files(run_dir) - before)


def test_how_many_records_metrics_see_is_the_users_to_say(run_dir: Path, tmp_path: Path) -> None:
    listed = tmp_path / "spaces.yaml"
    listed.write_text("own: {name: pixels, size: 8}\n")
    notes = measured(run_dir, "--set", f"spaces={listed}", "--metric-rows", "9")["notes"]
    assert any(note.startswith("fid_own: of 9 and 9 pictures") for note in notes)
