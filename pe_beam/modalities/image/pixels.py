"""Embedder `pixels`: the pixels of a picture, reduced in size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import BaseModel, Field

from pe_beam import contracts
from pe_beam.contracts.embedder import Embedding
from pe_beam.contracts.newer import NEWER
from pe_beam.contracts.record import Fault
from pe_beam.modalities.image.codec import decode_image


class PixelsOptions(contracts.Options):
    """Options of `pixels`."""

    size: int | tuple[int, int] = Field(8, description="side, or [height, width]")
    mode: Literal["gray", "rgb"] = Field("gray", description="one value a pixel, or three")
    resize: Annotated[bool, NEWER] = Field(True, description="false: a picture of another size is a reject")


class Pixels(contracts.Embedder):
    """Resizes by averaging areas and flattens to float32 in [0, 1], row by row of the picture.

    Without `resize` the pixels are taken as they are, and a picture of another size than `size` abstains.
    """

    modality = "image"
    Options: ClassVar[type[contracts.Options]] = PixelsOptions

    def __init__(self, options: BaseModel) -> None:
        """Takes PixelsOptions."""
        from pe_beam.errors import RecipeError

        own = PixelsOptions.model_validate(options.model_dump())
        size = own.size
        self._height, self._width = (size, size) if isinstance(size, int) else size
        if not (1 <= self._height <= 4096 and 1 <= self._width <= 4096):
            raise RecipeError(f"embedder.size: {size!r} is not allowed; 1 to 4096 is wanted")
        self._resize = own.resize
        self._mode = "L" if own.mode == "gray" else "RGB"
        self.dimension = self._height * self._width * (1 if self._mode == "L" else 3)

    def embed(self, records: pa.Table) -> Embedding:
        """Embeds the column `image`."""
        images: Sequence[object] = records["image"].to_pylist()
        vectors = np.zeros((len(images), self.dimension), dtype=np.float32)
        faults: dict[int, Fault] = {}
        for row, data in enumerate(images):
            image = decode_image(data, mode=self._mode)
            if isinstance(image, Fault):
                faults[row] = image
            elif not self._resize and image.size != (self._width, self._height):
                faults[row] = Fault("image of another size than embedder.size", f"{image.width} x {image.height}")
            else:
                vectors[row] = self._shrink(image).ravel()
        return Embedding(vectors, faults)

    def _shrink(self, image: Image.Image) -> np.ndarray:
        wide, tall = image.size
        if (tall, wide) == (self._height, self._width):
            return np.asarray(image, dtype=np.float64) / 255  # blocks of one pixel, without the cost of forming them
        if tall % self._height or wide % self._width:
            small = image.resize((self._width, self._height), Image.Resampling.BOX)
            return np.asarray(small, dtype=np.float64) / 255
        # Whole blocks are averaged without the rounding to 8 bits of Pillow's resize. Sums of bytes are exact, so one
        # row of blocks at a time gives the same result, and a large picture is never held as float64.
        blocks = np.asarray(image).reshape(self._height, tall // self._height, self._width, wide // self._width, -1)
        return np.stack([row.mean(axis=(0, 2), dtype=np.float64) for row in blocks]) / 255
