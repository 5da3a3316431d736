"""Images: PNG codec, resizing, the text-render simulator, the pixels embedder. Pillow and NumPy; no Beam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.image.resize import Resize

if TYPE_CHECKING:
    from pe_beam.contracts.asking import Asker, Seen


def _preview(samples: pa.Table, note: str | None) -> bytes:
    from pe_beam.modalities.image.preview import samples_grid

    return samples_grid(samples, note)


def _view() -> View:
    from pe_beam.modalities.image.view import ImageView

    return ImageView()


def _start(asker: Asker, seen: Seen, data: Mapping[str, Any]) -> Mapping[str, Any]:
    from pe_beam.modalities.image.start import start

    return start(asker, seen, data)


MODALITY = Modality(
    name="image",
    payload=pa.schema([("image", pa.binary())]),
    preview=_preview,
    preparation=Resize,
    view=_view,
    start=_start,
)
