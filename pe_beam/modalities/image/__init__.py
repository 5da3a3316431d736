"""Images: PNG codec, the text-render simulator, the pixels embedder. Pillow and NumPy; no Beam."""

from __future__ import annotations

import pyarrow as pa

from pe_beam.modalities.base import Modality, View


def _preview(samples: pa.Table, note: str | None) -> bytes:
    from pe_beam.modalities.image.preview import samples_grid

    return samples_grid(samples, note)


def _view() -> View:
    from pe_beam.modalities.image.view import ImageView

    return ImageView()


MODALITY = Modality(name="image", payload=pa.schema([("image", pa.binary())]), preview=_preview, view=_view)
