"""What `evaluate` costs: samples against held-out and training records, images of 8 x 8, d = 64.

    python benchmarks/evaluation.py [--samples 50000] [--real 50000] [--repeats 3] [--dir DIR] [--toy]

Makes a run of random pictures in DIR (kept, and used again; its release is that of a real run), then evaluates it in a
process of its own and prints seconds and peak memory of each repeat, and the median. `--real` are held-out and
training records each: run it at 50,000 and 500,000 to see that memory stays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.modalities.image.codec import encode_png
from pe_beam.runs.driver import evolve
from pe_beam.runs.recipe import parse_recipe

LABELS = [str(x) for x in range(10)]
_CHILD = """
import json, resource, sys, time
from pe_beam.evaluation.driver import evaluate
began = time.perf_counter()
evaluate(sys.argv[1])
seconds = time.perf_counter() - began
print(json.dumps([seconds, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write_pictures(folder: Path, rows: int, seed: int) -> None:
    """Files of 50,000 pictures of ten labels: a bar of noise whose place is the label."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        rng = np.random.default_rng([seed, start])
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 120, (count, 8, 8))
        images[np.arange(count), labels % 8] += 60 + 8 * labels[:, None]
        encoded = [encode_png(image.astype(np.uint8)) for image in images]
        table = pa.table({"image": encoded, "label": [LABELS[x] for x in labels]})
        pq.write_table(table, folder / f"{start:09d}.parquet", row_group_size=8192)


def make_run(folder: Path, samples: int, real: int) -> Path:
    """A finished run of one iteration, of `samples` candidates and `real` training records."""
    run = folder / f"run-{samples}-{real}"
    if (run / "release/privacy.json").exists():
        return run
    for name, seed in (("training", 1), ("held-out", 2)):
        write_pictures(folder / f"{name}-{real}", real, seed)
    recipe = {
        "name": "benchmark",
        "modality": "image",
        "data": {
            "source": "parquet",
            "path": str(folder / f"training-{real}"),
            "holdout": str(folder / f"held-out-{real}"),
            "labels": LABELS,
        },
        "generator": {"name": "text-render", "side": 8},
        "embedder": {"name": "pixels", "size": 8},
        "evolution": {"iterations": 1, "samples": samples},
        "privacy": {"epsilon": 1, "delta": 1e-6},
    }
    evolve(parse_recipe(recipe), run)
    return run


def main() -> None:
    """Prints a line a repeat, and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--real", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir(), "pe_beam-evaluation"))
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.samples, options.real, options.repeats = 200, 300, 1
    began = time.perf_counter()
    run = make_run(options.dir, options.samples, options.real)
    print(f"run made in {time.perf_counter() - began:.0f} s")
    found = []
    for _ in range(options.repeats):
        child = subprocess.run([sys.executable, "-c", _CHILD, run], check=True, capture_output=True, text=True)
        found.append(json.loads(child.stdout))
        print("{:.1f} s, {:.1f} s of processor time, peak {:.0f} MB".format(*found[-1]), flush=True)
    seconds, processor, peak = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"median of {len(found)}: {seconds:.1f} s, {processor:.1f} s of processor time, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
