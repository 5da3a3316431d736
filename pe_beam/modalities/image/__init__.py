"""Images: PNG codec, resizing, generators, embedders, metrics. Pillow and NumPy, torch only where needed; no Beam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured, only_with
from pe_beam.contracts.modality import Modality
from pe_beam.contracts.view import View
from pe_beam.modalities.image.metrics.options import OPTIONS, SPACES, WRN, read_options
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


@only_with(SPACES)
def _spaces(comparison: Comparison) -> Measured:
    from pe_beam.modalities.image.metrics.spaces import other_spaces

    return other_spaces(comparison)


def _small_cnn(comparison: Comparison) -> Measured:
    from pe_beam.modalities.image.metrics.classifiers import small_cnn

    return small_cnn(comparison)


@only_with(WRN)
def _wide_resnet(comparison: Comparison) -> Measured:
    from pe_beam.modalities.image.metrics.classifiers import wide_resnet

    return wide_resnet(comparison)


MODALITY = Modality(
    name="image",
    payload=pa.schema([("image", pa.binary())]),
    preview=_preview,
    preparation=Resize,
    view=_view,
    metrics=(_spaces, _small_cnn, _wide_resnet),
    metric_options=OPTIONS,
    read_metric_options=read_options,
    start=_start,
)
