"""What a model without text says of itself in its configuration, before any weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.diffusion.options import DiffusersOptions


@dataclass(frozen=True, kw_only=True)
class Known:
    """Facts of a denoiser.

    Attributes:
      channels: of what the denoiser takes.
      shape: height and width of what it takes: pixels, or latents.
      scale: pixels a latent; 1 without an autoencoder.
      mode: of its pictures, "L" or "RGB".
      classes: their number; None: it has none.
      null: the class that stands for none, for guidance; None: there is none.
    """

    channels: int
    shape: tuple[int, int]
    scale: int
    mode: str
    classes: int | None
    null: int | None


def known(denoiser: Mapping[str, Any], autoencoder: Mapping[str, Any] | None, options: DiffusersOptions) -> Known:
    """Reads the facts from configurations that have all their keys, and checks the recipe against them.

    Raises:
      RecipeError: the denoiser has no known size, its pictures have neither 1 nor 3 channels, or the recipe wants
        classes or guidance that the model does not have.
    """
    side = denoiser.get("sample_size")
    if side is None:
        raise RecipeError("generator.model: its configuration has no sample_size, so that no size is known")
    channels = denoiser["in_channels"]
    pictured = channels if autoencoder is None else autoencoder["out_channels"]
    if pictured not in (1, 3):
        raise RecipeError(f"generator.model: pictures of {pictured} channels; 1 (gray) or 3 (RGB) is wanted")
    is_dit = "num_embeds_ada_norm" in denoiser
    classes = denoiser["num_embeds_ada_norm"] if is_dit else denoiser.get("num_class_embeds")
    null = classes if is_dit and options.null_class is None else options.null_class
    _check_classes(options, classes, last=classes if is_dit else (classes or 0) - 1)
    return Known(
        channels=channels,
        shape=(side, side) if isinstance(side, int) else (int(side[0]), int(side[1])),
        scale=1 if autoencoder is None else 2 ** (len(autoencoder["block_out_channels"]) - 1),
        mode="L" if pictured == 1 else "RGB",
        classes=classes,
        null=null,
    )


def _check_classes(options: DiffusersOptions, classes: int | None, *, last: int | None) -> None:
    """Raises RecipeError for classes that the model does not have. `last` is the largest that null_class may be."""
    guided = options.random.guidance is not None or options.vary.guidance is not None
    if classes is None or last is None:
        if options.classes is not None:
            raise RecipeError(f"generator.classes: {options.model!r} knows no classes")
        if guided or options.null_class is not None:
            raise RecipeError("generator.random.guidance: wants a model with classes, and null_class, the one for none")
        return
    for own in (options.classes or {}).values():
        most = max(own) if isinstance(own, list) else own
        if most >= classes:
            raise RecipeError(f"generator.classes: {most} is not one of the model's classes 0 to {classes - 1}")
        if options.null_class is not None and options.null_class in (own if isinstance(own, list) else [own]):
            raise RecipeError(
                f"generator.classes: {options.null_class} is null_class, the model's class for none; the others of 0 "
                f"to {classes - 1} are allowed"
            )
    if options.null_class is not None and options.null_class > last:
        raise RecipeError(f"generator.null_class: {options.null_class} is not allowed; 0 to {last} is wanted")
    if options.null_class is not None and options.null_class < classes and options.classes is None:
        raise RecipeError(
            f"generator.classes: wanted beside null_class; without it {options.null_class} would be drawn for a label "
            f"as any other of the model's classes 0 to {classes - 1}"
        )
    if guided and options.null_class is None and last < classes:
        raise RecipeError("generator.random.guidance: wants a model with classes, and null_class, the one for none")
