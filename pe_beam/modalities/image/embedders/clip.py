"""Embedder `clip`: CLIP's image features, in the space that it shares with texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pe_beam import contracts
from pe_beam.modalities.image.embedders.backbone import Backbone, Network
from pe_beam.modalities.image.embedders.pretrained import PretrainedOptions, check_folder, load_pretrained


class ClipEmbedder(Backbone):
    """Image features of any CLIP that `transformers` loads, as `CLIPModel.get_image_features` gives them.

    They are not normalised: for angles say `evolution.distance: cosine`.
    """

    Options: ClassVar[type[contracts.Options]] = PretrainedOptions
    packages = ("torch", "transformers")

    @classmethod
    def check(cls, options: PretrainedOptions) -> None:
        """See Backbone."""
        check_folder(options)

    @classmethod
    def load(cls, options: PretrainedOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone: the image half alone."""
        half = "CLIPVisionModelWithProjection"
        return load_pretrained(options, exact, kinds={"clip": half, "clip_vision_model": half}, output="image_embeds")
