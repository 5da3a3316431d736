"""One iteration over very many small candidates: seconds of its steps, bytes, and the memory of the one worker.

    python benchmarks/many_candidates.py [--candidates 200000] [--records 20000] [--toy]

A table of four columns; all of it in this process, in which driver and worker are one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import _place  # noqa: F401
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS: dict[str, Any] = {
    "age": {"type": "integer", "min": 0, "max": 100},
    "income": {"type": "float", "min": 0, "max": 200_000},
    "city": {"type": "categorical", "values": [f"city {i}" for i in range(20)]},
    "member": {"type": "boolean"},
}


def write_records(path: Path, count: int) -> None:
    """A Parquet file of private records."""
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(18, 90, count),
        "income": rng.gamma(2, 20_000, count).clip(0, 200_000),
        "city": np.array(COLUMNS["city"]["values"])[rng.integers(0, 20, count)],
        "member": rng.random(count) < 0.4,
    }
    pq.write_table(pa.table(columns), path)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.candidates, options.records = 2_000, 500
    from pe_beam.driver.loop import evolve
    from pe_beam.recipe.loading import parse_recipe

    with tempfile.TemporaryDirectory(prefix="many-candidates-") as name:
        folder = Path(name)
        write_records(folder / "records.parquet", options.records)
        recipe = parse_recipe(
            {
                "name": "many",
                "data": {"source": "parquet", "path": str(folder / "records.parquet"), "schema": {"columns": COLUMNS}},
                "modality": "tabular",
                "generator": {"name": "tabular"},
                "embedder": {"name": "tabular"},
                "evolution": {"iterations": 1, "samples": options.candidates},
                "privacy": {"epsilon": 1, "delta": 1e-6},
            }
        )
        began = time.perf_counter()
        evolve(recipe, folder / "run")
        seconds = time.perf_counter() - began
        times = {
            line["what"]: line["seconds"]
            for line in map(json.loads, (folder / "run/private/times.jsonl").read_text().splitlines())
        }
        parts = sorted((folder / "run/release/iteration=0001/population").iterdir())
        size = sum(part.stat().st_size for part in parts) / 1e6
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    one = times["iteration 1"]
    print(f"{options.candidates:,} candidates, {options.records:,} records: {seconds:.1f} s in all; {times}")
    pace = f"{options.candidates / one:,.0f} candidates/s"
    print(f"iteration 1: {pace}; {len(parts)} parts, {size:.1f} MB; peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
