"""Pictures from text: `random` with a text-to-image pipeline, `vary` with its image-to-image sibling."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.painter import Ask, Dials, Drawn, Painter, generators, to_bytes


class Prompted(Painter):
    """A pipeline of diffusers' auto classes: Stable Diffusion, SDXL, SD3, Flux and similar ones."""

    def __init__(self, pipeline: Any, *, size: tuple[int, int] | None, eta: float) -> None:
        """Takes a text-to-image pipeline on its device. Its image-to-image sibling shares its weights.

        Args:
          pipeline: a pipeline of diffusers.
          size: (height, width) of all pictures; None: the pipeline's own.
          eta: the parameter eta of DDIM.

        Raises:
          RecipeError: the pipeline cannot draw that size.
        """
        from diffusers import AutoPipelineForImage2Image

        self._random = pipeline
        self._vary = AutoPipelineForImage2Image.from_pipe(pipeline)
        self._vary.set_progress_bar_config(disable=True)
        if size is not None:
            _check_size(pipeline, size)
        self._size = size or _own_size(pipeline)
        self._eta = eta

    def paint(self, asks: Sequence[Ask], dials: Dials) -> list[Drawn]:
        """See `Painter`."""
        import torch

        pipe, more = self._random, dict[str, Any]()
        if dials.first is not None:
            pipe = self._vary
            given = [self._given(ask) for ask in asks]
            if dials.first >= dials.steps:  # no step is left to do
                return list(given)
            more |= {"image": [Image.fromarray(each) for each in given], "strength": dials.strength}
        if self._size is not None and "height" in _taken(pipe):
            more |= {"height": self._size[0], "width": self._size[1]}
        if dials.guidance is not None:
            more["guidance_scale"] = dials.guidance
        if any(ask.negative is not None for ask in asks):
            more["negative_prompt"] = [ask.negative or "" for ask in asks]
        if "eta" in _taken(pipe):
            more["eta"] = self._eta
        with torch.inference_mode(), _same_precision(pipe):
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

    def _given(self, ask: Ask) -> np.ndarray:
        """Returns a parent in RGB and in the common size. A pipeline would use the first parent's size for all."""
        assert ask.parent is not None
        picture = Image.fromarray(ask.parent).convert("RGB")
        size = picture.size if self._size is None else self._size[::-1]
        return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC))


def _taken(pipe: Any) -> Any:
    return inspect.signature(pipe.__call__).parameters


def _check_size(pipeline: Any, size: tuple[int, int]) -> None:
    """Raises RecipeError for a size that a pipeline refuses or rounds. Transformers take squares of latents."""
    square = 1 if getattr(pipeline, "unet", None) is not None else getattr(pipeline, "patch_size", None) or 2
    whole = int(getattr(pipeline, "vae_scale_factor", 8) * square)
    if any(side % whole for side in size):
        raise RecipeError(
            f"generator.size: {list(size)} is not allowed; multiples of {whole} are wanted by {type(pipeline).__name__}"
        )


def _own_size(pipeline: Any) -> tuple[int, int] | None:
    """Returns the height and width that a pipeline draws by default; None: not known."""
    unet = getattr(pipeline, "unet", None)
    side = getattr(pipeline, "default_sample_size", None) or (None if unet is None else unet.config.sample_size)
    scale = getattr(pipeline, "vae_scale_factor", None)
    if side is None or scale is None:
        return None
    height, width = (side, side) if isinstance(side, int) else side
    return int(height * scale), int(width * scale)


@contextmanager
def _same_precision(pipe: Any) -> Iterator[None]:
    """Restores the autoencoder's precision. SDXL raises it to decode, and would keep it if memory runs out then."""
    autoencoder = getattr(pipe, "vae", None)
    before = getattr(autoencoder, "dtype", None)
    try:
        yield
    finally:
        if autoencoder is not None and autoencoder.dtype != before:
            autoencoder.to(before)
