"""Generator `diffusers` through Beam beside the bare model at the same batch: pictures a second, paired.

python benchmarks/image_generation.py [--pictures 64] [--pairs 5] [--toy]

Each pair draws as many pictures with a small UNet (32 x 32 pixels; on a GPU 64 x 64 and more channels): once
by the pipeline of diffusers in a loop, once as the step Generate of a pipeline on FnApiRunner, PNG files included.
Loading is in neither. What is said is bare time / Beam time of each pair, and their median.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import _place  # noqa: F401
import apache_beam as beam
import pyarrow as pa
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from pe_beam.contracts.steps import GenerateHandle
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image.diffusion.generator import Diffusers
from pe_beam.modalities.image.diffusion.options import DiffusersOptions
from pe_beam.transforms.generate import Generate


class Draws(GenerateHandle):
    """Random pictures for a batch of rows."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Takes the generator's options."""
        self._options = options

    def generate(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See `GenerateHandle`."""
        own = Diffusers(DiffusersOptions.model_validate(self._options), labels=[None])
        ids = rows["candidate_id"].to_pylist()
        made = own.random([None] * len(ids), [keyed_rng(0, 0, i, "random") for i in ids])
        return rows.append_column("image", made["image"].combine_chunks())


def main() -> None:
    """Prints a line a pair, then the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    told = parser.parse_args()
    pictures, pairs, steps = (8, 1, 2) if told.toy else (told.pictures, told.pairs, 20)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as name:
        size = 4 if told.toy else 16
        _save(Path(name), large=device == "cuda")
        options = {"model": name, "random": {"steps": steps}, "local": {"batch_size": size, "device": device}}
        pipe: Any = DDIMPipeline.from_pretrained(name).to(device)
        pipe.set_progress_bar_config(disable=True)
        _beam(options, size, size)  # loads
        ratios = []
        for _ in range(pairs):
            bare, own = _bare(pipe, pictures, size, steps), _beam(options, pictures, size)
            ratios.append(bare / own)
            print(f"bare {pictures / bare:.1f}, through Beam {pictures / own:.1f} pictures a second: {bare / own:.2f}")
    print(f"median on {device}: {statistics.median(ratios):.2f} of the bare speed")


def _save(folder: Path, *, large: bool) -> None:
    torch.manual_seed(0)
    channels, side = ((128, 256), 64) if large else ((32, 64), 32)
    unet = UNet2DModel(
        sample_size=side,
        in_channels=1,
        out_channels=1,
        block_out_channels=channels,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        add_attention=False,
    )
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(folder)


def _bare(pipe: Any, pictures: int, size: int, steps: int) -> float:
    began = time.perf_counter()
    for start in range(0, pictures, size):
        noises = [torch.Generator().manual_seed(i) for i in range(start, start + size)]
        pipe(batch_size=size, generator=noises, num_inference_steps=steps, output_type="np")
    return time.perf_counter() - began


def _beam(options: dict[str, Any], pictures: int, size: int) -> float:
    ids = pa.array(range(pictures), pa.int64())
    rows = [pa.RecordBatch.from_pydict({"candidate_id": ids[i : i + size]}) for i in range(0, pictures, size)]
    began = time.perf_counter()
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = pipeline | beam.Create(rows) | Generate(Draws(options))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
