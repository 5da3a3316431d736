"""Images as bytes and as arrays. What cannot be read is a fault with a fixed name, never Pillow's own words."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pe_beam.modalities.base import Fault

MAX_PIXELS = 64_000_000
ImageFile.LOAD_TRUNCATED_IMAGES = False


def encode_png(array: np.ndarray) -> bytes:
    """uint8 (h, w) gray or (h, w, 3) RGB -> PNG bytes, the same for the same pixels."""
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, format="PNG", optimize=False)
    return sink.getvalue()


def decode_image(data: object, *, mode: str) -> Image.Image | Fault:
    """Any image that Pillow reads -> an "L" or "RGB" picture.

    EXIF rotation is applied, transparency goes over white, 16 bits are scaled to 8, palettes and CMYK converted.

    Args:
      data: the file's bytes.
      mode: "L" or "RGB".
    """
    if not isinstance(data, bytes):
        return Fault("image that is missing or not bytes")
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            return Fault("image of too many pixels", f"{image.width} x {image.height}")
        image.load()
        image = ImageOps.exif_transpose(image)
        return _convert(image, mode)
    except Image.DecompressionBombError:
        return Fault("image of too many pixels")
    except Exception as error:  # Pillow's readers raise of every kind on what is not an image
        return Fault("image that cannot be read", type(error).__name__)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(np.round(values / 257), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)
