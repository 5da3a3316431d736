"""One picture of many samples, with one row per label."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from pe_beam.contracts.record import Fault
from pe_beam.modalities.image.codec import decode_image

_CELL, _GAP, _COLUMNS, _MARGIN = 48, 4, 20, 72
_EDGE, _MOST = 8, 360  # beside a label, and the most that it may take, pixels
_LETTERS = 200  # no more than these are measured


def samples_grid(samples: pa.Table, note: str | None = None) -> bytes:
    """Returns PNG bytes: per label one row of samples at even steps, the label beside them, `note` in a bar on top.

    Args:
      samples: columns `label` and `image`.
      note: a warning such as NOT PRIVATE, or None.
    """
    rows: dict[str, list[bytes]] = {}
    for row in samples.select(["label", "image"]).to_pylist():
        rows.setdefault(row["label"] or "", []).append(row["image"])
    top = 40 if note else _GAP
    font = ImageFont.load_default(20)
    names = {label: _shortened(label, font) for label in rows}
    margin = max([_MARGIN, *(math.ceil(font.getlength(name)) + 2 * _EDGE for name in names.values())])
    width = margin + _COLUMNS * (_CELL + _GAP) + _GAP
    page = Image.new("RGB", (width, top + max(len(rows), 1) * (_CELL + _GAP) + _GAP), (250, 250, 250))
    pen = ImageDraw.Draw(page)
    if note:
        pen.rectangle((0, 0, width, 34), fill=(180, 20, 20))
        pen.text((_GAP * 2, 6), note, fill="white", font=font)
    for line, label in enumerate(sorted(rows)):
        y = top + line * (_CELL + _GAP)
        pen.text((_EDGE, y + 12), names[label], fill=(40, 40, 40), font=font)
        step = max(len(rows[label]) // _COLUMNS, 1)  # siblings are side by side, so even steps show more variety
        for column, data in enumerate(rows[label][::step][:_COLUMNS]):
            image = decode_image(data, mode="RGB")
            if not isinstance(image, Fault):
                page.paste(_fit(image), (margin + column * (_CELL + _GAP), y))
    sink = io.BytesIO()
    page.save(sink, format="PNG")
    return sink.getvalue()


def _shortened(label: str, font: Any) -> str:
    """Returns a label that fits. One that is too long loses its middle: combined labels often differ at their end."""
    label = " ".join(label.split())

    def of(kept: int) -> str:
        return label if kept >= len(label) else f"{label[: kept - kept // 2]}...{label[len(label) - kept // 2 :]}"

    kept = min(len(label), _LETTERS)
    while font.getlength(of(kept)) > _MOST:
        kept -= 1
    return of(kept)


def _fit(image: Image.Image) -> Image.Image:
    kind = Image.Resampling.NEAREST if max(image.size) <= _CELL else Image.Resampling.BOX
    scale = _CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, kind)
