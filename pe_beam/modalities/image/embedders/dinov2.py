"""Embedder `dinov2`: features of a network trained without labels or texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pe_beam.modalities.image.embedders.backbone import Network
from pe_beam.modalities.image.embedders.pretrained import Pretrained, PretrainedOptions, load_pretrained

_KINDS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}


class Dinov2Embedder(Pretrained):
    """The class token of DINOv2 after its last normalisation, of any size, with registers or without."""

    @classmethod
    def load(cls, options: PretrainedOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone."""
        return load_pretrained(options, exact, kinds=_KINDS, features=_class_token)


def _class_token(module: Any, batch: Any) -> Any:
    return module(pixel_values=batch).pooler_output
