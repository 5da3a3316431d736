"""Generator `text-render`: a simulator that draws a label's text (Sim-PE, arXiv 2502.05505, section 4).

A candidate's `state` is all its parameters, so that a variation starts from them and a picture can be drawn again.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.generator import Step
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.codec import encode_png

Range = tuple[float, float]
# matplotlib also ships symbol fonts and a last resort, whose "letters" are boxes and signs.
_TEXT_FONTS = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmtt10")
_SCALE = 2  # text is drawn this much larger and averaged down
_CELLS = 4  # the warp is exact on a grid of this many cells along each side, bilinear between


class TextRenderOptions(contracts.Options):
    """Options of `text-render`; lengths are shares of the side, but for bend, wave and waist."""

    side: int = Field(32, gt=0, le=1024, multiple_of=8, description="pixels, a multiple of 8")
    fonts: str = Field(
        "matplotlib",
        description="those that matplotlib ships, or a folder of .ttf and .otf",
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
    # What a pen does and type does not, in half-sides.
    bend: Range = Field((0.0, 0.0), description="the upright becomes an arc: middle against ends")
    wave: Range = Field((0.0, 0.0), description="the upright becomes an S: upper half against lower")
    waist: Range = Field((0.0, 0.0), description="the middle moves up (above 0) or down; from -0.45 to 0.45")


_PARAMETERS = {"size": "size", "stroke": "stroke", "rotation": "rotation", "dx": "offset", "dy": "offset"}
_PARAMETERS |= {name: name for name in ("scale_x", "bend", "wave", "waist")}


class TextRender(contracts.Generator):
    """White text on black, gray PNG."""

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = TextRenderOptions

    def __init__(self, options: BaseModel, *, labels: Sequence[str | None]) -> None:
        """Checks that every label has a text and a font that can draw it; raises RecipeError."""
        self._options = TextRenderOptions.model_validate(options.model_dump())
        self._ranges: dict[str, Range] = {k: getattr(self._options, v) for k, v in _PARAMETERS.items()}
        for name, (low, high) in self._ranges.items():
            if not low <= high:
                raise RecipeError(f"generator.{_PARAMETERS[name]}: [{low}, {high}] is not [least, most]")
        if self._options.size[0] <= 0 or self._options.scale_x[0] <= 0 or self._options.stroke[0] < 0:
            raise RecipeError("generator: size and scale_x have to be above 0, stroke 0 or more")
        if max(map(abs, self._options.waist)) > 0.45:  # from 0.5 on the map is not one to one
            raise RecipeError(f"generator.waist: {list(self._options.waist)} is not within [-0.45, 0.45]")
        self._fonts: dict[str | None, list[str]] = {}
        for label in labels:
            text = self._text(label)
            if not text.strip():
                raise RecipeError(
                    f"generator.texts: there is no text to draw for label {label!r}; data.labels, or a text for each "
                    "label, is wanted, or another generator"
                )
            self._fonts[label] = _fonts_for(self._options.fonts, text)
            if not self._fonts[label]:
                raise RecipeError(f"generator.fonts: no font there has every letter of {text!r}")

    def _text(self, label: str | None) -> str:
        return self._options.texts.get(label or "", label or "")

    def random(self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Every parameter uniform in its range, the font among those that have the text's letters."""
        states = []
        for label, rng in zip(labels, rngs, strict=True):
            state: dict[str, Any] = {"font": self._fonts[label][int(rng.integers(len(self._fonts[label])))]}
            state |= {name: _short(rng.uniform(low, high)) for name, (low, high) in self._ranges.items()}
            states.append(state | {"text": self._text(label)})
        return self._draw(states)

    def vary(self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator]) -> pa.Table:
        """Each parameter moves by up to degree times half its range and is reflected into it.

        The font is drawn again with probability `degree`.
        """
        states = []
        rows = zip(parents["state"].to_pylist(), parents["label"].to_pylist(), rngs, strict=True)
        for text, label, rng in rows:
            state = json.loads(text)
            if rng.random() < step.degree:
                state["font"] = self._fonts[label][int(rng.integers(len(self._fonts[label])))]
            for name, (low, high) in self._ranges.items():
                moved = state[name] + rng.uniform(-1, 1) * step.degree * (high - low) / 2
                state[name] = _short(min(max(_reflect(moved, low, high), low), high))
            states.append(state | {"degree": step.degree})
        return self._draw(states)

    def _draw(self, states: list[dict[str, Any]]) -> pa.Table:
        images = [encode_png(self._picture(state)) for state in states]
        texts = [json.dumps(state, sort_keys=True, separators=(",", ":")) for state in states]
        return pa.table({"state": pa.array(texts, pa.string()), "image": pa.array(images, pa.binary())})

    def _picture(self, state: dict[str, Any]) -> np.ndarray:
        side = self._options.side
        big = side * _SCALE
        font = _font(self._options.fonts, state["font"], round(state["size"] * big))
        canvas = Image.new("L", (big, big), 0)
        pen = ImageDraw.Draw(canvas)
        stroke = state["stroke"] * big
        left, top, right, bottom = pen.textbbox((0, 0), state["text"], font=font, stroke_width=stroke)
        at = ((big - left - right) / 2, (big - top - bottom) / 2)
        pen.text(at, state["text"], fill=255, font=font, stroke_width=stroke)
        canvas = canvas.transform((big, big), Image.Transform.MESH, _mesh(state, big), Image.Resampling.BILINEAR)
        return np.asarray(canvas.reduce(_SCALE))


def _mesh(state: dict[str, Any], big: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Pillow's inverse map: boxes of the output -> corners (NW, SW, SE, NE) of what they show of the input.

    Half-sides from the middle: shift, rotation and scale along x, then x + bend (y^2 - 1/3) + wave sin(pi y) and
    y + waist (1 - y^2).
    """
    edges = [i * big // _CELLS for i in range(_CELLS + 1)]
    x, y = np.meshgrid(*[2 * np.array(edges) / big - 1] * 2)
    x, y = x - 2 * state["dx"], y - 2 * state["dy"]
    angle = np.deg2rad(state["rotation"])
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = (cos * x - sin * y) / state["scale_x"], cos * y + sin * x
    x = x + state["bend"] * (y**2 - 1 / 3) + state["wave"] * np.sin(np.pi * y)
    y = y + state["waist"] * (1 - y**2)
    corners = (np.stack([x, y], axis=-1) + 1) * big / 2
    mesh: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for i, j in np.ndindex(_CELLS, _CELLS):
        quad = [corners[i, j], corners[i + 1, j], corners[i + 1, j + 1], corners[i, j + 1]]
        mesh.append(((edges[j], edges[i], edges[j + 1], edges[i + 1]), tuple(np.concatenate(quad).tolist())))
    return mesh


def _short(value: float) -> float:
    return round(float(value), 5)


def _reflect(value: float, low: float, high: float) -> float:
    return 2 * low - value if value < low else 2 * high - value if value > high else value


@functools.lru_cache(maxsize=8)
def _font_files(fonts: str) -> dict[str, str]:
    if fonts == "matplotlib":
        import matplotlib

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        wanted: tuple[str, ...] = _TEXT_FONTS
    else:
        folder, wanted = Path(fonts), ("",)
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".ttf", ".otf"))
        found = [path for path in found if path.name.startswith(wanted)]
    except OSError as error:
        raise RecipeError(f"generator.fonts: {fonts!r} cannot be listed ({error.strerror})") from None
    return {path.name: str(path) for path in found}


@functools.lru_cache(maxsize=256)
def _fonts_for(fonts: str, text: str) -> list[str]:
    """Names of fonts, sorted, that have a glyph for every letter of a text."""
    from fontTools.ttLib import TTFont

    usable = []
    for name, path in _font_files(fonts).items():
        with TTFont(path, lazy=True) as font:
            cmap = font.getBestCmap() or {}
        if all(ord(letter) in cmap for letter in text if not letter.isspace()):
            usable.append(name)
    return usable


_LOCAL = threading.local()


def _font(fonts: str, name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of its own for every thread: FreeType faces are not safe to share."""
    cache = _LOCAL.__dict__.setdefault("fonts", {})
    key = (fonts, name, size)
    if key not in cache:
        if len(cache) > 2000:
            cache.clear()
        cache[key] = ImageFont.truetype(_font_files(fonts)[name], max(size, 1))
    font: ImageFont.FreeTypeFont = cache[key]
    return font
