"""The stream of docs/examples/stream, run as its README says."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq

from pe_beam.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "docs/examples/stream"
DAYS = 4


def test_the_example_follows_what_drifts_and_jumps(tmp_path, capsys):
    """The calls of the fourth day are of another kind. Its own window says so, at the cost of one window."""
    script = runpy.run_path(str(EXAMPLE / "tickets.py"))
    tickets, out = tmp_path / "tickets", tmp_path / "out"
    script["main"](["write", str(tickets), "--days", f"{DAYS}"])
    first = capsys.readouterr().out.strip()
    settings = [f"data.path={tickets}/*.jsonl", f"stream.window.anchor={first}T00:00Z"]
    asked = [part for setting in settings for part in ("--set", setting)]
    command = ["stream", str(EXAMPLE / "tickets.yaml"), "--stream-dir", str(out), "--once", *asked]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    today = datetime.now(UTC).date()
    due = (today - datetime.fromisoformat(first).date()) // timedelta(days=1)  # midnight may have passed
    assert json.loads(capsys.readouterr().out)["windows_published"] in (due, due - 1)
    assert main(["privacy", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0.99 < said["epsilon"] <= 1
    assert len(said["ledger"]) >= DAYS
    assert main(["report", str(out)]) == 0
    assert main(["export", str(out), "--to", str(tmp_path / "newest.csv")]) == 0
    assert pyarrow.csv.read_csv(tmp_path / "newest.csv").num_rows == 500
    script["main"](["show", str(tickets), str(out)])
    assert f"{first}  heating" in capsys.readouterr().out
    calls = [_topics(path) for path in sorted(out.glob("windows/*/release/samples.parquet"))]
    assert calls[2]["network"] < 0.15  # of the tickets: 0.02
    assert calls[3]["network"] > 0.4  # 0.61
    assert calls[0]["heating"] > 0.35  # 0.51
    assert calls[3]["heating"] < 0.25  # 0.12


def _topics(path: Path) -> dict[str, float]:
    found = Counter(pq.read_table(path)["topic"].to_pylist())
    return Counter({topic: number / found.total() for topic, number in found.items()})
