"""Embedder `torchvision`: any classifier of torchvision, without its last layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pe_beam import contracts
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network
from pe_beam.modalities.image.embedders.weights import fill, read_state

_TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")  # further heads of GoogLeNet and Inception


class TorchvisionOptions(BackboneOptions):
    """Options of `torchvision`."""

    model: str = Field(description="a classifier's name: resnet50, vit_b_16, ...", json_schema_extra={"public": "name"})
    weights: str = Field(
        description="a file (.pth or .safetensors of a state dict), or DEFAULT, IMAGENET1K_V1, ... of its cache",
        json_schema_extra={"public": ["DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2"]},
    )
    preprocessing: str = Field(
        "DEFAULT",
        description="for a file: the name of the weights of torchvision whose preprocessing and size it wants",
        json_schema_extra={"public": True},
    )


class TorchvisionEmbedder(Backbone):
    """The input of a classifier's last layer. The `transforms()` of the weights preprocess pictures."""

    Options: ClassVar[type[contracts.Options]] = TorchvisionOptions
    packages = ("torch", "torchvision")

    @classmethod
    def check(cls, options: TorchvisionOptions) -> None:
        """See Backbone. Checks that the model and its file are there."""
        named = _kinds(options.model)
        names = ", ".join(named)
        if options.weights not in named and not Path(options.weights).expanduser().is_file():
            raise RecipeError(
                f"embedder.weights: {options.weights!r} is neither a file nor weights that torchvision has of "
                f"{options.model!r} (allowed: a path, {names})"
            )
        if options.preprocessing not in named:
            raise RecipeError(f"embedder.preprocessing: {options.preprocessing!r} is not known (allowed: {names})")
        if options.weights in named and not (file := _cached(named[options.weights])).is_file():
            raise RecipeError(
                f"embedder.weights: {options.weights!r} of {options.model!r} is not in torchvision's cache, and a run "
                f"downloads nothing; fetch {named[options.weights].url} and put it at {str(file)!r}, or anywhere and "
                "give its path"
            )

    @classmethod
    def load(cls, options: TorchvisionOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone."""
        import torch
        from torchvision import models

        named = _kinds(options.model)
        like = named.get(options.weights) or named[options.preprocessing]
        source = _cached(like) if options.weights in named else options.weights
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn; the process's random state stays as it was
            module = models.get_model(options.model, weights=None, **_arguments(options.model, like))
        head = _behead(module)
        state = read_state(source, key="embedder.weights")
        if options.model.startswith("densenet"):  # its published files have the names of an older torchvision
            state = {re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", name): value for name, value in state.items()}
        fill(module, state, key="embedder.weights", aside=(f"{head}.", *_TRAINING_ONLY))
        transforms = like.transforms()
        return Network(module, lambda module, batch: module(batch), lambda image: transforms(image).numpy())


def _kinds(model: str) -> Mapping[str, Any]:
    """Returns name -> torchvision's entry of weights of a classifier. Raises RecipeError for an unknown model."""
    from torchvision import models

    allowed = models.list_models(module=models)
    if model not in allowed:
        raise RecipeError(f"embedder.model: {model!r} is no classifier of torchvision (allowed: {', '.join(allowed)})")
    found: Mapping[str, Any] = models.get_model_weights(model).__members__
    return found


def _cached(kind: Any) -> Path:
    """Returns the path where torchvision itself keeps such weights."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / kind.url.rsplit("/", 1)[-1]


def _arguments(model: str, like: Any) -> dict[str, Any]:
    """Returns the arguments with which torchvision builds a model for these weights."""
    if model in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": False, "transform_input": True}
    return {"image_size": like.meta["min_size"][0]} if model.startswith("vit_") else {}


def _behead(module: Any) -> str:
    """Removes the last linear layer (SqueezeNet: the last convolution). Returns its name."""
    from torch import nn

    layers = list(module.named_modules())
    linear = [name for name, layer in layers if isinstance(layer, nn.Linear)]
    name = linear[-1] if linear else [name for name, layer in layers if isinstance(layer, nn.Conv2d)][-1]
    above, _, own = name.rpartition(".")
    setattr(module.get_submodule(above), own, nn.Identity())
    return name
