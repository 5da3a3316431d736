"""Loads models of `transformers` from a local folder or a hub. An incomplete model is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pe_beam import contracts
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.embedders.backbone import Backbone, BackboneOptions, Network, loading_backbone
from pe_beam.modalities.loading import demand_all
from pe_beam.modalities.quiet import quiet


class PretrainedOptions(BackboneOptions):
    """Options of `clip` and `dinov2`."""

    model: str = Field(description="a local folder or a hub name", json_schema_extra={"public": "name"})
    revision: str | None = Field(None, description="of a hub's model")


class Pretrained(Backbone):
    """Embeds pictures by a model of `transformers`."""

    Options: ClassVar[type[contracts.Options]] = PretrainedOptions
    packages = ("torch", "transformers")

    @classmethod
    def check(cls, options: PretrainedOptions) -> None:
        """See Backbone. A model that looks like a path has to be a folder."""
        if options.model.startswith((".", "/", "~")) and not Path(options.model).expanduser().is_dir():
            raise RecipeError(f"embedder.model: {options.model!r} is not a folder")


def load_pretrained(
    options: PretrainedOptions,
    exact: Mapping[str, Any],
    *,
    kinds: Mapping[str, str],
    features: Callable[[Any, Any], Any],
) -> Network:
    """Loads a model with its own image processor.

    Args:
      options: which model to load.
      exact: arguments for loading it.
      kinds: `model_type` in its config.json -> class of transformers.
      features: maps (model, batch) to features (b, d).

    Raises:
      RecipeError: the model cannot be loaded, is of another type, or lacks weights.
    """
    import transformers

    path = str(Path(options.model).expanduser()) if options.model.startswith("~") else options.model
    about = {"revision": options.revision}
    folder = "a folder with config.json, preprocessor_config.json and whole weights"
    with loading_backbone(options.model, by="transformers", folder=folder), quiet("transformers", warnings=True):
        kind = transformers.AutoConfig.from_pretrained(path, **about).model_type
        if kind not in kinds:
            raise RecipeError(f"embedder.model: {options.model!r} is of type {kind!r} (allowed: {', '.join(kinds)})")
        load = getattr(transformers, kinds[kind]).from_pretrained
        module, found = load(path, **about, **exact, output_loading_info=True)
        # Pillow's resampling, as the models were trained with, and the same in every release of torchvision.
        newer = importlib.util.find_spec("transformers.image_processing_backends") is not None
        pillow: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
        processor = transformers.AutoImageProcessor.from_pretrained(path, **about, **pillow)
    demand_all(found, "embedder.model", options.model)
    return Network(
        module,
        features,
        lambda image: processor(images=image, return_tensors="np")["pixel_values"][0],
    )
