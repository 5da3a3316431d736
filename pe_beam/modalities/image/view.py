"""Pictures in a report. Each picture is stored once, as a tile of a sheet in the page's style.

Small pictures stay sharp (pixelated when enlarged). Large pictures become thumbnails. If there are many pictures, the
thumbnails are smaller, so that the size of a report is bounded.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from PIL import Image

from pe_beam.contracts.record import Fault
from pe_beam.contracts.view import History, Section, View
from pe_beam.modalities.image.asked import asked_sections, prompt_of
from pe_beam.modalities.image.codec import decode_image

_SIDES = (96, 64, 48, 32, 24)
_MOST_BYTES = 4_500_000
_ON_A_SHEET = 256
_ACROSS = 16
_SHARP = 32
_SAID = 200  # characters of a prompt in the text for screen readers


class ImageView(View):
    """Shows pictures as tiles of shared sheets: PNG if a sheet is grey or has few colours, else JPEG (quality 85)."""

    tile = True
    gallery_size = 24

    def __init__(self) -> None:
        """Starts with no picture drawn."""
        self._places: dict[bytes, int] = {}
        self._tiles: list[Image.Image] = []

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """Returns the HTML of a picture. A picture that cannot be read is a hatched tile that says so."""
        data = record["image"]
        place = self._places.get(data)
        if place is None:
            image = decode_image(data, mode="RGB")
            if isinstance(image, Fault):
                return Markup('<span class="px none" role="img" aria-label="a damaged picture"></span>')
            place = self._places[data] = len(self._tiles)
            self._tiles.append(_fitted(image, _SIDES[0]))
        sheet, tile = divmod(place, _ON_A_SHEET)
        return Markup('<span class="px s{}" style="--x:{};--y:{}" role="img" aria-label="{}"></span>').format(
            sheet, tile % _ACROSS, tile // _ACROSS, self.alt(record)
        )

    def alt(self, record: Mapping[str, Any]) -> str:
        """Returns number, label and prompt. Nothing else is known about a picture's content."""
        label, prompt = record["label"], prompt_of(record.get("state"))
        said = f"picture {record['candidate_id']}" + (f", label {label}" if label is not None else "")
        return said if prompt is None else f"{said}, asked for as: {prompt[:_SAID]}"

    def sections(self, history: History) -> Sequence[Section]:
        """Returns the prompts of pictures, how votes changed their numbers, and the rejected answers."""
        return asked_sections(history)

    def css(self) -> str:
        """Returns the sheets as data, with the largest tiles that keep all sheets together below the limit."""
        sheets = [self._tiles[start : start + _ON_A_SHEET] for start in range(0, len(self._tiles), _ON_A_SHEET)]
        for side in _SIDES:
            drawn = [_sheet([_fitted(tile, side) for tile in tiles]) for tiles in sheets]
            if sum(len(data) for _, data, _ in drawn) <= _MOST_BYTES:
                break
        rules = (_rule(f"s{i}", tiles, *one) for i, (tiles, one) in enumerate(zip(sheets, drawn, strict=True)))
        return "\n".join([_BASE, *rules])


_BASE = """.px{display:block;width:100%;aspect-ratio:1;border-radius:4px;background-color:#888;
image-rendering:pixelated;background-position:calc(var(--x)*100%/var(--w)) calc(var(--y)*100%/var(--h))}
.px.none{background:repeating-linear-gradient(45deg,var(--line) 0 6px,transparent 6px 12px)}"""


def _fitted(image: Image.Image, limit: int) -> Image.Image:
    if max(image.size) <= limit:
        return image
    scale = limit / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _sheet(tiles: list[Image.Image]) -> tuple[str, bytes, int]:
    """Returns the image format, the bytes and the side of a tile. Tiles are square, with pictures in their middle."""
    side = max(max(tile.size) for tile in tiles)
    across, rows = min(_ACROSS, len(tiles)), math.ceil(len(tiles) / _ACROSS)
    page = Image.new("RGB", (across * side, rows * side), (136, 136, 136))
    for place, tile in enumerate(tiles):
        left, top = place % _ACROSS * side, place // _ACROSS * side
        page.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    return *_encoded(page), side


def _rule(name: str, tiles: list[Image.Image], kind: str, data: bytes, side: int) -> str:
    across, rows = min(_ACROSS, len(tiles)), math.ceil(len(tiles) / _ACROSS)
    smooth = ";image-rendering:auto" if side > _SHARP else ""
    return (
        f".{name}{{--w:{max(across - 1, 1)};--h:{max(rows - 1, 1)};background-size:{across * 100}% {rows * 100}%;"
        f"background-image:url(data:image/{kind};base64,{base64.b64encode(data).decode()}){smooth}}}"
    )


def _encoded(page: Image.Image) -> tuple[str, bytes]:
    """Encodes a page as PNG if it is grey or has few colours, else as JPEG. The same page gives the same bytes."""
    sink = io.BytesIO()
    grey = page.convert("L")
    if grey.convert("RGB").tobytes() == page.tobytes():
        grey.save(sink, format="PNG")
    elif page.getcolors(256) is not None:
        page.quantize(256).save(sink, format="PNG")
    else:
        page.save(sink, format="JPEG", quality=85, subsampling=0)
        return "jpeg", sink.getvalue()
    return "png", sink.getvalue()
