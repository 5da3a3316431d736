"""Embedder `inception`: the features in which the Fréchet Inception Distance is measured (Heusel et al., 2017)."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from pe_beam import contracts
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network
from pe_beam.modalities.image.embedders.weights import fill, read_state
from pe_beam.numbers import Whole

_SIDE = 299
_FILES = (
    "inception-2015-12-05.pt (TorchScript, which clean-fid and NVIDIA's StyleGAN projects use) or "
    "pt_inception-2015-12-05-6726825d.pth (pytorch-fid; torch-fidelity's weights-inception-2015-12-05-6726825d.pth)"
)


class InceptionOptions(BackboneOptions):
    """Options of `inception`."""

    weights: str = Field(description=f"path of a file: {_FILES}")
    resize: Literal["clean", "tensorflow"] = Field(
        "clean",
        description="to 299 x 299: as clean-fid does (Pillow's bicubic filter on floats), or as TensorFlow 1 and "
        "torch-fidelity do (two neighbours a side, whatever is between)",
    )
    first: tuple[Whole, Whole] | None = Field(
        None, description="[height, width] that every picture is brought to before, as published runs do; null: none"
    )


class InceptionEmbedder(Backbone):
    """The features of the FID: the last pooling of TensorFlow's Inception v3 of 2015-12-05, 2048 numbers."""

    Options: ClassVar[type[contracts.Options]] = InceptionOptions
    packages = ("torch", "torchvision")

    @classmethod
    def check(cls, options: InceptionOptions) -> None:
        """See Backbone. Checks that the file is there."""
        if not Path(options.weights).expanduser().is_file():
            raise RecipeError(
                f"embedder.weights: {options.weights!r} is not a file, and a run downloads nothing; fetch {_FILES}, "
                "and give the path where it lies"
            )

    @classmethod
    def load(cls, options: InceptionOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone."""
        resized = resized_clean if options.resize == "clean" else resized_tensorflow
        file = Path(options.weights).expanduser()
        if _is_torchscript(file):
            return Network(_scripted(file), _scripted_features, _Scaled(resized, options.first))
        return Network(_module(file), lambda module, batch: module(batch), _Scaled(resized, options.first))


def resized_clean(pixels: np.ndarray) -> np.ndarray:
    """Resizes uint8 (h, w, 3) to float32 (299, 299, 3), 0 to 255, as clean-fid does.

    Pillow's bicubic filter resizes each channel, without rounding (Parmar, Zhang, Zhu: On Aliased Resizing, 2022).
    """
    channels = [
        Image.fromarray(pixels[:, :, channel].astype(np.float32)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)


def resized_tensorflow(pixels: np.ndarray) -> np.ndarray:
    """Resizes uint8 (h, w, 3) to float32 (299, 299, 3) as TensorFlow 1's `resize_bilinear` without aligned corners.

    Place i of the output is at i h / 299 of the input. It is interpolated between the two pixels around it, in float32
    and in the order of TensorFlow's kernel (resize_bilinear_op.cc): along the width first.
    """
    top, bottom, down = _neighbours(pixels.shape[0])
    left, right, across = _neighbours(pixels.shape[1])
    across = across[None, :, None]
    rows = [pixels[row].astype(np.float32) for row in (top, bottom)]
    upper, lower = (row[:, left] + (row[:, right] - row[:, left]) * across for row in rows)
    mixed: np.ndarray = upper + (lower - upper) * down[:, None, None]
    return mixed


def _neighbours(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places = np.arange(_SIDE, dtype=np.float32) * np.float32(length / _SIDE)
    before = places.astype(np.int64)
    return before, np.minimum(before + 1, length - 1), places - before.astype(np.float32)


class _Scaled:
    """Resizes a picture to `first` if that is given, then to 299 x 299. Scales it by (x - 128) / 128 as TensorFlow."""

    def __init__(self, resized: Any, first: tuple[int, int] | None) -> None:
        self._resized = resized
        self._first = None if first is None else first[::-1]

    def __call__(self, image: Image.Image) -> np.ndarray:
        if self._first is not None and image.size != self._first:
            image = image.resize(self._first, Image.Resampling.BICUBIC)
        pixels = self._resized(np.asarray(image))
        return ((pixels - np.float32(128)) / np.float32(128)).transpose(2, 0, 1)


def _scripted_features(module: Any, batch: Any) -> Any:
    """Computes features without TorchScript's optimisation, which changes the last bits after some calls."""
    import torch

    with torch.jit.optimized_execution(False):
        return module.layers(batch).reshape(len(batch), -1)


def _module(file: Path) -> Any:
    import torch

    from pe_beam.modalities.image.embedders.fid_inception import FidInception

    with torch.device("meta"):
        module = FidInception()
    state = read_state(file, key="embedder.weights")
    fill(module, state, key="embedder.weights", aside=("fc.", "AuxLogits."))
    return module


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as inside:
        return any(name.endswith("/constants.pkl") for name in inside.namelist())


def _scripted(file: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch warns that the format is old
            module = torch.jit.load(str(file), map_location="cpu")
    except Exception as error:  # a damaged file raises many kinds of exceptions
        raise RecipeError(
            f"embedder.weights: {str(file)!r} cannot be read as TorchScript ({type(error).__name__}); a whole "
            "file is wanted"
        ) from None
    if not hasattr(module, "layers"):
        raise RecipeError(f"embedder.weights: {str(file)!r} is another network's TorchScript; {_FILES} is wanted")
    return module
