"""A run of pictures, evaluated in a second space as its holder would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.evaluation.pictures import LABELS, write_files


def finished(recipe: dict[str, Any], folder: Path, rows: tuple[int, int, int]) -> Path:
    """A run on so many training and held-out pictures of 8 x 8, with so many samples."""
    write_files(folder / "training", rows[:1], 1)
    write_files(folder / "held-out", rows[1:2], 2)
    recipe["data"] = {"source": "parquet", "path": str(folder / "training"), "labels": LABELS}
    recipe["data"]["holdout"] = str(folder / "held-out")
    recipe["evolution"] = {"iterations": 1, "samples": rows[2]}
    evolve(parse_recipe(recipe), folder / "run")
    return folder / "run"


def test_a_run_is_evaluated_in_the_space_of_efficientnet(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = finished(small, tmp_path, (16, 15, 12))
    before = {path for path in run_dir.rglob("*") if path.is_file()}
    assert main(["evaluate", str(run_dir), "--set", "inception=/nowhere/x.pt"]) == 2
    assert "--set inception: weights: '/nowhere/x.pt' is not a file" in capsys.readouterr().err
    assert before == {path for path in run_dir.rglob("*") if path.is_file()}, "it was refused before anything was read"
    assert main(["evaluate", str(run_dir), "--set", "inceptoin=x"]) == 2
    assert "not an option of evaluate; allowed: inception: path of its weights" in capsys.readouterr().err
    assert (
        main(
            ["evaluate", str(run_dir), "--set", "efficientnet-lite0=yes", "--set", "wrn=10-1", "--set", "wrn_epochs=1"]
        )
        == 0
    )
    found = json.loads((run_dir / "private/evaluation/evaluation.json").read_text())
    assert "wrn_10_1_accuracy: trained on 12 pictures, 1 epochs, and tested on 15" in found["notes"]
    names = ("fid", "kid", "kid_spread", "precision", "recall", "density", "coverage")
    for part in (found, found["floor"], found["ceiling"]):
        assert {f"{name}_efficientnet_lite0" for name in names} | {"cnn_accuracy", "wrn_10_1_accuracy"} <= set(
            part["metrics"]
        )
    copied = {"exact_duplicates_efficientnet_lite0", "probability_closer_efficientnet_lite0"}
    assert copied <= set(found["metrics"])
    assert not copied & (set(found["floor"]["metrics"]) | set(found["ceiling"]["metrics"]))
    assert found["ceiling"]["metrics"]["fid_efficientnet_lite0"] < found["metrics"]["fid_efficientnet_lite0"]
    assert [series["title"] for series in found["series"]] == [
        "Distance to the nearest training picture, efficientnet_lite0"
    ]
    made = {path for path in run_dir.rglob("*") if path.is_file()} - before
    assert all(path.relative_to(run_dir).parts[0] in ("private", "work") for path in made)


def test_how_many_records_metrics_see_is_the_users_to_say(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = finished(small, tmp_path, (40, 50, 30))
    assert main(["evaluate", str(run_dir), "--metric-rows", "1"]) == 2
    assert "--metric-rows 1: 2 at least is wanted" in capsys.readouterr().err
    file = tmp_path / "spaces.yaml"
    file.write_text("eight: {name: pixels, size: 8}")
    asked = ["evaluate", str(run_dir), "--set", f"spaces={file}"]
    notes = {}
    for rows in (20, 1000):
        assert main([*asked, "--metric-rows", str(rows)]) == 0
        found = json.loads((run_dir / "private/evaluation/evaluation.json").read_text())
        notes[rows] = " ".join(found["notes"])
        if rows == 1000:  # all there are, in the recipe's own space: the same figure by another way
            assert found["metrics"]["fid_eight"] == pytest.approx(found["metrics"]["frechet_distance"], abs=1e-6)
            assert found["metrics"]["precision_eight"] == found["metrics"]["precision"]
            assert found["metrics"]["kid_eight"] == found["metrics"]["kernel_distance"]
    assert "fid_eight: of 20 and 20 pictures" in notes[20] and "fid_eight: of 30 and 50 pictures" in notes[1000]
