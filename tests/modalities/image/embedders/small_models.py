"""Small models of the real classes with random weights, in their libraries' own files, made once a test session."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from PIL import Image

SIDE = 32
NAMES = ("efficientnet-lite0", "torchvision", "timm", "clip", "dinov2", "inception")


def png(image: Image.Image | np.ndarray, kind: str = "PNG") -> bytes:
    """A picture's file."""
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, format=kind)
    return sink.getvalue()


def pictures(count: int, *, seed: int = 0, side: int = 40) -> list[np.ndarray]:
    """Smooth pictures of several sizes, uint8 (h, w, 3)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        size = tuple(int(x) for x in rng.integers(side // 2, side * 2, 2))
        found.append(np.asarray(small.resize(size, Image.Resampling.BICUBIC)))
    return found


def table(images: list[Any]) -> pa.Table:
    """Records of pictures, as arrays or as files."""
    return pa.table({"image": pa.array([x if isinstance(x, bytes) else png(x) for x in images], pa.binary())})


def options(name: str, folder: Path) -> dict[str, Any]:
    """Makes the model of an embedder below a folder, and says by which options it is loaded."""
    import torch

    folder = folder / name
    if name != "efficientnet-lite0" and not folder.exists():
        folder.mkdir(parents=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            globals()[f"_make_{name}"](folder)
    return {
        "efficientnet-lite0": {},
        "torchvision": {"model": "shufflenet_v2_x0_5", "weights": f"{folder}/weights.pth"},
        "timm": {"model": str(folder)},
        "clip": {"model": str(folder)},
        "dinov2": {"model": str(folder)},
        "inception": {"weights": f"{folder}/inception-2015-12-05.pt"},
    }[name]


def library_inception() -> Any:
    """torch-fidelity's extractor with random weights that keep the scale of what goes through."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as library

    with (
        mock.patch.object(library, "load_state_dict_from_url", lambda *_, **__: {}),
        mock.patch.object(torch.nn.Module, "load_state_dict", lambda *_, **__: None),
    ):
        network = library.FeatureExtractorInceptionV3("small", ["2048"])
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
        elif name.endswith(("bn.bias", "bn.running_mean")):
            torch.nn.init.normal_(value, std=0.1)
    return network


def scripted_inception() -> Any:
    """A small network in the form of `inception-2015-12-05.pt`: `layers` takes scaled pictures, the whole resizes."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first, last = torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.Conv2d(8, 2048, 3, stride=4)
            self.layers = torch.nn.Sequential(first, torch.nn.ReLU(), last, torch.nn.AdaptiveAvgPool2d(1))

        def forward(self, pictures: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            found = torch.nn.functional.interpolate(pictures, [299, 299], mode="bilinear")
            return self.layers((found - 128) / 128)

    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return torch.jit.script(Whole().eval())


def _make_inception(folder: Path) -> None:
    scripted_inception().save(str(folder / "inception-2015-12-05.pt"))


def _make_torchvision(folder: Path) -> None:
    import torch
    from torchvision import models

    model = models.get_model("shufflenet_v2_x0_5")
    for value in model.parameters():
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    torch.save(model.state_dict(), folder / "weights.pth")


def _make_timm(folder: Path) -> None:
    import timm

    timm.models.save_for_hf(timm.create_model("test_vit"), folder, safe_serialization=True)


_BODY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def _make_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    sees = _BODY | {"intermediate_size": 64, "image_size": SIDE, "patch_size": 8}
    reads = _BODY | {"intermediate_size": 64, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    CLIPModel(CLIPConfig(vision_config=sees, text_config=reads, projection_dim=24)).save_pretrained(folder)
    _processor(CLIPImageProcessor).save_pretrained(folder)


def _make_dinov2(folder: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(**_BODY, image_size=SIDE, patch_size=8)).save_pretrained(folder)
    _processor(BitImageProcessor).save_pretrained(folder)


def _processor(kind: Any) -> Any:
    """In the form of the published ones, of another size."""
    return kind(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, resample=3)
