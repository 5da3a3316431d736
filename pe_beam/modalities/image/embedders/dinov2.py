"""Embedder `dinov2`: features of a network trained without labels or texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pe_beam import contracts
from pe_beam.modalities.image.embedders.backbone import Backbone, Network
from pe_beam.modalities.image.embedders.pretrained import PretrainedOptions, check_folder, load_pretrained

_KINDS = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}


class Dinov2Embedder(Backbone):
    """The class token of DINOv2 after its last normalisation, of any size, with registers or without."""

    Options: ClassVar[type[contracts.Options]] = PretrainedOptions
    packages = ("torch", "transformers")

    @classmethod
    def check(cls, options: PretrainedOptions) -> None:
        """See Backbone."""
        check_folder(options)

    @classmethod
    def load(cls, options: PretrainedOptions, exact: Mapping[str, Any]) -> Network:
        """See Backbone."""
        return load_pretrained(options, exact, kinds=_KINDS, features=_class_token)


def _class_token(module: Any, batch: Any) -> Any:
    return module(pixel_values=batch).pooler_output
