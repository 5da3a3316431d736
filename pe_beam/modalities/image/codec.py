"""Converts images between bytes and arrays. An unreadable image is a fault with a fixed name, never Pillow's message.

There is one policy for each kind of file (docs/images.md has them as a table):

- 8 bits gray, colour, palette, 1 bit: as they are. 16 bits: gray scaled by 1/257 or from declared levels, colour by its
  high byte.
- CMYK, YCbCr: Pillow's plain conversion; colour profiles are not applied. 32 bits, float, Lab: a reject, because no
  file says what range they use.
- Transparent pictures are placed over white. EXIF rotation is applied. Animations and files of several pages are
  rejects. Of the pictures in a camera's MPO file the first is used.
- DICOM: as a viewer shows it (`dicom`).
- Over `MAX_PIXELS` pixels: a reject. The header shows it, before anything is unpacked.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps

from pe_beam.contracts.record import Fault
from pe_beam.modalities.image.dicom import DEEP, SEVERAL, TOO_LARGE, decode_dicom
from pe_beam.sources.dicom_files import is_dicom

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
"""Formats that are read (MPO by the reader of JPEG). None starts another program (EPS) or is optional (AVIF)."""

for _name in ("Png", "Jpeg", "Mpo", "Bmp", "Gif", "Tiff", "WebP", "Ppm", "Jpeg2K"):  # now, not at the first picture
    importlib.import_module(f"PIL.{_name}ImagePlugin")
ImageFile.LOAD_TRUNCATED_IMAGES = False
_STRIP = 256  # rows converted at a time
_STDERR = threading.Lock()
# Pillow warns of sizes and tags of single files, and logs some, and a worker would write that into its log (rule 7).
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def encode_png(array: np.ndarray) -> bytes:
    """Encodes uint8 (h, w) gray or (h, w, 3) RGB as PNG. The same pixels give the same bytes."""
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, format="PNG", optimize=False)
    return sink.getvalue()


def decode_image(data: object, *, mode: str | None, levels: tuple[int, int] | None = None) -> Image.Image | Fault:
    """Decodes the bytes of any image file to an "L" or "RGB" picture, by the policies of this module.

    Args:
      data: the file's bytes.
      mode: "L" or "RGB"; None: "L" for a gray picture, "RGB" for any other and for 8-bit gray with transparency.
      levels: of gray of 16 bits and of DICOM files, the values that become black and white; values beyond them do too.
        None: 0 and 65535, and of a DICOM file its own window.
    """
    if not isinstance(data, bytes):
        return Fault("image that is missing or not bytes")
    try:
        if is_dicom(data):
            return _of_dicom(data, mode, levels)
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if (fault := _refused(image)) is not None:
            return fault
        with _unheard() if image.format == "TIFF" else contextlib.nullcontext():
            image.load()
        return _convert(ImageOps.exif_transpose(image), mode, levels)
    except Image.DecompressionBombError:
        return Fault(TOO_LARGE)
    except Exception as error:  # Pillow's readers raise many kinds of exceptions if it is not an image
        return Fault("image that cannot be read", type(error).__name__)


def _of_dicom(data: bytes, mode: str | None, levels: tuple[int, int] | None) -> Image.Image | Fault:
    with _unheard():
        image = decode_dicom(data, levels=levels, most=MAX_PIXELS)
    return image if isinstance(image, Fault) else _convert(image, mode, levels)


def _refused(image: Image.Image) -> Fault | None:
    """Returns the fault that the header shows; None: it shows none. Some Pillows give a 16-bit PNG the mode "I"."""
    if image.width * image.height > MAX_PIXELS:
        return Fault(TOO_LARGE, f"{image.width} x {image.height}")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        return Fault(SEVERAL)
    sixteen = image.mode == "I" and image.format in ("PNG", "PPM")
    if image.mode in ("F", "I", "LAB", "HSV") and not sixteen:
        return Fault(DEEP, image.mode)
    return None


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Silences libtiff and GDCM. They write faults of a file to descriptor 2, so a log would tell of single records."""
    with _STDERR:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _convert(image: Image.Image, mode: str | None, levels: tuple[int, int] | None) -> Image.Image:
    """Converts a picture to a mode. Large steps run in strips, because a picture may have `MAX_PIXELS` pixels."""
    if image.mode.startswith("I"):
        image = _in_strips(image, "L", functools.partial(_eight_bits, levels=levels))
    elif image.has_transparency_data:
        image = _in_strips(image, "RGB", _over_white)
    if mode is None:
        mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _in_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    made = Image.new(mode, image.size)
    for top in range(0, image.height, _STRIP):
        made.paste(change(image.crop((0, top, image.width, min(top + _STRIP, image.height)))), (0, top))
    return made


def _eight_bits(image: Image.Image, *, levels: tuple[int, int] | None) -> Image.Image:
    values, (black, white) = np.asarray(image).astype(np.int32), levels or (0, 65_535)
    span = white - black
    gray = np.clip(((values - black) * 510 + span) // (2 * span), 0, 255).astype(np.uint8)  # halves go up
    clear = image.info.get("transparency")
    return Image.fromarray(gray if clear is None else np.where(values == clear, np.uint8(255), gray))


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
