"""Memory of the ingest of many pictures: peak resident memory at a tenth of them and at all of them.

    python benchmarks/images_ingest.py [--pictures 100000] [--side 64] [--toy]

Makes gray PNGs, as class folders and as WebDataset tars, ingests them in a fresh process each time, and prints seconds
and peaks.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _place import RECIPES

from pe_beam.modalities.image.codec import encode_png

A_TAR = 10_000
KINDS = ("folder", "webdataset")


def main() -> None:
    """Prints one line a kind and a size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: both")
    parser.add_argument("--ingest", help=argparse.SUPPRESS)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    if options.ingest:
        _ingest(kinds[0], Path(options.ingest))
        return
    sizes = [50] if options.toy else [options.pictures // 10, options.pictures]
    for kind in kinds:
        for count in sizes:
            with tempfile.TemporaryDirectory() as folder:
                _write(kind, Path(folder), count, options.side)
                print(f"{kind:>10} {count:>9,} of {options.side} x {options.side}: ", end="", flush=True)
                subprocess.run([sys.executable, __file__, "--kind", kind, "--ingest", folder], check=True)


def _pictures(count: int, side: int) -> Iterator[tuple[int, bytes]]:
    rng = np.random.default_rng(0)
    for index in range(count):
        yield index, encode_png(rng.integers(0, 256, (side, side), dtype=np.uint8))


def _write(kind: str, folder: Path, count: int, side: int) -> None:
    if kind == "folder":
        for index, picture in _pictures(count, side):
            target = folder / str(index % 10) / f"{index:07d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture)
        return
    archive: tarfile.TarFile | None = None
    for index, picture in _pictures(count, side):
        if index % A_TAR == 0:
            if archive is not None:
                archive.close()
            archive = tarfile.open(folder / f"{index // A_TAR:05d}.tar", "w")  # noqa: SIM115 - one after the other
        for ending, data in (("png", picture), ("cls", b"%d" % (index % 10))):
            info = tarfile.TarInfo(f"{index:07d}.{ending}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        archive.members = []
    archive.close()


def _ingest(kind: str, folder: Path) -> None:
    from pe_beam import load_recipe
    from pe_beam.driver.loop import embed_only

    changed = {"data.source": kind, "data.path": str(folder), "data.holdout": None}
    recipe = load_recipe(RECIPES / "digits.yaml", changed)
    with tempfile.TemporaryDirectory() as run_dir:
        began = time.perf_counter()
        embed_only(recipe, run_dir)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:6.1f} s, peak {peak:,.0f} MB")


if __name__ == "__main__":
    main()
