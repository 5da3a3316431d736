"""Generator `avatar`: cartoon faces of the package python-avatars (Sim-PE, arXiv 2502.05505, section 5).

A candidate's `state` has the values of its sixteen attributes, by name. resvg turns SVG into pixels. It draws the same
on every machine. Fonts are not used, so that the one shirt with a text shows no text.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.generator import Step
from pe_beam.contracts.record import Fault
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import MissingExtraError, RecipeError, StageError
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.schedules import setting, settings
from pe_beam.modalities.image.simulators.fitting import fitted
from pe_beam.modalities.variables import Schedule

_WIDTH, _HEIGHT = 264, 280  # of the package's drawings
_OFTEN_NONE = ("facial_hair", "accessory")
_CLASSES = {
    "style": ("AvatarStyle",),
    "background_color": ("BackgroundColor",),
    "top": ("HairType", "HatType"),
    "hat_color": ("ClothingColor",),
    "eyebrows": ("EyebrowType",),
    "eyes": ("EyeType",),
    "nose": ("NoseType",),
    "mouth": ("MouthType",),
    "facial_hair": ("FacialHairType",),
    "skin_color": ("SkinColor",),
    "hair_color": ("HairColor",),
    "facial_hair_color": ("HairColor",),
    "accessory": ("AccessoryType",),
    "clothing": ("ClothingType",),
    "clothing_color": ("ClothingColor",),
    "shirt_graphic": ("ClothingGraphic",),
}
"""Attribute, as the package's Avatar names it -> the package's enumerations of its values."""


class AvatarOptions(contracts.Options):
    """Options of `avatar`."""

    side: int = Field(32, ge=1, le=1024, description="pixels")
    crop: tuple[int, int, int, int] | None = Field(
        (40, 40, 224, 224),
        description="left, top, right, bottom of what is shown of the drawing's 264 x 280; null: all; then the middle "
        "square of it",
    )
    choices: dict[str, list[str]] = Field(
        default_factory=dict,
        description="attribute -> the names that it may have, as python-avatars has them; default: all",
        json_schema_extra={"public": True},
    )
    mutation: Schedule | None = Field(
        None, description="probability that a variation draws an attribute again; null: degree"
    )


class Avatar(contracts.Generator):
    """Draws cartoon faces by sixteen attributes, as RGB PNG over white. Labels have no effect."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = AvatarOptions

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Looks up the values of each attribute. Raises RecipeError, or MissingExtraError without the packages."""
        self._options = AvatarOptions.model_validate(options.model_dump())
        every = _values()
        for attribute, wanted in self._options.choices.items():
            if attribute not in every:
                raise RecipeError(f"generator.choices: {attribute!r} is no attribute (allowed: {', '.join(every)})")
            unknown = [name for name in wanted if name not in every[attribute]]
            if unknown or not wanted:
                allowed = f"one or more of {', '.join(every[attribute])} are wanted"
                raise RecipeError(f"generator.choices.{attribute}: {unknown} are not allowed; {allowed}")
        self._names = {
            attribute: [name for name in values if name in self._options.choices.get(attribute, values)]
            for attribute, values in every.items()
        }
        crop = self._options.crop
        if crop is not None and not (0 <= crop[0] < crop[2] <= _WIDTH and 0 <= crop[1] < crop[3] <= _HEIGHT):
            raise RecipeError(f"generator.crop: {list(crop)} is no part of [0, 0, {_WIDTH}, {_HEIGHT}]")

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if the schedule does not fit the run's iterations."""
        if self._options.mutation is not None:
            settings(self._options.mutation, surroundings.iterations, name="generator.mutation", most=1)

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws every attribute uniformly, except facial hair and accessory: NONE half the time, else uniform."""
        return self._draw([{name: self._drawn(name, rng) for name in self._names} for rng in rngs])

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws each attribute again with probability `mutation`. The new value may equal the old one."""
        value = self._options.mutation
        share = step.degree if value is None else setting(value, step, name="generator.mutation", most=1)
        states = []
        for text, rng in zip(parents["state"].to_pylist(), rngs, strict=True):
            state = json.loads(text)
            states.append({
                name: self._drawn(name, rng) if rng.random() < share else state[name] for name in self._names
            })  # fmt: skip
        return self._draw(states)

    def _drawn(self, attribute: str, rng: np.random.Generator) -> str:
        names = self._names[attribute]
        if attribute in _OFTEN_NONE and "NONE" in names and rng.random() < 0.5:
            return "NONE"
        return names[int(rng.integers(len(names)))]

    def _draw(self, states: Sequence[dict[str, str]]) -> pa.Table:
        images = [self._picture(state) for state in states]
        texts = [json.dumps(state, separators=(",", ":")) for state in states]
        return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})

    def _picture(self, state: dict[str, str]) -> bytes:
        import resvg_py
        from python_avatars import Avatar as Drawing

        every = _values()
        svg = Drawing(**{name: every[name][value] for name, value in state.items()}, shirt_text="").render()
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=_WIDTH, height=_HEIGHT, skip_system_fonts=True))
        image = decode_image(png, mode="RGB")
        if isinstance(image, Fault):
            raise StageError(f"generator: resvg drew no picture ({image.kind})")
        shown = image if self._options.crop is None else image.crop(self._options.crop)
        return encode_png(np.asarray(fitted(shown, self._options.side)))


@functools.lru_cache(maxsize=1)
def _values() -> dict[str, dict[str, Any]]:
    """Returns attribute -> name -> the package's value, in the package's order."""
    try:
        import python_avatars
        import resvg_py  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"generator.name: avatar needs the package {error.name}; install pe_beam[image]"
        ) from error
    found: dict[str, dict[str, Any]] = {}
    for attribute, classes in _CLASSES.items():
        values: dict[str, Any] = {}
        for cls in classes:
            # Hair and hats both have a NONE: two of the 61 tops, as the package's own random draw counts them.
            for each in getattr(python_avatars, cls):
                values[f"{cls}.{each.name}" if each.name in values else each.name] = each
        found[attribute] = values
    return found
