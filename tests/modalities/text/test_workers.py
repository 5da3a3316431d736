"""Two worker processes: one account, one release."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import pytest

from pe_beam.driver.loop import evolve
from pe_beam.recipe.loading import parse_recipe
from tests.modalities.text.recipes import serve
from tests.modalities.text.server import Served
from tests.whole_runs import release_digests


@pytest.mark.usefixtures("forked")
def test_two_processes_share_the_account_and_give_the_same_release(
    texts: dict[str, Any], tmp_path: Path, secret_file: Path
) -> None:
    texts["evolution"] |= {"samples": 1100, "iterations": 1}  # three chunks
    texts["execution"]["llm"] |= {"requests_per_minute": 30000, "concurrency": 16, "timeout": 30}
    with Served(tmp_path / "log") as server:
        recipe = parse_recipe(serve(texts, server))
        evolve(recipe, tmp_path / "one", secret_file=secret_file)
        flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
        evolve(recipe, tmp_path / "two", flags, secret_file=secret_file, unroll=True)
        counts = collections.Counter(entry["digest"] for entry in server.requests())
    assert release_digests(tmp_path / "one") == release_digests(tmp_path / "two")
    assert set(counts.values()) == {2}, "each run asked for each thing once"
    for run in ("one", "two"):
        account = json.loads((tmp_path / run / "work/services/llm/account.json").read_text())
        assert account["spent"]["calls"] == len(counts)
        assert account["held"] == {}
    holders = list((tmp_path / "two/work/services/llm/holders").iterdir())
    assert len({path.name.split("-")[0] for path in holders}) >= 2, "both processes made calls"
