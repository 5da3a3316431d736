"""What a run asks of a service, iteration by iteration, as the service sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.engine import populations
from pe_beam.engine.run import Run, open_run
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served

HEAT = [1.2, 0.9, 0.6]


def _asked(texts: dict[str, Any], folder: Path, secret: Path) -> tuple[Run, list[dict[str, Any]]]:
    record = folder / "bodies.jsonl"
    folder.mkdir()
    with Served(folder / "log", command=("tests.modalities.text.recording_server", str(record)), words=30) as server:
        evolve(parse_recipe(serve(texts, server)), folder / "run", secret_file=secret)
    return open_run(folder / "run"), [json.loads(line) for line in record.read_text().splitlines()]


def test_dials_follow_their_schedules(texts: dict[str, Any], tmp_path: Path, secret_file: Path) -> None:
    """Lists and decays of temperature, top_p, most tokens and mask share reach the service, each in its iteration."""
    texts["evolution"] |= {"iterations": 3, "samples": 40}
    texts["generator"]["vary"] |= {
        "mask_share": {"from": 0.8, "to": 0.2, "decay": "linear"},
        "sampling": {
            "temperature": HEAT,
            "top_p": {"from": 1.0, "to": 0.5, "decay": "linear"},
            "max_tokens": [100, 80, 60],
        },
    }
    _, bodies = _asked(texts, tmp_path / "whole", secret_file)
    vary = [body for body in bodies if "Fill in" in body["messages"][-1]["content"]]
    assert {body["temperature"] for body in vary} == set(HEAT)
    shares = []
    for place, heat in enumerate(HEAT):
        own = [body for body in vary if body["temperature"] == heat]
        assert {body["top_p"] for body in own} == {[1.0, 0.75, 0.5][place]}
        assert {body["max_tokens"] for body in own} == {[100, 80, 60][place]}
        shares.append(np.mean([body["messages"][-1]["content"].split().count("_") / 30 for body in own]))
    assert shares == pytest.approx([0.8, 0.5, 0.2], abs=0.06)  # 1,200 words: over 4 standard deviations


def test_the_same_seed_and_secret_ask_for_exactly_the_same(
    texts: dict[str, Any], tmp_path: Path, secret_file: Path
) -> None:
    _, first = _asked(texts, tmp_path / "a", secret_file)
    _, second = _asked(texts, tmp_path / "b", secret_file)
    texts["seed"] = 1
    _, other = _asked(texts, tmp_path / "c", secret_file)
    one, two, three = ({json.dumps(body, sort_keys=True) for body in own} for own in (first, second, other))
    assert one == two
    assert not one & three
    assert len(one) == len(first), "no question comes twice"


@pytest.mark.parametrize("keep", [True, False])
def test_parents_are_kept_or_not(texts: dict[str, Any], tmp_path: Path, secret_file: Path, keep: bool) -> None:
    """L variations of each selected row, with the row itself or without it."""
    texts["evolution"] |= {"selection": "rank", "keep_parents": keep, "variations": 3, "samples": 24}
    run, _ = _asked(texts, tmp_path / "run", secret_file)
    rows = populations.read_population(run, 1).to_pylist()
    kept = {row["candidate_id"] for row in rows if row["origin"] == "kept"}
    parents, children = np.unique([row["parent_id"] for row in rows if row["origin"] != "kept"], return_counts=True)
    assert (children == 3).all()
    assert kept == (set(parents) if keep else set())
