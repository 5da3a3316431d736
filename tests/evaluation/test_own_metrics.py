"""Metrics of somebody else's package, found by entry point and measured with those of the kind of record."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pe_beam.contracts.modality import Modality
from pe_beam.errors import InputError
from pe_beam.evaluation.evaluate import evaluate
from pe_beam.evaluation.own_metrics import metrics_of, options_of
from pe_beam.evaluation.table import text_table
from tests.whole_runs import ROOT, Runs

MINE = """
from pe_beam.contracts.metric import Measured

def told(comparison):
    return Measured(figures={"told": float(comparison.options.get("what", 0))}, notes=["a note of theirs"])

told.options = {"what": "the figure to give"}

def for_texts(comparison):
    raise AssertionError("never called for pictures")

for_texts.modality = "text"
"""
POINTS = """
[pe_beam.metrics]
distinct = distinct:distinct
gone = gone_package:gone
mine = mine_module:told
texts = mine_module:for_texts
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (site / "mine-1.0.dist-info/entry_points.txt").write_text(POINTS)
    (site / "mine_module.py").write_text(MINE)
    shutil.copy(ROOT / "docs/examples/parts/distinct.py", site)
    monkeypatch.syspath_prepend(site)


def test_an_evaluation_has_their_figures_too(
    installed: None, small: dict[str, Any], runs: Runs, tmp_path: Path
) -> None:
    run = shutil.copytree(runs.finished(small), tmp_path / "run", symlinks=True)
    found = evaluate(str(run), options={"what": "7"})
    said = text_table(found)
    assert "told" in said and "distinct share" in said.replace("_", " ")
    assert "a note of theirs" in said and "left out: metric 'gone': needs the package 'gone_package'" in said
    assert not any("told" in path.read_text(errors="replace") for path in (run / "release").rglob("*.json"))


def test_an_option_is_known_and_a_name_is_one_metric_s(installed: None) -> None:
    payload = pa.schema([("text", pa.string())])
    assert options_of(Modality("image", payload)) == {"what": "the figure to give"}
    assert len(metrics_of(Modality("image", payload))) == 3 and len(metrics_of(Modality("text", payload))) == 4
    with pytest.raises(InputError, match="--set what: several installed metrics have an option of that name"):
        options_of(Modality("image", payload, metric_options={"what": "its own"}))
