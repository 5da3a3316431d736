"""Checkpoints of OpenAI's improved-diffusion and guided-diffusion -> a folder that the generator `diffusers` loads.

python -m pe_beam.modalities.image.diffusion.convert CHECKPOINT.pt FOLDER --size 64 [--noise cosine] [--steps 4000]

The first paper of Private Evolution used `imagenet64_cond_270M_250K.pt` of that family. Widths, blocks, places of
attention, classes and learned variances are read off the tensors; size and noise are not in them. Weights are read as
tensors and nothing else. Two settings are not part of diffusers' format, so the recipe says them: `attention_heads` (4
there) and `level_scale` (1000 / 4000, for models trained with rescaled levels).

Source: Nichol and Dhariwal, arXiv 2102.09672, and the layout of their released state dicts. UNets that change the size
by residual blocks (`resblock_updown` of guided-diffusion) are refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.weights import read_state

_RES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


@dataclass(frozen=True)
class Level:
    """One resolution: its width, its residual blocks on the way down, and whether attention follows each block."""

    width: int
    blocks: int
    attention: bool


def convert(state: Mapping[str, Any], *, size: int, heads: int) -> Any:
    """Returns a UNet2DModel with the weights of a checkpoint.

    Args:
      state: name -> tensor, as in the checkpoint.
      size: pixels a side that the model works on.
      heads: heads of every attention, which decide the order of its weights; 4 in improved-diffusion.

    Returns:
      The model. Its attention has `heads` heads only where the recipe says so (`generator.attention_heads`).

    Raises:
      RecipeError: the state dict is of another family.
    """
    import diffusers

    library: Any = diffusers
    try:
        levels = _levels(state)
        model: Any = library.UNet2DModel(**_configuration(state, levels, size))
        named = _renamed(state, levels, heads)
    except KeyError as error:
        raise RecipeError(f"checkpoint: no {error.args[0]!r} in it; a UNet of improved-diffusion is wanted") from None
    missing, unknown = model.load_state_dict(named, strict=False)
    if missing or unknown:
        raise RecipeError(f"checkpoint: {[*missing, *unknown][0]!r} does not fit a UNet of improved-diffusion")
    return model.eval()


def _levels(state: Mapping[str, Any]) -> list[Level]:
    """Reads the resolutions from `input_blocks`. A strided convolution ends the residual blocks of a resolution."""
    if any(re.match(r"input_blocks\.\d+\.0\.(h_upd|x_upd)", name) or ".op.0." in name for name in state):
        raise RecipeError("checkpoint: it samples down by residual blocks, which UNet2DModel does otherwise")
    levels: list[Level] = []
    place, own = 1, list[tuple[int, bool]]()
    while True:
        head = f"input_blocks.{place}.0"
        if f"{head}.in_layers.0.weight" in state:
            own.append((state[f"{head}.out_layers.3.weight"].shape[0], f"input_blocks.{place}.1.qkv.weight" in state))
        else:
            if not own or len(set(own)) != 1:
                raise RecipeError("checkpoint: its residual blocks are not those of improved-diffusion's UNet")
            levels.append(Level(own[0][0], len(own), own[0][1]))
            own = []
            if f"{head}.op.weight" not in state:
                return levels
        place += 1


def _configuration(state: Mapping[str, Any], levels: Sequence[Level], size: int) -> dict[str, Any]:
    down = ["AttnDownBlock2D" if level.attention else "DownBlock2D" for level in levels]
    up = ["AttnUpBlock2D" if level.attention else "UpBlock2D" for level in reversed(levels)]
    embeds = state["label_emb.weight"].shape[0] if "label_emb.weight" in state else None
    projected = state["input_blocks.1.0.emb_layers.1.weight"].shape[0]
    return {
        "sample_size": size,
        "in_channels": state["input_blocks.0.0.weight"].shape[1],
        "out_channels": state["out.2.weight"].shape[0],
        "block_out_channels": tuple(level.width for level in levels),
        "layers_per_block": levels[0].blocks,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "num_class_embeds": embeds,
        "resnet_time_scale_shift": "scale_shift" if projected == 2 * levels[0].width else "default",
        "attention_head_dim": 8,  # any divisor: heads are set when the model is loaded
        "attn_norm_num_groups": 32,
        "norm_eps": 1e-5,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
    }


def _renamed(state: Mapping[str, Any], levels: Sequence[Level], heads: int) -> dict[str, Any]:
    """Returns the tensors under diffusers' names, in the order of the original's blocks."""
    made: dict[str, Any] = {}

    def take(old: str, new: str) -> None:
        for part in ("weight", "bias"):
            if f"{old}.{part}" in state:
                made[f"{new}.{part}"] = state[f"{old}.{part}"]

    def block(old: str, new: str) -> None:
        for before, after in _RES.items():
            take(f"{old}.{before}", f"{new}.{after}")

    def attention(old: str, new: str) -> None:
        take(f"{old}.norm", f"{new}.group_norm")
        made.update(_attention(state, old, new, heads))

    take("time_embed.0", "time_embedding.linear_1")
    take("time_embed.2", "time_embedding.linear_2")
    take("label_emb", "class_embedding")
    take("input_blocks.0.0", "conv_in")
    take("out.0", "conv_norm_out")
    take("out.2", "conv_out")
    place = 1
    for i, level in enumerate(levels):
        for j in range(level.blocks):
            block(f"input_blocks.{place}.0", f"down_blocks.{i}.resnets.{j}")
            if level.attention:
                attention(f"input_blocks.{place}.1", f"down_blocks.{i}.attentions.{j}")
            place += 1
        if i + 1 < len(levels):
            take(f"input_blocks.{place}.0.op", f"down_blocks.{i}.downsamplers.0.conv")
            place += 1
    block("middle_block.0", "mid_block.resnets.0")
    attention("middle_block.1", "mid_block.attentions.0")
    block("middle_block.2", "mid_block.resnets.1")
    place = 0
    for i, level in enumerate(reversed(levels)):
        for j in range(level.blocks + 1):
            block(f"output_blocks.{place}.0", f"up_blocks.{i}.resnets.{j}")
            if level.attention:
                attention(f"output_blocks.{place}.1", f"up_blocks.{i}.attentions.{j}")
            if j == level.blocks and i + 1 < len(levels):
                take(f"output_blocks.{place}.{1 + level.attention}.conv", f"up_blocks.{i}.upsamplers.0.conv")
            place += 1
    return made


def _attention(state: Mapping[str, Any], old: str, new: str, heads: int) -> dict[str, Any]:
    """Splits the convolution of query, key and value, which is ordered by head, into three layers of all heads."""
    weight, bias = state[f"{old}.qkv.weight"].squeeze(-1), state[f"{old}.qkv.bias"]
    width = weight.shape[1]
    if width % heads:
        raise RecipeError(f"checkpoint: {width} channels do not divide into {heads} heads")
    weights = weight.reshape(heads, 3, width // heads, width).transpose(0, 1).reshape(3, width, width)
    biases = bias.reshape(heads, 3, width // heads).transpose(0, 1).reshape(3, width)
    made = {f"{new}.to_out.0.weight": state[f"{old}.proj_out.weight"].squeeze(-1)}
    made[f"{new}.to_out.0.bias"] = state[f"{old}.proj_out.bias"]
    for place, name in enumerate(("to_q", "to_k", "to_v")):
        made[f"{new}.{name}.weight"], made[f"{new}.{name}.bias"] = weights[place], biases[place]
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module. Exits with status 2 if the file is no such checkpoint."""
    import diffusers

    library: Any = diffusers
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, required=True, help="pixels a side")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--noise", choices=("cosine", "linear"), default="cosine")
    parser.add_argument("--steps", type=int, default=4000, help="that it was trained with")
    told = parser.parse_args(arguments)
    try:
        unet = convert(read_state(told.checkpoint, key="checkpoint"), size=told.size, heads=told.heads)
    except RecipeError as error:
        parser.exit(2, f"convert: {error}\n")
    betas = "squaredcos_cap_v2" if told.noise == "cosine" else "linear"
    scheduler = library.DDIMScheduler(num_train_timesteps=told.steps, beta_schedule=betas, timestep_spacing="leading")
    if told.noise == "linear":  # the original keeps the same noise for another number of steps
        scale = 1000 / told.steps
        scheduler = library.DDIMScheduler(
            num_train_timesteps=told.steps, beta_start=scale * 1e-4, beta_end=scale * 0.02, timestep_spacing="leading"
        )
    library.DDIMPipeline(unet, scheduler).save_pretrained(told.folder)
    sys.stdout.write(
        f"{told.folder}: in the recipe, generator.attention_heads: {told.heads} and, if it was trained with rescaled "
        f"levels (the family's default), level_scale: {1000 / told.steps:g}\n"
    )


if __name__ == "__main__":
    main()
