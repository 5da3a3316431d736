"""Pictures by text: `random` through a text-to-image pipeline, `vary` through its image-to-image sibling."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pe_beam.modalities.image.diffusion.painter import Ask, Dials, Drawn, Painter, generators, to_bytes


class Prompted(Painter):
    """A pipeline of diffusers' auto classes: Stable Diffusion, SDXL, SD3, Flux and their kin."""

    def __init__(self, pipeline: Any, *, size: tuple[int, int] | None, eta: float) -> None:
        """Takes a text-to-image pipeline on its device; the sibling shares its weights."""
        from diffusers import AutoPipelineForImage2Image

        self._random = pipeline
        self._vary = AutoPipelineForImage2Image.from_pipe(pipeline)
        self._vary.set_progress_bar_config(disable=True)
        self._size = size
        self._eta = eta

    def paint(self, asks: Sequence[Ask], dials: Dials) -> list[Drawn]:
        """See `Painter`."""
        import torch

        more: dict[str, Any] = {}
        pipe = self._random
        if dials.first is not None:
            pipe = self._vary
            if dials.first >= dials.steps:  # nothing is done anew
                return [_given(ask) for ask in asks]
            more |= {"image": [Image.fromarray(_given(ask)) for ask in asks], "strength": dials.strength}
        elif self._size is not None:
            more |= {"height": self._size[0], "width": self._size[1]}
        if dials.guidance is not None:
            more["guidance_scale"] = dials.guidance
        if any(ask.negative is not None for ask in asks):
            more["negative_prompt"] = [ask.negative or "" for ask in asks]
        if "eta" in inspect.signature(pipe.__call__).parameters:
            more["eta"] = self._eta
        with torch.inference_mode():
            made = pipe(
                prompt=[ask.prompt for ask in asks],
                num_inference_steps=dials.steps,
                generator=generators(asks),
                output_type="np",
                **more,
            )
        flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(asks)
        drawn = to_bytes(np.asarray(made.images, dtype=np.float32))
        return ["safety checker" if flag else one for one, flag in zip(drawn, flagged, strict=True)]


def _given(ask: Ask) -> np.ndarray:
    assert ask.parent is not None
    return ask.parent if ask.parent.ndim == 3 else np.repeat(ask.parent[:, :, None], 3, axis=2)
