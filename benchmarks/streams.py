"""Streams: quality under drift and jumps at equal epsilon, 200 windows in one process, a window of a million records.

    python benchmarks/streams.py quality [--seeds 5] [--data ../shared/data/adult.csv]
    python benchmarks/streams.py windows [--windows 200] [--rows 1000]
    python benchmarks/streams.py large [--rows 1000000] [--repeats 3]
    python benchmarks/streams.py --toy              all of it on next to nothing

quality: each window has 1,000 private rows, epsilon 1 to itself, and 500 samples; told is their distance to 1,000 rows
of the same window that did not vote, by the metrics of tables. Warm streams start from the samples before and a tenth
of new candidates, cold ones anew. It is a loop in NumPy with the parts of the engine. Made-up clusters: Wasserstein
distance of their three columns (300 rows of each side). Adult (with --data) in the order of age, which is left out:
total variation of pairs of columns.

windows: a fake clock, one iteration of 200 candidates a window, all reports drawn; the memory is that of this process.

large: one Parquet file of two columns; a window of a stream, beside an ordinary run of the same recipe, in turn.

--json FILE keeps the figures.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import _place  # noqa: F401 - first: it makes the other scripts' modules and tests importable
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _drift import JUMP, Days, Way, adult, clusters, distances, floor
from _machine import Row, show

from pe_beam.driver.loop import evolve
from pe_beam.streams.loop import Surroundings, stream
from tests.streams.drifting import DAY, FIRST, Clock, put, stream_recipe

KEEP = {"evolution.keep_parents": True}
SMOOTH = 22  # windows of a smooth stream, of which the second half is judged


def main() -> None:
    """Runs one of the three, or all of them at toy size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["quality", "windows", "large"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="adult.csv, integer-coded")
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--rows", type=int, help="of a window")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.what is None and not options.toy:
        parser.error("quality, windows, large or --toy is wanted")
    if options.toy:
        show("quality", quality("clusters", 1, None, smooth=2, after=1, size=40), options.json)
        many(2, 20, options.json)
        show("a large window", large(500, 1, by_client=True), options.json)
    elif options.what == "quality":
        for data in ("clusters", "adult") if options.data else ("clusters",):
            rows = quality(data, options.seeds, options.data)
            show(f"quality of {data}", rows, options.json and options.json.with_stem(f"{options.json.stem}-{data}"))
    elif options.what == "windows":
        many(options.windows, options.rows or 1000, options.json)
    else:
        rows = [row for client in (False, True) for row in large(options.rows or 1_000_000, options.repeats, client)]
        show("a large window", rows, options.json)


def _ways(data: str) -> list[Way]:
    """The best that was found of each: degree, threshold, smoothing, memory, share of new ones, parents kept or not."""
    far, falling = "evolution.degree", {"from": 0.3, "to": 0.03, "decay": "linear"}
    cold = {"evolution.iterations": 5, far: falling}
    one, two = (0.03, [0.1, 0.05]) if data == "clusters" else (0.1, [0.2, 0.1])
    return [
        Way("cold, 5 iterations", 1, {**cold, **(KEEP if data == "clusters" else {})}),
        Way("warm, 1 iteration", 0.1, {"evolution.iterations": 1, far: one, **KEEP}),
        Way("warm, 2 iterations", 0.1, {"evolution.iterations": 2, far: two, **KEEP}),
    ]


def quality(
    data: str, seeds: int, path: Path | None, *, smooth: int = SMOOTH, after: int = 4, size: int = 1000
) -> list[Row]:
    """Medians over seeds: of the second half of a smooth stream, and of each window from a jump on."""

    def days(seed: int, *, jumps: bool) -> Days:
        return (
            clusters(size, seed=seed, jumps=jumps)
            if path is None or data == "clusters"
            else adult(size, path=path, jumps=jumps)
        )

    rows, cold = [], {}
    for way in [None, *_ways(data)]:
        found = {
            jumps: np.array(
                [
                    distances(days(seed, jumps=jumps), way, windows=count, seed=seed)
                    if way is not None
                    else floor(days(seed, jumps=jumps), windows=count, seed=seed)
                    for seed in range(seeds)
                ]
            )
            for jumps, count in ((False, smooth), (True, JUMP + after))
        }
        figures = {"smooth": float(np.median(found[False][:, smooth // 2 :]))}
        figures |= {f"jump+{i}": float(x) for i, x in enumerate(np.median(found[True][:, JUMP:], axis=0))}
        cold = cold or (figures if way is not None else {})
        shares = {f"{name} / cold": figures[name] / cold[name] if cold else float("nan") for name in figures}
        rows.append({"stream": "real rows" if way is None else way.name, **figures, **shares})
    return rows


class _Told(io.StringIO):
    """Takes down time, memory and the registry's size whenever a window is published."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.rows = folder, [_now(folder)]

    def write(self, text: str) -> int:
        if text.endswith(": published"):
            self.rows.append(_now(self.folder))
        return len(text)


def _now(folder: Path) -> tuple[float, float, float, float]:
    """Seconds of the clock and of processors (own, and of children that ended), MB of memory, KB of the registry."""
    spent = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    registry = sum(p.stat().st_size for p in (folder / "stream/private/registry").rglob("*") if p.is_file())
    return time.perf_counter(), spent, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, registry / 1e3


def many(windows: int, rows: int, path: Path | None) -> None:
    """Windows one after the other in this process, each as large as the other."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for day in range(windows):
            put(folder, day, "a", rng.integers(0, 20, rows).tolist())
        clock, told = Clock(FIRST, stop=FIRST + (windows + 0.5) * DAY), _Told(folder)
        recipe = stream_recipe(folder, evolution__samples=200, stream__fresh=0.1)
        with suppress(KeyboardInterrupt):
            stream(recipe, folder / "stream", around=Surroundings(now=clock.now, sleep=clock.sleep, progress=told))
        show(f"{windows} windows of {rows:,} records", list(_stretches(told.rows)), path)


def _stretches(rows: list[tuple[float, float, float, float]], most: int = 20) -> Iterator[Row]:
    """Medians of 20 windows each: seconds of the clock and of processors; memory and registry at their end."""
    took = np.diff(np.array(rows), axis=0)
    for start in range(0, len(took), most):
        own = took[start : start + most]
        seconds, spent = np.median(own[:, :2], axis=0)
        _, _, memory, registry = rows[start + len(own)]
        last = start + len(own)
        yield {
            "windows": f"{start + 1} to {last}",
            "seconds": float(seconds),
            "of processors": float(spent),
            "MB": round(memory),
            "registry KB": round(registry),
        }


def large(size: int, repeats: int, by_client: bool) -> list[Row]:
    """A window of a stream beside an ordinary run on the same file: median seconds, wall and of processors."""
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        changes: dict[str, Any] = {"data__source": "parquet", "data__path": str(folder / "in/*.parquet")}
        changes |= {"stream__stamp": "%Y-%m-%d*.parquet", "evolution__samples": 200}
        changes |= {"privacy__unit": "client", "privacy__delta": 1e-7} if by_client else {"privacy__delta": 1e-7}
        recipe = stream_recipe(folder, **changes)
        columns = {"x": rng.integers(0, 20, size), "who": rng.permutation(size).astype(str)}
        pq.write_table(pa.table(columns), folder / f"in/{FIRST:%Y-%m-%d}.parquet")
        alone = recipe.model_copy(update={"stream": None})
        clock = Clock(FIRST + 1.5 * DAY)
        times: dict[str, list[tuple[float, float]]] = {"run": [], "window": []}
        for turn in range(repeats):
            began = _now(folder)
            evolve(alone, folder / f"run-{turn}")
            times["run"].append(_since(began, folder))
            began = _now(folder)
            around = Surroundings(now=clock.now, sleep=clock.sleep)
            stream(recipe, folder / f"stream-{turn}", once=True, around=around)
            times["window"].append(_since(began, folder))
            gc.collect()
        medians = {what: np.median(found, axis=0) for what, found in times.items()}
        more = np.median(np.array(times["window"]) - np.array(times["run"]), axis=0)
        return [
            {"records": size, "unit": recipe.privacy.unit, "what": what, "seconds": float(a), "of processors": float(b)}
            for what, (a, b) in {**medians, "window - run": more}.items()
        ]


def _since(began: tuple[float, ...], folder: Path) -> tuple[float, float]:
    now = _now(folder)
    return now[0] - began[0], now[1] - began[1]


if __name__ == "__main__":
    main()
