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


def test_a_run_is_evaluated_in_the_space_of_efficientnet(
    small: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "training", (24,), 1)
    write_files(tmp_path / "held-out", (20,), 2)
    small["data"] = {"source": "parquet", "path": str(tmp_path / "training"), "labels": LABELS}
    small["data"]["holdout"] = str(tmp_path / "held-out")
    small["evolution"] = {"iterations": 1, "samples": 12}
    run_dir = tmp_path / "run"
    evolve(parse_recipe(small), run_dir)
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
