"""What initial measurements cost on many rows, in processor time and memory, beside the same run without them.

    python benchmarks/many_rows.py                          1,000,000 and 10,000,000 rows
    python benchmarks/many_rows.py --rows 100000 --rows 1000000 --json many.json
    python benchmarks/many_rows.py --toy                    on next to nothing, and `measure` alone

The table is made up: 14 columns (numbers, whole numbers, categories, two with missing values) and two labels. Three
runs of the same recipe at each size, each in a process of its own with one worker and one thread: nothing measured,
`privacy.marginals`, and `privacy.measure` with all its steps. Parts are told in processor seconds, so that other work
on the machine changes little: the ingest, measurements with the first population, and the votes. Memory is the peak of
the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import _place  # noqa: F401
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _machine import show

from pe_beam.driver import loop
from pe_beam.recipe.loading import load_recipe

MEASURED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "marginals": {"marginals": {"budget": 0.5}},
    "measure": {
        "measure": {
            "one_way": {"budget": 0.3},
            "cliques": {"budget": 0.05, "columns": [["age", "work", "hours"]]},
            "coarse": {"budget": 0.025},
            "tree": {"budget": 0.175},
        }
    },
}
_NUMBERS = {"income": 0.4, "spent": 0.7, "score": 1.0}
_WHOLE = {"age": 90, "hours": 99, "visits": 12, "year": 40}
_CATEGORIES = {"work": 8, "school": 16, "city": 40, "size": 3, "trade": 5}


def main() -> None:
    """Prints a line for each run, and what measurements add."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="may be said several times")
    parser.add_argument("--only", choices=MEASURED, action="append", help="one of the three; may be said twice")
    parser.add_argument("--set", action="append", default=[], help="a.b=c of the recipe")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    parser.add_argument("--inner", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        one_process(*options.inner, options.set)
        return
    sizes, found = options.rows or [1_000_000, 10_000_000], []
    if options.toy:
        sizes, options.only = [2000], ["measure"]
        options.set = ["evolution.samples=40", "evolution.population=40", "evolution.iterations=1"]
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            path = Path(name) / f"{size}.parquet"
            write_rows(path, size)
            found += [_run(what, path, size, options.set) for what in options.only or MEASURED]
            path.unlink()
    show("initial measurements on many rows", found, options.json)


def write_rows(path: Path, count: int) -> None:
    """Writes rows whose columns hang together through one hidden number, in row groups of 65,536."""
    rng, writer = np.random.default_rng(0), None
    for start in range(0, count, 65_536):
        size = min(65_536, count - start)
        hidden = rng.random(size)

        def near(size: int = size, hidden: np.ndarray = hidden) -> np.ndarray:
            return np.clip(hidden + rng.normal(0, 0.3, size), 0, 0.999)

        columns: dict[str, Any] = {"label": np.where(near() < 0.6, "no", "yes")}
        for name, missing in (("income", 0.0), ("spent", 0.1), ("score", 0.0)):
            columns[name] = pa.array(near() ** 2 * 1000, mask=rng.random(size) < missing)
        for name, most in _WHOLE.items():
            columns[name] = (near() * (most + 1)).astype(np.int64)
        for name, kinds in _CATEGORIES.items():
            columns[name] = np.char.add(name[0], (near() ** 3 * kinds).astype(int).astype(str))
        columns["member"] = near() < 0.5
        columns["told"] = pa.array(near() < 0.3, mask=rng.random(size) < 0.2)
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer:
        writer.close()


def _recipe(path: Path, what: str) -> dict[str, Any]:
    columns: dict[str, Any] = {name: {"type": "float", "min": 0, "max": 1000} for name in _NUMBERS}
    columns |= {name: {"type": "integer", "min": 0, "max": most} for name, most in _WHOLE.items()}
    columns |= {
        name: {"type": "categorical", "values": [f"{name[0]}{i}" for i in range(kinds)]}
        for name, kinds in _CATEGORIES.items()
    }
    columns |= {name: {"type": "boolean"} for name in ("member", "told")}
    for name in ("spent", "told"):
        columns[name]["missing"] = True
    return {
        "name": "many-rows",
        "data": {
            "source": "parquet",
            "path": str(path),
            "columns": {"label": "label"},
            "labels": ["no", "yes"],
            "schema": {"columns": columns},
        },
        "modality": "tabular",
        "generator": {"name": "tabular", "steps": "redraw"},
        "embedder": {"name": "tabular"},
        "evolution": {"samples": 1000, "population": 3000, "iterations": 4},
        "privacy": {"epsilon": 1, "delta": 1e-9, **MEASURED[what]},
        "execution": {"parallelism": 1, "blas_threads": 1},
    }


def _run(what: str, path: Path, size: int, changes: Sequence[str]) -> dict[str, Any]:
    """Runs one recipe in a process of its own, and returns its figures."""
    with tempfile.TemporaryDirectory() as place:
        recipe = Path(place) / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(path, what)))
        command = [sys.executable, __file__, "--inner", str(recipe), f"{place}/run"]
        command += [argument for change in changes for argument in ("--set", change)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=_one_thread())
        return {"rows": size, "measured": what, **json.loads(done.stdout.splitlines()[-1])}


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def one_process(recipe: Path, run_dir: Path, changes: Sequence[str]) -> None:
    """Runs a recipe, and prints seconds of its parts: of processors, all threads and children."""
    spent: dict[str, float] = {"ingest": 0.0, "start": 0.0, "votes": 0.0}
    began, plain = time.monotonic(), loop._timed

    @contextmanager
    def timed(run: Any, what: str) -> Iterator[None]:
        before = _processor()
        with plain(run, what):
            yield
        start = what.startswith("measurement") or what == "iteration 0"
        spent["ingest" if what == "ingest" else "start" if start else "votes"] += _processor() - before

    loop._timed = timed
    loop.evolve(load_recipe(recipe, changes), run_dir)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {**spent, "all": _processor(), "clock": time.monotonic() - began, "peak_mb": peak}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


def _processor() -> float:
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in own)


if __name__ == "__main__":
    main()
