"""Embedders of images, alone and as a Beam stage, against the bare network at the same batch.

    python benchmarks/image_embedding.py [--only clip,dinov2] [--pictures 256] [--size 64] [--batch 16] [--toy]

The bare network is given batches that are ready; the others decode PNG files and prepare them as well. The three take
turns, and medians are printed; what any pipeline takes to start is measured apart, for it does not grow with the data.
On a CPU that is processor time, for threads that decode share its cores with the network, and with whatever else runs.
Weights are random but for efficientnet-lite0's: speed does not depend on them. On a GPU where there is one (there 4096
pictures and batches of 64, unless said otherwise).
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _place  # noqa: F401  (tests/ is on the path from here)
import numpy as np
import pyarrow as pa

from pe_beam import registry
from pe_beam.contracts.embedder import Embedder, Embedding
from pe_beam.contracts.options import Options
from pe_beam.modalities.image.codec import encode_png
from tests.modalities.image.embedders import small_models

WANTED = {"cpu": 0.9, "cuda": 0.95}  # of the bare network's speed


def main() -> None:
    """Prints a line an embedder."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names between commas")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--size", type=int, default=64, help="side of a picture")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--toy", action="store_true", help="next to nothing, in seconds: is the script whole?")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, batch = (4096, 64) if device == "cuda" else (256, 16)
    count, batch, repeats = asked.pictures or count, asked.batch or batch, asked.repeats
    names = asked.only.split(",") if asked.only else list(small_models.NAMES)
    if asked.toy:
        count, batch, repeats, names = 4, 2, 1, ["clip", "inception"]
    records = pictures(count, asked.size)
    print(f"{count} PNG files of {asked.size} x {asked.size}, batches of {batch}, {asked.dtype}, {device}")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            options = (small_models.options if asked.toy else full_size)(name, Path(folder))
            part = registry.find("embedders", name, key="--only")
            own = part.Options(**options, batch_size=batch, dtype=asked.dtype)
            print(f"{name}: {measured(functools.partial(part, own), records, repeats, device=device)}")


def pictures(count: int, side: int) -> pa.Table:
    """Noise, which is the slowest to decode."""
    rng = np.random.default_rng(0)
    files = [encode_png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(count)]
    return pa.table({"image": pa.array(files, pa.binary())})


def measured(make: Callable[[], Any], records: pa.Table, repeats: int, *, device: str) -> str:
    """Pictures a second of the bare network, of the embedder and of the stage, paired."""
    import apache_beam as beam
    import torch

    from pe_beam.transforms.embed import EmbedRecords

    embedder = make()
    placed = embedder.placed()
    ready = torch.zeros(placed.shape, pin_memory=placed.pinned).normal_()
    batches = records.combine_chunks().to_batches(max_chunksize=embedder.batch_size)

    def bare() -> None:
        for _ in range(0, records.num_rows, placed.shape[0]):
            placed.run(ready)

    def stage(made: Callable[[], Any] = make) -> None:
        with beam.Pipeline() as pipeline:
            _ = pipeline | beam.Create(batches) | EmbedRecords(made)

    ways = (bare, functools.partial(embedder.embed, records), stage, functools.partial(stage, _Nothing))
    for warm_up in ways:
        warm_up()
    clock = time.process_time if device == "cpu" else time.perf_counter
    rounds = [[_seconds(way, clock) for way in ways] for _ in range(repeats)]
    rounds = [[one[0], one[1], one[2] - one[3], one[3]] for one in rounds]
    alone, ours, through, start = (statistics.median(column) for column in zip(*rounds, strict=True))
    shares = [statistics.median(one[0] / one[way] for one in rounds) for way in (1, 2)]
    rates = [f"{records.num_rows / seconds:,.0f}" for seconds in (alone, ours, through)]
    return (
        f"bare {rates[0]} pictures/s, embedder {rates[1]} ({shares[0]:.2f}), through Beam {rates[2]} ({shares[1]:.2f}; "
        f"{WANTED[device]} is wanted) once it has started, in {start:.1f} s"
    )


class _Nothing(Embedder):
    """Does not look: a pipeline of it is what any pipeline costs."""

    Options = Options
    dimension = 1

    def __init__(self, options: Any = None) -> None:
        pass

    def embed(self, records: pa.Table) -> Embedding:
        return Embedding(np.ones((records.num_rows, 1), np.float32))


def _seconds(way: Callable[[], Any], clock: Callable[[], float]) -> float:
    began = clock()
    way()
    return clock() - began


def full_size(name: str, folder: Path) -> dict[str, Any]:
    """Options of a model of the published size, made below a folder; weights are random where no package brings any."""
    import torch

    folder = folder / name
    if name == "efficientnet-lite0":
        return {}
    folder.mkdir(parents=True)
    if name == "inception":
        torch.save(small_models.library_inception().state_dict(), folder / "weights.pth")
        return {"weights": f"{folder}/weights.pth"}
    if name == "torchvision":
        from torchvision import models

        torch.save(models.get_model("resnet50").state_dict(), folder / "weights.pth")
        return {"model": "resnet50", "weights": f"{folder}/weights.pth"}
    if name == "timm":
        import timm

        timm.models.save_for_hf(timm.create_model("vit_small_patch16_224"), folder, safe_serialization=True)
        return {"model": str(folder)}
    from transformers import (
        BitImageProcessor,
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        Dinov2Config,
        Dinov2Model,
    )

    if name == "clip":  # ViT-B/32; of its text half, which is not used, next to nothing
        CLIPModel(CLIPConfig(text_config={"num_hidden_layers": 1})).save_pretrained(folder)
        CLIPImageProcessor().save_pretrained(folder)
    else:  # DINOv2-S/14
        small = Dinov2Config(hidden_size=384, num_attention_heads=6, patch_size=14, image_size=518)
        Dinov2Model(small).save_pretrained(folder)
        processor = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
        BitImageProcessor(**processor).save_pretrained(folder)
    return {"model": str(folder)}


if __name__ == "__main__":
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        main()
