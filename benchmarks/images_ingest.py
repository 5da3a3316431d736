"""Memory of the ingest of many PNG files: peak resident memory at a tenth of the files and at all of them.

    python benchmarks/images_ingest.py [--files 100000] [--toy]

Makes class folders of gray 8x8 pictures, ingests them in a fresh process each time, and prints seconds and peaks.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _place import RECIPES

from pe_beam.modalities.image.codec import encode_png


def main() -> None:
    """Prints one line a size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--ingest", help=argparse.SUPPRESS)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    sizes = [50] if options.toy else [options.files // 10, options.files]
    if options.ingest:
        _ingest(Path(options.ingest))
        return
    with tempfile.TemporaryDirectory() as folder:
        for count in sizes:
            _write(Path(folder, "data"), count)
            print(f"{count:>9,} files: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--ingest", folder], check=True)


def _write(folder: Path, count: int) -> None:
    """Files up to `count`; those of an earlier call stay."""
    rng = np.random.default_rng(0)
    for index in range(count):
        target = folder / str(index % 10) / f"{index:07d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_png(rng.integers(0, 256, (8, 8), dtype=np.uint8)))


def _ingest(folder: Path) -> None:
    from pe_beam import load_recipe
    from pe_beam.driver.loop import embed_only

    changed = {"data.source": "folder", "data.path": str(folder / "data"), "data.holdout": None}
    recipe = load_recipe(RECIPES / "digits.yaml", changed)
    with tempfile.TemporaryDirectory() as run_dir:
        began = time.perf_counter()
        embed_only(recipe, run_dir)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:6.1f} s, peak {peak:,.0f} MB")


if __name__ == "__main__":
    main()
