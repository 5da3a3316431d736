"""Embedder `clip`: CLIP's image features, in the space that it shares with texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam.modalities.image.embedders.backbone import Network
from pe_beam.modalities.image.embedders.pretrained import Pretrained, PretrainedOptions, load_pretrained

_KINDS = {"clip": "CLIPModel", "clip_vision_model": "CLIPVisionModelWithProjection"}


class ClipEmbedder(Pretrained):
    """Image features of any CLIP that `transformers` loads, as `CLIPModel.get_image_features` gives them.

    They are not normalised. To compare angles, set `evolution.distance: cosine`.
    """

    @classmethod
    def load(cls, options: PretrainedOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone. Keeps only the half for images."""
        network = load_pretrained(options, exact, kinds=_KINDS, features=_image_features)
        if hasattr(network.module, "text_model"):
            del network.module.text_model
        return network


def _image_features(module: Any, batch: Any) -> Any:
    return module.visual_projection(module.vision_model(pixel_values=batch).pooler_output)
