"""A run of texts, evaluated and reported as its holder would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.cli.main import main
from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.text.recipes import serve, write_texts
from tests.modalities.text.server import Served

pytestmark = pytest.mark.reported


def test_a_run_of_texts_is_evaluated_and_reported(
    texts: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts["data"]["holdout"] = str(write_texts(tmp_path / "held-out.csv", 80))
    with Served(tmp_path / "log") as server:
        evolve(parse_recipe(serve(texts, server)), tmp_path / "run")
    before = {path for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert main(["evaluate", str(tmp_path / "run")]) == 0  # without the service: nothing is asked for
    found = json.loads((tmp_path / "run/private/evaluation/evaluation.json").read_text())
    wanted = {"frechet_distance", "precision", "recall", "svc_rbf_accuracy", "mauve"}
    assert wanted <= set(found["metrics"]), sorted(found["metrics"])
    for part in (found, found["floor"], found["ceiling"]):
        assert {"next_word_perplexity", "next_word_accuracy", "next_word_perplexity_trigram"} <= set(part["metrics"])
    assert "tuned_model_perplexity" not in found["metrics"], "no model was named"
    assert main(["evaluate", str(tmp_path / "run"), "--set", "langage_model=gpt2"]) == 2
    assert "--set langage_model: not an option of evaluate; allowed: language_model: " in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run"), "--set", f"language_model={tmp_path}"]) == 2
    assert "cannot be loaded" in capsys.readouterr().err
    made = {path for path in (tmp_path / "run").rglob("*") if path.is_file()} - before
    assert all(path.relative_to(tmp_path / "run").parts[0] in ("private", "work") for path in made)
    page = (tmp_path / "run/release/report.html").read_text(encoding="utf-8")
    assert "Write a {label} text on {thing}" in page  # prompts are declared in public
    assert str(tmp_path) not in page
