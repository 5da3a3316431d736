"""Draws text as pixels: finds fonts that have a text's letters, and draws a text by its parameters."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pe_beam.errors import RecipeError

# matplotlib also ships symbol fonts and a last resort, whose "letters" are boxes and signs.
_TEXT_FONTS = ("DejaVu", "STIXGeneral", "cmb10", "cmr10", "cmss10", "cmtt10")
_SCALE = 2  # text is drawn this much larger and averaged down
_CELLS = 4  # the warp is exact on a grid of this many cells along each side, bilinear between


def picture(state: dict[str, Any], *, side: int, fonts: str) -> np.ndarray:
    """Returns how much ink lies on each pixel, uint8 (side, side).

    Args:
      state: a candidate's parameters.
      side: pixels, even.
      fonts: the option `fonts` of the recipe.
    """
    big = side * _SCALE
    canvas = Image.new("L", (big, big), 0)
    pen = ImageDraw.Draw(canvas)
    stroke = state["stroke"] * big
    with _lent_fonts() as found:
        font = _font(found, fonts, state["font"], round(state["size"] * big))
        left, top, right, bottom = pen.textbbox((0, 0), state["text"], font=font, stroke_width=stroke)
        at = ((big - left - right) / 2, (big - top - bottom) / 2)
        pen.text(at, state["text"], fill=255, font=font, stroke_width=stroke)
    canvas = canvas.transform((big, big), Image.Transform.MESH, _mesh(state, big), Image.Resampling.BILINEAR)
    return np.asarray(canvas.reduce(_SCALE))


def coloured(ink: np.ndarray, background: list[int], colour: list[int]) -> np.ndarray:
    """Mixes background and colour by how much ink lies on each pixel. Returns uint8 (side, side, 3), rounded."""
    share = ink[:, :, None].astype(np.int64)
    mixed = (255 - share) * np.array(background) + share * np.array(colour)
    return ((mixed + 127) // 255).astype(np.uint8)


def _mesh(state: dict[str, Any], big: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Returns Pillow's inverse map: boxes of the output -> corners (NW, SW, SE, NE) of the input that they show.

    In half-sides from the middle: first shift, rotation and scale along x, then x + bend (y^2 - 1/3) + wave sin(pi y)
    and y + waist (1 - y^2).
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


@functools.lru_cache(maxsize=8)
def _font_files(fonts: str) -> dict[str, str]:
    if fonts == "matplotlib":
        # Those that matplotlib ships, without its import: that takes longer than to read them.
        spec = importlib.util.find_spec("matplotlib")
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
        wanted: tuple[str, ...] = _TEXT_FONTS
    else:
        folder, wanted = Path(fonts.removesuffix("**")), ("",)
    try:
        every = list(folder.iterdir())
    except OSError as error:
        raise RecipeError(f"generator.fonts: {fonts!r} cannot be listed ({error.strerror})") from None
    every = list(folder.rglob("*")) if fonts.endswith("/**") else every
    found = sorted(path for path in every if path.suffix.lower() in (".ttf", ".otf"))
    return {path.relative_to(folder).as_posix(): str(path) for path in found if path.name.startswith(wanted)}


@functools.lru_cache(maxsize=256)
def fonts_for(fonts: str, text: str) -> list[str]:
    """Returns the sorted names of fonts that have a glyph for every letter of a text.

    Raises RecipeError for a file that is not a font.
    """
    usable = []
    for name, path in _font_files(fonts).items():
        try:
            letters = _letters(path)
        except Exception as error:  # fontTools raises many kinds of exceptions if it is not a font
            raise RecipeError(f"generator.fonts: {name!r} there is no font ({type(error).__name__})") from None
        if all(ord(letter) in letters for letter in text if not letter.isspace()):
            usable.append(name)
    return usable


@functools.lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[int]:
    """Reads which code points a font file has a glyph for."""
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        # The names of glyphs are not needed, and reading them takes ten times as long as the rest.
        font.setGlyphOrder([str(place) for place in range(font["maxp"].numGlyphs)])
        return frozenset(font.getBestCmap() or {})


_Fonts = dict[tuple[str, str, int], ImageFont.FreeTypeFont]
_free: list[_Fonts] = []  # that no thread draws with now


@contextlib.contextmanager
def _lent_fonts() -> Iterator[_Fonts]:
    """Lends fonts to a thread alone, because threads cannot safely share FreeType faces.

    No thread keeps them: Beam's pools keep threads that have nothing to do, and fonts for digits have some 50 MB.
    """
    try:
        found = _free.pop()
    except IndexError:
        found = {}
    try:
        yield found
    finally:
        _free.append(found)


def _font(found: _Fonts, fonts: str, name: str, size: int) -> ImageFont.FreeTypeFont:
    key = (fonts, name, size)
    if key not in found:
        if len(found) > 2000:
            found.clear()
        found[key] = ImageFont.truetype(_font_files(fonts)[name], max(size, 1))
    return found[key]
