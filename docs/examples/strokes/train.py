"""Trains a small class-conditional diffusion model on rendered digits: public, no handwriting in it.

python docs/examples/strokes/train.py FOLDER [--steps 1500] [--seed 0]

The model is a UNet2DModel of diffusers on 8 x 8 pixels with a DDIM scheduler, saved as a pipeline that the generator
`diffusers` loads. What it knows of digits are the fonts that matplotlib ships, drawn by `text-render`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions

DIGITS = [str(digit) for digit in range(10)]
SIDE = 8


def rendered(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures in [-1, 1], float32 (count, 1, 8, 8), and their digits, int64 (count,)."""
    draw = TextRender(TextRenderOptions(side=32, rotation=(-25, 25)), labels=DIGITS)
    kinds = [i % 10 for i in range(count)]
    table = draw.random([DIGITS[kind] for kind in kinds], [keyed_rng(seed, 0, i, "public") for i in range(count)])
    pictures = []
    for data in table["image"].to_pylist():
        whole = np.asarray(decode_image(data, mode="L"), dtype=np.float32)
        pictures.append(whole.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3)) / 127.5 - 1)
    return torch.from_numpy(np.stack(pictures)[:, None]), torch.tensor(kinds)


def train(folder: Path, *, steps: int, seed: int, examples: int = 2000, batch: int = 64) -> None:
    """Trains by the usual loss (mean squared error of the predicted noise) and saves the pipeline.

    Source: Ho et al., Denoising Diffusion Probabilistic Models (arXiv 2006.11239), equation 14.
    """
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
        num_class_embeds=len(DIGITS),
    )
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    pictures, kinds = rendered(examples, seed)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(pictures), (batch,))
        noise = torch.randn(batch, 1, SIDE, SIDE)
        levels = torch.randint(1000, (batch,))
        noised = scheduler.add_noise(pictures[rows], noise, levels)
        loss = torch.nn.functional.mse_loss(unet(noised, levels, class_labels=kinds[rows]).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    DDIMPipeline(unet.eval(), scheduler).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    train(told.folder, steps=told.steps, seed=told.seed)
