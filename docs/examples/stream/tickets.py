"""Tickets of a help desk, made up, a file a day: their topics drift, and on the fourth day a failure takes over.

python docs/examples/stream/tickets.py write FOLDER [--days 6] [--first 2026-12-01] [--rows 2000] [--seed 0]
python docs/examples/stream/tickets.py show FOLDER STREAM_DIR

`write` makes FOLDER/YYYY-MM-DD.jsonl for days that end with yesterday, and prints the first of them. `show` prints the
shares of topics by day, of the tickets and of what was released. It can do so because these tickets are public: a
holder has no such look at private data.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

TOPICS = ["heating", "cooling", "billing", "password", "network"]
HOURS = {"heating": 7, "cooling": 15, "billing": 11, "password": 9, "network": 20}
MINUTES = {"heating": 25, "cooling": 20, "billing": 12, "password": 5, "network": 70}
JUMP = 3  # the day, from 0, from which the network fails


def shares(day: int) -> list[float]:
    """The shares of the topics: cold days get warmer by and by, and then the network fails."""
    warm = min(1.0, 0.15 + 0.12 * day)
    usual = np.array([0.6 * (1 - warm), 0.6 * warm, 0.2, 0.18, 0.02])
    failing = np.array([0.0, 0.0, 0.0, 0.0, 0.6])
    return (0.4 * usual + failing if day >= JUMP else usual).tolist()


def tickets(day: int, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """The tickets of a day: topic, hour of the call, minutes that it took."""
    rng = np.random.default_rng([seed, day])
    for topic in rng.choice(TOPICS, rows, p=shares(day)).tolist():
        hour, minutes = rng.normal(HOURS[topic], 2), rng.normal(MINUTES[topic], MINUTES[topic] / 4)
        yield {"topic": topic, "hour": int(np.clip(hour, 0, 23)), "minutes": int(np.clip(minutes, 1, 120))}


def write(folder: Path, *, first: date, days: int, rows: int, seed: int) -> None:
    """Writes a file a day. Each appears whole, under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(days):
        path = folder / f"{first + timedelta(days=day)}.jsonl"
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in tickets(day, rows, seed)))
        part.rename(path)


def show(folder: Path, stream_dir: Path) -> Iterator[str]:
    """Yields a line for each day and topic: its share of the tickets, and of the samples of that day's window."""
    yield f"{'day':12}{'topic':12}{'tickets':>8}{'samples':>9}"
    for path in sorted(folder.glob("*.jsonl")):
        release = next(stream_dir.glob(f"windows/{path.stem.replace('-', '')}T*/release*"), None)
        real = _shares(json.loads(line)["topic"] for line in path.read_text().splitlines())
        made = {} if release is None else _shares(pq.read_table(release / "samples.parquet")["topic"].to_pylist())
        for topic in TOPICS:
            said = f"{made.get(topic, 0):9.0%}" if made else f"{'-':>9}"
            yield f"{path.stem:12}{topic:12}{real.get(topic, 0):8.0%}{said}"


def _shares(topics: Iterable[str]) -> dict[str, float]:
    found = Counter(topics)
    return {topic: number / found.total() for topic, number in found.items()}


def main(argv: list[str] | None = None) -> None:
    """Writes tickets, or shows what was released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing, showing = commands.add_parser("write"), commands.add_parser("show")
    for command in (writing, showing):
        command.add_argument("folder", type=Path)
    writing.add_argument("--days", type=int, default=6)
    writing.add_argument("--first", type=date.fromisoformat, help="default: so that the last day is yesterday")
    writing.add_argument("--rows", type=int, default=2000, help="tickets a day")
    writing.add_argument("--seed", type=int, default=0)
    showing.add_argument("stream_dir", type=Path)
    options = parser.parse_args(argv)
    if options.command == "show":
        print(*show(options.folder, options.stream_dir), sep="\n")
        return
    first = options.first or datetime.now(UTC).date() - timedelta(days=options.days)
    write(options.folder, first=first, days=options.days, rows=options.rows, seed=options.seed)
    print(first)


if __name__ == "__main__":
    main()
