"""`stream.memory`: windows of few records with and without the noisy votes of earlier windows, through the engine.

    python benchmarks/stream_memory.py [--records 200] [--seeds 5]
    python benchmarks/stream_memory.py --toy        next to nothing, in seconds: is the script whole?

Made-up clusters of three columns that drift, or that drift and jump in the ninth window of twelve. Each window has
epsilon 1 to itself, one iteration and 200 samples, of which a tenth is new; told is their Wasserstein distance to rows
of the same window that did not vote, as many as voted: medians over seeds. Smooth: windows 7 to 12.

--json FILE keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import _place  # noqa: F401 - first: it makes the other scripts' modules and tests importable
import numpy as np
from _drift import JUMP, Days, clusters, distance
from _machine import Row, show

from pe_beam.releases.reading import open_release
from tests.streams.drifting import DAY, FIRST, Life, stream_recipe, window

WINDOWS = 12
_POOLED = {"evolution__smoothing": 0.05}
WAYS: dict[str, dict[str, Any]] = {
    "own votes": {},
    "own votes, pooled over 0.05": _POOLED,
    "and those of 7 windows, half-life 2": {**_POOLED, "stream__memory": {"windows": 7, "half_life": 2}},
}


def main() -> None:
    """Prints a table, one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200, help="of a window")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    records, seeds, windows = (20, 1, 2) if options.toy else (options.records, options.seeds, WINDOWS)
    rows = [_row(name, changes, records, seeds, windows) for name, changes in WAYS.items()]
    show(f"windows of {records} records", rows, options.json)


def _row(name: str, changes: dict[str, Any], records: int, seeds: int, windows: int) -> Row:
    def medians(*, jumps: bool) -> list[float]:
        found = [_distances(clusters(records, seed=s, jumps=jumps), changes, s, windows) for s in range(seeds)]
        return list(map(float, np.median(found, axis=0)))

    after = medians(jumps=True)[JUMP:] if windows > JUMP else []
    jumped = {f"jump+{i}": value for i, value in enumerate(after)}
    return {"selected by": name, "smooth": float(np.median(medians(jumps=False)[windows // 2 :])), **jumped}


def _distances(days: Days, changes: dict[str, Any], seed: int, windows: int) -> list[float]:
    """Distance of each window's samples to the held-out rows of that window."""
    rng = np.random.default_rng([seed, 2])
    with tempfile.TemporaryDirectory() as name:
        folder, held_out = Path(name), []
        evolution = {"iterations": 1, "samples": 200, "degree": 0.05, "keep_parents": True}
        given = {f"evolution__{key}": value for key, value in evolution.items()} | {"stream__fresh": 0.1, **changes}
        steps = days.settings["generator.steps"]
        given |= {"data__schema": days.schema, "generator__steps": steps, "privacy__epsilon": 1, "seed": seed}
        recipe = stream_recipe(folder, **given)
        for day in range(windows):
            private, apart = days.rows(day, rng)
            held_out.append(apart)
            lines = "".join(json.dumps(row) + "\n" for row in private.to_pylist())
            (folder / f"in/{FIRST + day * DAY:%Y-%m-%d}-a.jsonl").write_text(lines)
        store = Life(folder, given).until(windows + 0.5)
        released = [open_release(store.at(f"windows/{window(day)}")).samples() for day in range(windows)]
        return [distance(days, recipe, own, apart) for own, apart in zip(released, held_out, strict=True)]


if __name__ == "__main__":
    main()
