"""Checkpoints of improved-diffusion, against their UNet written out in plain torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from pe_beam.errors import RecipeError
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.diffusion.convert import convert, main
from pe_beam.modalities.image.diffusion.loading import _set_heads
from pe_beam.testing import check_generator
from tests.modalities.image.diffusion.test_generator import generator

WIDTH, MULTIPLIERS, BLOCKS, HEADS, CLASSES = 32, (1, 2, 3), 2, 4, 5
ATTENDED = (False, True, True)
State = dict[str, torch.Tensor]


def checkpoint(*, learned: bool = True, classes: int | None = CLASSES) -> State:
    """Random weights in the layout of the family."""
    torch.manual_seed(0)
    state: State = {}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(*shape) / math.sqrt(math.prod(shape[1:]))
        state[f"{name}.bias"] = torch.randn(shape[0]) * 0.1

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + torch.randn(width) * 0.1, torch.randn(width) * 0.1

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * after, 4 * WIDTH)
        norm(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        layer(f"{name}.qkv", 3 * width, width, 1)
        layer(f"{name}.proj_out", width, width, 1)

    layer("time_embed.0", 4 * WIDTH, WIDTH)
    layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    if classes:
        state["label_emb.weight"] = torch.randn(classes, 4 * WIDTH)
    layer("input_blocks.0.0", WIDTH, 3, 3, 3)
    place, width, skips = 1, WIDTH, [WIDTH]
    for i, times in enumerate(MULTIPLIERS):
        for _ in range(BLOCKS):
            block(f"input_blocks.{place}.0", width, times * WIDTH)
            width = times * WIDTH
            if ATTENDED[i]:
                attention(f"input_blocks.{place}.1", width)
            skips.append(width)
            place += 1
        if i + 1 < len(MULTIPLIERS):
            layer(f"input_blocks.{place}.0.op", width, width, 3, 3)
            skips.append(width)
            place += 1
    block("middle_block.0", width, width)
    attention("middle_block.1", width)
    block("middle_block.2", width, width)
    place = 0
    for i in reversed(range(len(MULTIPLIERS))):
        for j in range(BLOCKS + 1):
            block(f"output_blocks.{place}.0", width + skips.pop(), MULTIPLIERS[i] * WIDTH)
            width = MULTIPLIERS[i] * WIDTH
            if ATTENDED[i]:
                attention(f"output_blocks.{place}.1", width)
            if i and j == BLOCKS:
                layer(f"output_blocks.{place}.{1 + ATTENDED[i]}.conv", width, width, 3, 3)
            place += 1
    norm("out.0", width)
    layer("out.2", 6 if learned else 3, width, 3, 3)
    return state


def forward(state: State, x: torch.Tensor, level: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The UNet of improved-diffusion with scale-shift norms (arXiv 2102.09672), on a state dict."""

    def linear(name: str, y: torch.Tensor) -> torch.Tensor:
        return functional.linear(y, state[f"{name}.weight"], state[f"{name}.bias"])

    def conv(name: str, y: torch.Tensor, **more: int) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(y, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, **more)

    def norm(name: str, y: torch.Tensor) -> torch.Tensor:
        return functional.group_norm(y, 32, state[f"{name}.weight"], state[f"{name}.bias"])

    def block(name: str, y: torch.Tensor) -> torch.Tensor:
        h = conv(f"{name}.in_layers.2", functional.silu(norm(f"{name}.in_layers.0", y)))
        scale, shift = linear(f"{name}.emb_layers.1", functional.silu(known))[:, :, None, None].chunk(2, dim=1)
        h = norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        h = conv(f"{name}.out_layers.3", functional.silu(h))
        return h + (conv(f"{name}.skip_connection", y) if f"{name}.skip_connection.weight" in state else y)

    def attention(name: str, y: torch.Tensor) -> torch.Tensor:
        n, width, tall, wide = y.shape
        qkv = functional.conv1d(
            norm(f"{name}.norm", y).reshape(n, width, -1), state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"]
        )
        q, k, v = qkv.reshape(n * HEADS, 3 * width // HEADS, -1).chunk(3, dim=1)
        weights = torch.softmax(torch.einsum("nct,ncs->nts", q, k) / math.sqrt(width // HEADS), dim=-1)
        h = torch.einsum("nts,ncs->nct", weights, v).reshape(n, width, -1)
        h = functional.conv1d(h, state[f"{name}.proj_out.weight"], state[f"{name}.proj_out.bias"])
        return y + h.reshape(n, width, tall, wide)

    def layers(name: str, y: torch.Tensor) -> torch.Tensor:
        y = block(f"{name}.0", y)
        return attention(f"{name}.1", y) if f"{name}.1.qkv.weight" in state else y

    half = WIDTH // 2
    angles = level[:, None].float() * torch.exp(-math.log(10_000) * torch.arange(half) / half)
    known = linear("time_embed.0", torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))
    known = linear("time_embed.2", functional.silu(known))
    if "label_emb.weight" in state:
        known = known + state["label_emb.weight"][classes]
    x = conv("input_blocks.0.0", x)
    skips, place = [x], 1
    while any(name.startswith(f"input_blocks.{place}.") for name in state):
        down = f"input_blocks.{place}.0.op"
        x = conv(down, x, stride=2) if f"{down}.weight" in state else layers(f"input_blocks.{place}", x)
        skips.append(x)
        place += 1
    x = block("middle_block.2", attention("middle_block.1", block("middle_block.0", x)))
    for place in range(len(MULTIPLIERS) * (BLOCKS + 1)):
        x = layers(f"output_blocks.{place}", torch.cat([x, skips.pop()], dim=1))
        for at in (1, 2):
            if f"output_blocks.{place}.{at}.conv.weight" in state:
                x = conv(f"output_blocks.{place}.{at}.conv", functional.interpolate(x, scale_factor=2))
    return conv("out.2", functional.silu(norm("out.0", x)))


@pytest.mark.parametrize(("learned", "classes"), [(True, CLASSES), (False, None)])
def test_a_converted_checkpoint_gives_the_same_answers(learned: bool, classes: int | None) -> None:
    state = checkpoint(learned=learned, classes=classes)
    model = convert(state, size=16, heads=HEADS)
    _set_heads(model, HEADS)
    x, level = torch.randn(3, 3, 16, 16), torch.tensor([0.0, 12.25, 999.0])
    kinds = torch.tensor([0, 2, 4])
    more: dict[str, Any] = {"class_labels": kinds} if classes else {}
    with torch.inference_mode():
        found, wanted = model(x, level, **more).sample, forward(state, x, level, kinds)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.usefixtures("forked")
def test_a_converted_folder_is_a_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(checkpoint(), tmp_path / "model.pt")
    main([str(tmp_path / "model.pt"), str(tmp_path / "made"), "--size", "16"])
    told = capsys.readouterr().out
    assert "attention_heads: 4" in told and "level_scale: 0.25" in told
    own = generator(tmp_path / "made", attention_heads=4, level_scale=0.25)
    check_generator(own, MODALITY, labels=["x", "y"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("time_embed.0.weight"), "time_embedding.linear_1.weight"),
        (lambda state: state.pop("out.2.weight"), "no 'out.2.weight' in it"),
        (lambda state: state.clear(), "residual blocks"),
        (lambda state: state.update({"input_blocks.3.0.h_upd.weight": torch.zeros(1)}), "by residual blocks"),
    ],
)
def test_a_checkpoint_of_another_family_is_refused(change: Any, said: str) -> None:
    state = checkpoint()
    change(state)
    with pytest.raises(RecipeError, match=said):
        convert(state, size=16, heads=HEADS)


def test_what_is_no_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without torch's own message, which advises to run code that is in the file."""
    (tmp_path / "cut.pt").write_bytes(b"x" * 100)
    for name, said in (("cut.pt", "cannot be read as weights"), ("none.pt", "is not a file")):
        with pytest.raises(SystemExit) as stopped:
            main([str(tmp_path / name), str(tmp_path / "made"), "--size", "16"])
        assert stopped.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_heads_have_to_divide() -> None:
    with pytest.raises(RecipeError, match="channels do not divide into 5 heads"):
        convert(checkpoint(), size=16, heads=5)
