"""nearest-image over a large public set: seconds of the index, seconds and memory of `vary`.

    python benchmarks/nearest_image.py [--pictures 1000000] [--dimension 512] [--candidates 10000] [--neighbours 50]
                                       [--spectrum 1.0] [--folder DIR] [--toy]

Vectors are made up: 2,000 clusters, half of the variance within them, variances of the principal axes falling as
i^-spectrum (0: none of them matters more than another, which is the worst case for the search), axes turned at random.
Every candidate has another parent. Pictures are one and the same small PNG: what counts here is the search. With
--folder the index stays there and is used again.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import threading
import time
from pathlib import Path

import _place  # noqa: F401
import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Step
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.simulators.nearest import NearestImage, NearestImageOptions
from pe_beam.modalities.image.simulators.picture_set import PictureSet, Writer, open_set


class MadeUp(NearestImage):
    """The generator over made-up vectors."""

    root: Path
    shape: tuple[int, int]
    spectrum: float

    @functools.cached_property
    def pictures(self) -> PictureSet:
        """Made-up vectors, written as those of pictures are."""
        key = f"made-up-{self.shape[0]}-{self.shape[1]}-{self.spectrum}"
        return open_set(self.root, key, self.build)

    def build(self, folder: Path) -> None:
        """Writes them batch by batch."""
        count, dimension = self.shape
        rng = np.random.default_rng(0)
        scale = np.arange(1, dimension + 1) ** (-self.spectrum / 2)
        turn, _ = np.linalg.qr(rng.standard_normal((dimension, dimension)))
        axes = (scale[:, None] * turn).astype(np.float32)
        centres = rng.standard_normal((2000, dimension), dtype=np.float32)
        picture, writer = encode_png(np.zeros((8, 8), np.uint8)), Writer(folder, dimension)
        for start in range(0, count, 8192):
            size = min(8192, count - start)
            own = centres[rng.integers(len(centres), size=size)] + rng.standard_normal(
                (size, dimension), dtype=np.float32
            )
            writer.add([picture] * size, own @ axes, [-1] * size)
        writer.finish({})


class Memory(threading.Thread):
    """Looks ten times a second how much memory this process holds of its own, mapped files left out."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0

    def run(self) -> None:
        """Until the process ends."""
        while True:
            own = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
            self.peak = max(self.peak, int(own) * 1024 / 1e6)
            time.sleep(0.1)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--neighbours", type=int, default=50)
    parser.add_argument("--spectrum", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    options = parser.parse_args()
    if options.toy:
        options.pictures, options.dimension, options.candidates = 17_000, 128, 50
    with tempfile.TemporaryDirectory(prefix="nearest-image-") as name:
        own = {"path": "made-up", "neighbours": options.neighbours, "embedder": {"name": "pixels"}}
        generator = MadeUp(NearestImageOptions.model_validate(own), labels=[None])
        generator.root = options.folder or Path(name)
        generator.shape, generator.spectrum = (options.pictures, options.dimension), options.spectrum
        memory = Memory()
        memory.start()
        began = time.perf_counter()
        key = generator.pictures.key
        print(f"index of {options.pictures:,} x {options.dimension}: {time.perf_counter() - began:.1f} s")
        places = np.random.default_rng(1).permutation(options.pictures)[: options.candidates].tolist()
        states = [json.dumps({"picture": place, "set": key}) for place in places]
        parents = pa.table({"state": states, "label": pa.nulls(len(states), pa.string())})
        memory.peak, began, used = 0.0, time.perf_counter(), time.process_time()
        for start in range(0, len(states), generator.chunk_size):
            chunk = parents.slice(start, generator.chunk_size)
            rngs = [keyed_rng(0, 1, start + row, "vary") for row in range(chunk.num_rows)]
            generator.vary(chunk, Step(iteration=1, iterations=1, degree=0.5), rngs)
        seconds, used = time.perf_counter() - began, time.process_time() - used
    print(
        f"vary of {options.candidates:,} candidates among {options.neighbours} neighbours: {seconds:.1f} s, CPU "
        f"{used:.1f} s, memory of its own {memory.peak:.0f} MB"
    )


if __name__ == "__main__":
    main()
