"""Tables and texts on Flink: the same release as in process, with measured marginals, phases and a remote service."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.tabular.tables import TABLE, rows
from tests.modalities.text.recipes import TEXTS, write_texts
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests

pytestmark = [pytest.mark.flink, pytest.mark.xdist_group("flink")]


def both(recipe: dict[str, Any], folder: Path, secret: Path, flags: list[str]) -> int:
    """Runs a recipe in process and, as one job, on the cluster; returns how many ledger lines both have."""
    parsed = parse_recipe(recipe)
    evolve(parsed, folder / "here", ["--runner=FnApiRunner"], secret_file=secret)
    evolve(parsed, folder / "flink", flags, secret_file=secret, unroll=True)
    assert release_digests(folder / "flink") == release_digests(folder / "here")
    ledgers = [(folder / name / "ledger.jsonl").read_text() for name in ("here", "flink")]
    assert ledgers[0] == ledgers[1]
    return len(ledgers[0].splitlines())


def test_a_table_gives_the_same_release(whole, tmp_path, secret_file):
    recipe = copy.deepcopy(TABLE)
    pyarrow.csv.write_csv(rows(), tmp_path / "rows.csv")
    recipe["data"] |= {"path": str(tmp_path / "rows.csv"), "labels": ["x", "y"]}
    recipe["evolution"] |= {
        "iterations": 2,
        "population": [30, 120],
        "threshold": 0,
        "smoothing": 0.3,
        "phases": [{"from": 1, "variations": 3, "keep_parents": True}, {"from": 2, "selection": "rank"}],
        "final": "selected",
    }
    assert both(recipe, tmp_path, secret_file, whole.beam_flags()) == 3


def test_a_text_run_gives_the_same_release_and_asks_for_nothing_twice(whole, tmp_path, secret_file):
    """Workers reach the service themselves; the cluster's have no key, so none is wanted here."""
    recipe = copy.deepcopy(TEXTS)
    recipe["data"]["path"] = str(write_texts(tmp_path / "texts.csv"))
    with Served(tmp_path / "log") as server:
        recipe["execution"]["llm"] |= {"endpoints": [{"base_url": server.url, "key_env": None}], "timeout": 10}
        assert both(recipe, tmp_path, secret_file, whole.beam_flags()) == 2
        asked = [entry["digest"] for entry in server.requests()]
    assert len(asked) == 2 * len(set(asked))  # once in process, once on the cluster
