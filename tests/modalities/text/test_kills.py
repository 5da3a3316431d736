"""kill -9 at ten moments of generation: nothing that had arrived is asked for again, and the release is the same."""

from __future__ import annotations

import collections
import multiprocessing
import multiprocessing.process
import os
import random
import time
from pathlib import Path
from typing import Any

import yaml

from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import load_recipe
from tests.modalities.text.recipes import KEY, serve
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests

KILLS, CONCURRENCY = 10, 4
PRELOADED = [
    "pe_beam.runners.job",
    "pe_beam.engine.graphs.iteration",
    "pe_beam.modalities.text.llm",
    "pe_beam.modalities.text.openai_client",
    "sklearn.feature_extraction.text",
    "dp_accounting.pld.accountant",
    "openai.resources.chat.completions",
    __name__,
]


def test_a_killed_run_pays_for_nothing_twice(texts: dict[str, Any], tmp_path: Path, secret_file: Path) -> None:
    texts["evolution"] |= {"samples": 60, "lookahead": 1}
    texts["execution"]["llm"] |= {"concurrency": CONCURRENCY, "timeout": 30}
    recipe = tmp_path / "r.yaml"
    with Served(tmp_path / "undisturbed") as server:
        recipe.write_text(yaml.safe_dump(serve(texts, server)))
        assert _ended_well(_start(recipe, tmp_path / "whole", secret_file))
        asked = len(server.requests())
    moments = sorted(random.Random(5).sample(range(5, asked - 5), KILLS))
    repeated = 0
    with Served(tmp_path / "killed", latency=0.05) as server:
        recipe.write_text(yaml.safe_dump(serve(texts, server)))
        for moment in moments:
            process = _start(recipe, tmp_path / "run", secret_file)
            while len(server.requests()) - repeated < moment and process.is_alive():
                time.sleep(0.01)
            process.kill()
            process.join()
            time.sleep(0.1)  # the server still logs what was in flight
            counts = collections.Counter(entry["digest"] for entry in server.requests())
            repeated = sum(counts.values()) - len(counts)
        assert _ended_well(_start(recipe, tmp_path / "run", secret_file))
        counts = collections.Counter(entry["digest"] for entry in server.requests())
    assert len(counts) == asked
    assert sum(counts.values()) - asked <= KILLS * CONCURRENCY
    assert max(counts.values()) <= 1 + KILLS
    assert release_digests(tmp_path / "run") == release_digests(tmp_path / "whole")
    assert not list((tmp_path / "run/work").glob("*/journal/*")), "journals go with the commit of their chunk"


def _start(recipe: Path, run_dir: Path, secret: Path) -> multiprocessing.process.BaseProcess:
    """A process of its own, forked from one that has imported Beam already: that takes most of a start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(recipe, run_dir, secret))
    process.start()
    return process


def _run(recipe: Path, run_dir: Path, secret: Path) -> None:
    os.environ["PE_BEAM_TEST_KEY"] = KEY  # another test may have started the server of forks, without it
    evolve(load_recipe(recipe), run_dir, secret_file=secret)


def _ended_well(process: multiprocessing.process.BaseProcess) -> bool:
    process.join(120)
    return process.exitcode == 0
