"""Embedder `timm`: the pooled features of any model of timm."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pe_beam import contracts
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network, loading_backbone


class TimmOptions(BackboneOptions):
    """Options of `timm`."""

    model: str = Field(
        description="a folder with config.json and weights as timm saves them, a name of timm's, or hf-hub:OWNER/NAME",
        json_schema_extra={"public": "name"},
    )


class TimmEmbedder(Backbone):
    """A model's features before its classifier. The model's own data configuration says how to preprocess pictures."""

    Options: ClassVar[type[contracts.Options]] = TimmOptions
    packages = ("torch", "timm")

    @classmethod
    def check(cls, options: TimmOptions) -> None:
        """See Backbone. Checks that a local folder is there."""
        _source(options.model)

    @classmethod
    def load(cls, options: TimmOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone. Weights are read with torch's restricted unpickler, or from safetensors."""
        import timm
        import torch

        named = loading_backbone(options.model, by="timm", folder="a folder with config.json and whole weights")
        with torch.random.fork_rng(devices=[]), _quiet(), named:
            module = timm.create_model(_source(options.model), pretrained=True, num_classes=0)
        config = timm.data.resolve_model_data_config(module)
        if config["input_size"][0] != 3:
            raise RecipeError(
                f"embedder.model: {options.model!r} takes {config['input_size'][0]} channels; 3 are wanted"
            )
        if exact:
            for layer in module.modules():
                if hasattr(layer, "fused_attn"):
                    layer.fused_attn = False
        transform = timm.data.create_transform(**config, is_training=False)
        return Network(module, lambda module, batch: module(batch), lambda image: transform(image).numpy())


def _source(model: str) -> str:
    """Returns the name that timm has for a model. Raises RecipeError if there is none."""
    import timm

    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise RecipeError(f"embedder.model: {model!r} has no config.json; a folder as timm saves a model is wanted")
        return f"local-dir:{folder}"
    if model.startswith((".", "/", "~", "local-dir:")):
        raise RecipeError(f"embedder.model: {model!r} is not a folder")
    if ":" not in model and not timm.is_model(model):
        raise RecipeError(
            f"embedder.model: {model!r} is neither a folder nor a model of timm; a folder, a name such as "
            "vit_small_patch14_dinov2.lvd142m, or hf-hub:OWNER/NAME is wanted"
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides timm's messages about the classifier, which is left out."""
    logger = logging.getLogger("timm")
    kept, logger.level = logger.level, logging.ERROR
    try:
        yield
    finally:
        logger.level = kept
