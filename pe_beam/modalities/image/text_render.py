"""Generator `text-render`: a simulator that draws a label's text (Sim-PE, arXiv 2502.05505, section 4).

A candidate's `state` holds all its parameters, so that a variation starts from them and a picture can be drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.generator import Step
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.schedules import setting, settings
from pe_beam.modalities.image.text_drawing import coloured, fonts_for, picture
from pe_beam.modalities.variables import Schedule

Range = tuple[float, float]
Channel = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]


class Colours(contracts.Options):
    """Two ends of a range of colours, [red, green, blue] from 0 to 255: each channel is drawn by itself."""

    background: tuple[Colour, Colour] = Field(((0, 0, 0), (255, 255, 255)), description="behind the text")
    ink: tuple[Colour, Colour] = Field(((0, 0, 0), (255, 255, 255)), description="of the text")


class Moves(contracts.Options):
    """How far a variation goes, each a schedule; null: by `evolution.degree`.

    Of font and text the probability that they are drawn again; of all else the widest move, in the units of its range.
    """

    font: Schedule | None = Field(None, description="probability of another draw; null: degree")
    text: Schedule | None = Field(None, description="the same, of `any_text`")
    size: Schedule | None = Field(None, description="widest move; null: degree times half the range")
    stroke: Schedule | None = Field(None, description="the same")
    rotation: Schedule | None = Field(None, description="the same")
    offset: Schedule | None = Field(None, description="the same")
    scale_x: Schedule | None = Field(None, description="the same")
    bend: Schedule | None = Field(None, description="the same")
    wave: Schedule | None = Field(None, description="the same")
    waist: Schedule | None = Field(None, description="the same")
    colour: Schedule | None = Field(None, description="the same, of each channel")


class TextRenderOptions(contracts.Options):
    """Options of `text-render`; lengths are shares of the side, but for bend, wave and waist."""

    side: int = Field(32, gt=0, le=1024, multiple_of=4, description="pixels, a multiple of 4")
    fonts: str = Field(
        "matplotlib",
        description="those that matplotlib ships, or a folder of .ttf and .otf; FOLDER/** takes those below it as well",
        json_schema_extra={"public": ["matplotlib"]},
    )
    texts: dict[str, str] = Field(
        default_factory=dict,
        description="label -> text; default: the label itself",
        json_schema_extra={"public": True},
    )
    size: Range = Field((0.8, 1.3), description="font size")
    stroke: Range = Field((0.0, 0.06), description="width added around the glyph")
    rotation: Range = Field((-20.0, 20.0), description="degrees")
    offset: Range = Field((-0.1, 0.1), description="shift along x and along y")
    scale_x: Range = Field((0.7, 1.3), description="horizontal scale")
    # Distortions that handwriting has and type does not have, in half-sides.
    bend: Range = Field((0.0, 0.0), description="the upright becomes an arc: middle against ends")
    wave: Range = Field((0.0, 0.0), description="the upright becomes an S: upper half against lower")
    waist: Range = Field((0.0, 0.0), description="the middle moves up (above 0) or down; from -0.45 to 0.45")
    any_text: Annotated[list[str], NEWER] = Field(
        default_factory=list,
        description="texts of which every candidate draws one, whatever its label; in place of `texts`",
        json_schema_extra={"public": True},
    )
    colour: Annotated[Colours | None, NEWER] = Field(None, description="RGB pictures; null: white on black, gray")
    moves: Annotated[Moves, NEWER] = Field(
        default_factory=Moves, description="how far a variation goes", json_schema_extra={"public": True}
    )


_PARAMETERS = {"size": "size", "stroke": "stroke", "rotation": "rotation", "dx": "offset", "dy": "offset"}
_PARAMETERS |= {name: name for name in ("scale_x", "bend", "wave", "waist")}


class TextRender(contracts.Generator):
    """Draws white text on black as gray PNG; with `colour` as RGB PNG."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = TextRenderOptions

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Raises RecipeError if a label has no text, or no font that can draw it."""
        self._options = TextRenderOptions.model_validate(options.model_dump())
        self._ranges: dict[str, Range] = {k: getattr(self._options, v) for k, v in _PARAMETERS.items()}
        _check_ranges(self._options)
        self._fonts: dict[str | None, list[str]] = {}
        for label in labels:
            # A font must have the letters of every possible text, so that font and text are drawn independently.
            text = "".join(self._options.any_text) or self._text(label)
            if not text.strip():
                raise RecipeError(
                    f"generator.texts: there is no text to draw for label {label!r}; data.labels, or a text for each "
                    "label, is wanted, or another generator"
                )
            self._fonts[label] = fonts_for(self._options.fonts, text)
            if not self._fonts[label]:
                raise RecipeError(f"generator.fonts: no font there has every letter of {text!r}")

    def _text(self, label: str | None) -> str:
        return self._options.texts.get(label or "", label or "")

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. Raises RecipeError if a schedule does not fit the run's iterations."""
        for name, value in self._options.moves:
            if value is not None:
                settings(value, surroundings.iterations, name=f"generator.moves.{name}", most=_most(name))

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Draws every parameter uniformly in its range, and the font among those that have the text's letters."""
        states = []
        for label, rng in zip(labels, rngs, strict=True):
            state: dict[str, Any] = {"font": self._fonts[label][int(rng.integers(len(self._fonts[label])))]}
            state |= {name: _short(rng.uniform(low, high)) for name, (low, high) in self._ranges.items()}
            any_text = self._options.any_text
            text = any_text[int(rng.integers(len(any_text)))] if any_text else self._text(label)
            states.append(state | {"text": text} | self._colours(rng))
        return self._draw(states)

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Moves each parameter by up to its width in `moves`, or by degree times half its range.

        A parameter that leaves its range is reflected into it. The font, and a text out of `any_text`, is drawn again
        with its probability in `moves`, or with probability `degree`.
        """
        states = []
        rows = zip(parents["state"].to_pylist(), parents["label"].to_pylist(), rngs, strict=True)
        again, another = self._move("font", step), self._move("text", step)
        widths = {name: self._move(_PARAMETERS[name], step, *range_) for name, range_ in self._ranges.items()}
        for text, label, rng in rows:
            state = json.loads(text)
            if rng.random() < again:
                state["font"] = self._fonts[label][int(rng.integers(len(self._fonts[label])))]
            for name, (low, high) in self._ranges.items():
                moved = state[name] + rng.uniform(-1, 1) * widths[name]
                state[name] = _short(min(max(_reflect(moved, low, high), low), high))
            if self._options.any_text and rng.random() < another:
                state["text"] = self._options.any_text[int(rng.integers(len(self._options.any_text)))]
            states.append(state | self._colours(rng, state, step) | {"degree": step.degree})
        return self._draw(states)

    def _move(self, name: str, step: Step, low: float = 0.0, high: float = 2.0) -> float:
        """Returns a probability (of font and text), or the widest move within a range."""
        value = getattr(self._options.moves, name)
        if value is None:
            return step.degree * (high - low) / 2
        return setting(value, step, name=f"generator.moves.{name}", most=_most(name))

    def _colours(
        self, rng: np.random.Generator, parent: dict[str, Any] | None = None, step: Step | None = None
    ) -> dict[str, list[int]]:
        """Draws or moves background and ink. Returns an empty dict if pictures are gray."""
        if self._options.colour is None:
            return {}
        found: dict[str, list[int]] = {}
        for name, ends in self._options.colour:
            found[name] = []
            for place, (low, high) in enumerate((min(pair), max(pair)) for pair in zip(*ends, strict=True)):
                if parent is None or step is None:
                    found[name].append(int(rng.integers(low, high, endpoint=True)))
                    continue
                width = self._move("colour", step, low, high)
                moved = _reflect(parent[name][place] + rng.uniform(-1, 1) * width, low, high)
                found[name].append(round(min(max(moved, low), high)))
        return found

    def _draw(self, states: list[dict[str, Any]]) -> pa.Table:
        images = []
        for state in states:
            ink = picture(state, side=self._options.side, fonts=self._options.fonts)
            images.append(encode_png(coloured(ink, state["background"], state["ink"]) if "ink" in state else ink))
        texts = [json.dumps(state, sort_keys=True, separators=(",", ":")) for state in states]
        return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})


def _check_ranges(options: TextRenderOptions) -> None:
    for name in dict.fromkeys(_PARAMETERS.values()):
        low, high = getattr(options, name)
        if not low <= high:
            raise RecipeError(f"generator.{name}: [{low}, {high}] is not [least, most]")
    if options.size[0] <= 0 or options.scale_x[0] <= 0 or options.stroke[0] < 0:
        raise RecipeError("generator: size and scale_x have to be above 0, stroke 0 or more")
    if max(map(abs, options.waist)) > 0.45:  # from 0.5 on the map is not one to one
        raise RecipeError(f"generator.waist: {list(options.waist)} is not within [-0.45, 0.45]")
    if options.any_text and options.texts:
        raise RecipeError("generator.any_text: not beside texts, which says the text of each label; one of both")
    if any(not text.strip() for text in options.any_text):
        raise RecipeError("generator.any_text: an empty text; something to draw is wanted")


def _most(name: str) -> float:
    return 1.0 if name in ("font", "text") else float("inf")


def _short(value: float) -> float:
    return round(float(value), 5)


def _reflect(value: float, low: float, high: float) -> float:
    return 2 * low - value if value < low else 2 * high - value if value > high else value
