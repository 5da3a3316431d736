"""kill -9 at ten moments of generation: nothing that had arrived is asked for again, and the release is the same."""

from __future__ import annotations

import collections
import random
import time
from pathlib import Path
from typing import Any

import yaml

from tests.commands import Command
from tests.modalities.text.recipes import KEY, serve
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests

KILLS, CONCURRENCY = 10, 4


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
            with _start(recipe, tmp_path / "run", secret_file) as process:
                while len(server.requests()) - repeated < moment and process.poll() is None:
                    time.sleep(0.01)
                process.kill()
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


def _start(recipe: Path, run_dir: Path, secret: Path) -> Command:
    """`pe-beam run` in a fork; another test may have started the server of forks, without the key."""
    key = f"import os; os.environ['PE_BEAM_TEST_KEY'] = {KEY!r}"
    return Command("run", str(recipe), "--run-dir", str(run_dir), "--secret-file", str(secret), before=key)


def _ended_well(process: Command) -> bool:
    with process:
        return process.communicate(300).returncode == 0
