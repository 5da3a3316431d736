"""`data.prepare` of images: resizes all private pictures to one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from pe_beam.contracts.content import Preparation
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.record import Fault

if TYPE_CHECKING:
    from PIL import Image

_MOST = 4096
_BLACK, _WHITE = -32_768, 65_535  # the least and the largest value of 16 bits


def _levels(found: tuple[int, int]) -> tuple[int, int]:
    if not _BLACK <= found[0] < found[1] <= _WHITE:
        raise ValueError(f"[black, white] is wanted, {_BLACK} to {_WHITE}, black below white")
    return found


Levels = Annotated[tuple[int, int], AfterValidator(_levels)]
"""Values of 16-bit gray that become black and white; of CT, in Hounsfield units."""


class Resize(Preparation):
    """Every picture `size` large, before it is embedded and before `evaluate` looks at it."""

    size: int | tuple[int, int] = Field(description="pixels: the side, or [height, width]; 1 to 4096")
    policy: Literal["squeeze", "crop", "pad"] = Field(
        description="squeeze: the ratio of the sides changes; crop: the largest part in the middle that has the ratio; "
        "pad: all of it in the middle, on a background"
    )
    filter: Literal["box", "bilinear", "bicubic", "lanczos"] = Field(
        "bicubic", description="Pillow's, all of which average where a picture is made smaller"
    )
    background: Literal["black", "white"] = Field("black", description="of pad")
    levels: Annotated[Levels | None, NEWER] = Field(
        None,
        description="of 16-bit gray: the values that become black and white, declared, not read off the data; "
        "[0, 4095]: scans of 12 bits; [-1000, 400]: lungs in a CT's DICOM files; null: 0 and "
        "65535, or a DICOM file's own window",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(1 <= side <= _MOST for side in self._shape):
            raise ValueError(f"size: 1 to {_MOST} is wanted")
        return self

    @property
    def _shape(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def prepared(self, payload: pa.Table) -> tuple[pa.Table, dict[int, Fault]]:
        """Returns the column `image` as PNG files of the size. Without `levels` a file of that size stays unchanged."""
        images: list[bytes | None] = []
        faults: dict[int, Fault] = {}
        for row, data in enumerate(payload["image"].to_pylist()):
            image = self._resized(data)
            if isinstance(image, Fault):
                faults[row] = image
            images.append(None if isinstance(image, Fault) else image)
        return pa.table([pa.array(images, pa.binary())], schema=payload.schema), faults

    def _resized(self, data: object) -> bytes | Fault:
        import numpy as np
        from PIL import Image

        from pe_beam.modalities.image.codec import decode_image, encode_png

        image = decode_image(data, mode=None, levels=self.levels)
        if isinstance(image, Fault):
            return image
        tall, wide = self._shape
        if image.size == (wide, tall) and isinstance(data, bytes) and self.levels is None:
            return data
        method = Image.Resampling[self.filter.upper()]
        if self.policy == "pad":
            made = Image.new(image.mode, (wide, tall), self.background)
            scale = min(wide / image.width, tall / image.height)
            inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            made.paste(image.resize(inner, method), ((wide - inner[0]) // 2, (tall - inner[1]) // 2))
        else:
            # Cut out first: with `resize(box=...)` the filters would look beyond the box.
            part = _middle(image, tall, wide) if self.policy == "crop" else image
            made = part.resize((wide, tall), method)
        return encode_png(np.asarray(made))


def _middle(image: Image.Image, tall: int, wide: int) -> Image.Image:
    """Returns the largest region in the middle with sides of that ratio, in whole pixels."""
    across = min(image.width, max(1, round(image.height * wide / tall)))
    down = min(image.height, max(1, round(image.width * tall / wide)))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    return image.crop((left, top, left + across, top + down))
