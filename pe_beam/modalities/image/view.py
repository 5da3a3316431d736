"""Pictures in a report: each is stored once, as a tile of a sheet that the page's style shares.

Small pictures stay sharp (pixelated when enlarged); large ones become thumbnails, so that a report of many stays small.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from PIL import Image

from pe_beam.modalities.base import Fault, View
from pe_beam.modalities.image.codec import decode_image

_SMALL, _LARGE = 64, 192
_ON_A_SHEET = 256


class ImageView(View):
    """Pictures as tiles of shared sheets: PNG where colours are few, JPEG (quality 85) else."""

    tile = True
    gallery_size = 24

    def __init__(self) -> None:
        """Starts with no picture drawn."""
        self._places: dict[tuple[bytes, int], int] = {}
        self._tiles: dict[int, list[Image.Image | None]] = {_SMALL: [], _LARGE: []}

    def fragment(
        self, record: Mapping[str, Any], parent: Mapping[str, Any] | None = None, *, large: bool = False
    ) -> Markup:
        """A picture; one that cannot be read is a grey tile that says so."""
        data, limit = record["image"], _LARGE if large else _SMALL
        image = self._opened(data)
        if image is None:
            return Markup('<span class="px none" role="img" aria-label="{}"></span>').format(
                "a picture that is damaged"
            )
        if max(image.size) <= _SMALL:
            limit = _SMALL  # enlarging is the style's business
        place = self._places.setdefault((data, limit), len(self._tiles[limit]))
        if place == len(self._tiles[limit]):
            self._tiles[limit].append(_fitted(image, limit))
        sheet, tile = divmod(place, _ON_A_SHEET)
        x, y = tile % _columns(_ON_A_SHEET), tile // _columns(_ON_A_SHEET)
        return Markup('<span class="px s{}-{}" style="--x:{};--y:{}" role="img" aria-label="{}"></span>').format(
            limit, sheet, x, y, self.alt(record)
        )

    def alt(self, record: Mapping[str, Any]) -> str:
        """Number and label: what a picture shows beyond its label is not known."""
        label = record["label"]
        return f"picture {record['candidate_id']}" + (f", label {label}" if label is not None else "")

    def css(self) -> str:
        """The sheets, as data."""
        rules = [_BASE]
        for limit, tiles in self._tiles.items():
            for sheet, start in enumerate(range(0, len(tiles), _ON_A_SHEET)):
                own = tiles[start : start + _ON_A_SHEET]
                rules.append(_rule(f"s{limit}-{sheet}", [tile for tile in own if tile is not None]))
        return "\n".join(rules)

    def _opened(self, data: object) -> Image.Image | None:
        image = decode_image(data, mode="RGB")
        return None if isinstance(image, Fault) else image


_BASE = """.px{display:block;width:100%;aspect-ratio:1;border-radius:4px;background-color:#888;
image-rendering:pixelated;background-position:calc(var(--x)*100%/var(--w)) calc(var(--y)*100%/var(--h))}
.px.none{background:repeating-linear-gradient(45deg,var(--line) 0 6px,transparent 6px 12px)}"""


def _columns(tiles: int) -> int:
    return max(1, math.isqrt(tiles))


def _fitted(image: Image.Image, limit: int) -> Image.Image:
    if max(image.size) <= limit:
        return image
    scale = limit / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _rule(name: str, tiles: list[Image.Image]) -> str:
    """One sheet: square places of the largest tile's side, each picture in the middle of its own."""
    side = max(max(tile.size) for tile in tiles)
    columns = _columns(_ON_A_SHEET)
    rows = math.ceil(len(tiles) / columns)
    across = min(columns, len(tiles))
    page = Image.new("RGB", (across * side, rows * side), (136, 136, 136))
    for place, tile in enumerate(tiles):
        left = place % columns * side + (side - tile.width) // 2
        page.paste(tile, (left, place // columns * side + (side - tile.height) // 2))
    kind, data = _encoded(page)
    smooth = ";image-rendering:auto" if side > _SMALL // 2 else ""
    return (
        f".{name}{{--w:{max(across - 1, 1)};--h:{max(rows - 1, 1)};background-size:{across * 100}% {rows * 100}%;"
        f"background-image:url(data:image/{kind};base64,{base64.b64encode(data).decode()}){smooth}}}"
    )


def _encoded(page: Image.Image) -> tuple[str, bytes]:
    """PNG of grey pages and of few colours, else JPEG: the same bytes for the same page."""
    sink = io.BytesIO()
    grey = page.convert("L")
    if grey.convert("RGB").tobytes() == page.tobytes():
        grey.save(sink, format="PNG", optimize=True)
    elif page.getcolors(256) is not None:
        page.quantize(256).save(sink, format="PNG", optimize=True)
    else:
        page.save(sink, format="JPEG", quality=85, subsampling=0)
        return "jpeg", sink.getvalue()
    return "png", sink.getvalue()
