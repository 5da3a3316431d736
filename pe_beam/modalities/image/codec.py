"""Images as bytes and as arrays. What cannot be read is a fault with a fixed name, never Pillow's own words.

One policy for each kind of file (docs/images.md has them as a table):

- 8 bits gray, colour, palette, 1 bit: as they are. 16 bits: gray scaled by 1/257, colour by its high byte.
- CMYK, YCbCr: Pillow's plain conversion; colour profiles are not applied. 32 bits, float, Lab: a reject, for no file
  says what range they use.
- Transparency lies over white. EXIF rotation is applied. Animations and files of several pages are a reject; of the
  pictures of a camera's MPO the first counts.
- Over `MAX_PIXELS` pixels: a reject, seen in the header, before anything is unpacked.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pe_beam.modalities.base import Fault

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is read (MPO by the reader of JPEG): none that starts another program (EPS) or that a Pillow may lack (AVIF)."""

Image.init()  # all readers now, once, and not at the first picture
ImageFile.LOAD_TRUNCATED_IMAGES = False
# Pillow warns of sizes and tags of single files, and a worker would write that into its log (rule 7).
warnings.filterwarnings("ignore", module=r"PIL\.")


def encode_png(array: np.ndarray) -> bytes:
    """uint8 (h, w) gray or (h, w, 3) RGB -> PNG bytes, the same for the same pixels."""
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, format="PNG", optimize=False)
    return sink.getvalue()


def decode_image(data: object, *, mode: str) -> Image.Image | Fault:
    """The bytes of any image file -> an "L" or "RGB" picture, by the policies of this module.

    Args:
      data: the file's bytes.
      mode: "L" or "RGB".
    """
    if not isinstance(data, bytes):
        return Fault("image that is missing or not bytes")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if (fault := _refused(image)) is not None:
            return fault
        image.load()
        return _convert(ImageOps.exif_transpose(image), mode)
    except Image.DecompressionBombError:
        return Fault("image of too many pixels")
    except Exception as error:  # Pillow's readers raise of every kind on what is not an image
        return Fault("image that cannot be read", type(error).__name__)


def _refused(image: Image.Image) -> Fault | None:
    """What the header alone rules out. Some Pillows call a 16-bit PNG "I"."""
    if image.width * image.height > MAX_PIXELS:
        return Fault("image of too many pixels", f"{image.width} x {image.height}")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return Fault("image of several frames or pages")
    sixteen = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode in ("F", "I", "LAB", "HSV") and not sixteen:
        return Fault("image of 32-bit, float or Lab values", image.mode)
    return None


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(np.round(values / 257), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)
