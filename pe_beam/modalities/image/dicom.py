"""Pictures of DICOM files as a viewer shows them: rescaled values, in the file's own window or in declared levels.

PS3.3 of the standard (DICOM PS3, C.11) has the formulas; pydicom reads the files, and Pillow and GDCM what is
compressed in them. Nothing else of a file is used: no name, no date, no overlay.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pe_beam.contracts.record import Fault
from pe_beam.sources.dicom_files import read_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

_BY_PILLOW = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")  # JPEG baseline, JPEG 2000
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_STRIP = 256  # rows rescaled at a time
_RLE = 32 << 20
"""Largest size in bytes of a frame in RLE."""
SEVERAL, DEEP = "image of several frames or pages", "image of 32-bit, float or Lab values"
TOO_LARGE = "image of too many pixels"
"""Kinds of faults of any picture."""


def decode_dicom(data: bytes, *, levels: tuple[int, int] | None, most: int) -> Image.Image | Fault:
    """Returns an "L" or "RGB" picture.

    Args:
      data: a file that `is_dicom`.
      levels: of gray, the rescaled values (Hounsfield units of a CT) that become black and white. None: the file's
        first window or table of values of interest; without one, all values that its bits can store.
      most: largest number of pixels.

    Raises:
      Exception: of many kinds, if the file is damaged.
    """
    file = read_dicom(data)
    if isinstance(file, Fault):
        return file
    fault = _refused(file, most)
    if fault is not None:
        return fault
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    syntax = file.file_meta.TransferSyntaxUID
    plugin = "gdcm" if syntax.is_encapsulated and not _is_rle(file) else ""
    values = pixel_array(file, decoding_plugin="pillow" if syntax in _BY_PILLOW else plugin)
    kind = file.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        return Image.fromarray(_high_byte(apply_color_lut(values, file), 16))
    if kind in _COLOURS:
        return Image.fromarray(_high_byte(values, file.BitsStored))
    gray = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP):  # in float64, a picture of `most` pixels would take gigabytes
        shares = _shares(values[top : top + _STRIP], file, levels)
        gray[top : top + _STRIP] = np.floor(np.clip(shares, 0, 1) * 255 + 0.5)
    return Image.fromarray(255 - gray if kind == "MONOCHROME1" else gray)


def _refused(file: Dataset, most: int) -> Fault | None:
    """Returns the fault that the header shows; None: it shows none."""
    if "PixelData" not in file:
        deep = "FloatPixelData" in file or "DoubleFloatPixelData" in file
        return Fault(DEEP) if deep else Fault("DICOM file without a picture")
    if int(file.get("NumberOfFrames") or 1) > 1:
        return Fault(SEVERAL)
    if file.Rows * file.Columns > most or _lies(file, most):
        return Fault(TOO_LARGE, f"{file.Columns} x {file.Rows}")
    if file.BitsAllocated > 16:
        return Fault(DEEP, f"{file.BitsAllocated} bits")
    if file.PhotometricInterpretation not in (*_GRAY, *_COLOURS, "PALETTE COLOR"):
        return Fault("DICOM picture of other colours", str(file.PhotometricInterpretation))
    return None


def _lies(file: Dataset, most: int) -> bool:
    """Returns whether what is compressed may be far more than the file's header says, which a decoder would believe."""
    if not file.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    from pydicom.encaps import get_frame

    frame = get_frame(file.PixelData, 0, number_of_frames=1)
    if _is_rle(file):  # a byte may become 64, and none more than two where an encoder does its worst
        size = file.Rows * file.Columns * file.SamplesPerPixel * file.BitsAllocated // 8
        return len(frame) > min(2 * size + 4096, _RLE)
    return frame[:2] == b"\xff\xd8" and _in_jpeg(frame) > most


def _in_jpeg(frame: bytes) -> int:
    """Returns the pixels that the header of a JPEG claims, and a decoder believes; 0: it claims none."""
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        mark, length = frame[at + 1], struct.unpack_from(">H", frame, at + 2)[0]
        if (0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC)) or mark == 0xF7:  # a frame; of JPEG-LS
            tall, wide = struct.unpack_from(">HH", frame, at + 5)
            return int(tall * wide)
        at += 1 if mark == 0xFF else 2 + length
    return 0


def _is_rle(file: Dataset) -> bool:
    return bool(file.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5")


def _high_byte(values: np.ndarray, bits: int) -> np.ndarray:
    return values if values.dtype == np.uint8 else (values >> (bits - 8)).astype(np.uint8)


def _shares(values: np.ndarray, file: Dataset, levels: tuple[int, int] | None) -> np.ndarray:
    """Returns gray values as float64 shares of the way from black to white, before they are cut to [0, 1]."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    signed, bits = bool(file.PixelRepresentation), int(file.BitsStored)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    rescaled = np.asarray(apply_modality_lut(values, file), dtype=np.float64)
    if levels is not None:
        return (rescaled - levels[0]) / (levels[1] - levels[0])
    if file.get("VOILUTSequence"):
        told = file.VOILUTSequence[0].LUTDescriptor
        whole = rescaled.astype(np.int64)
        return np.asarray(apply_voi(whole, file), dtype=np.float64) / (2 ** int(told[2]) - 1)
    if (window := _window(file)) is not None:
        return _in_window(rescaled, *window, str(file.get("VOILUTFunction") or "LINEAR"))
    if file.get("ModalityLUTSequence"):
        return rescaled / (2 ** int(file.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    black, white = sorted(float(end) for end in apply_modality_lut(ends, file))  # a slope may be negative
    return (rescaled - black) / (white - black) if white > black else np.zeros_like(rescaled)


def _window(file: Dataset) -> tuple[float, float] | None:
    """Returns centre and width of the first window, if there is one that can be used."""
    found = [file.get(name) for name in ("WindowCenter", "WindowWidth")]
    if any(value is None or value == "" for value in found):
        return None
    centre, width = (float(value[0] if hasattr(value, "__len__") else value) for value in found)
    least = 1.0 if file.get("VOILUTFunction") in (None, "", "LINEAR") else 0.0
    return (centre, width) if np.isfinite(centre) and width >= least and width > 0 else None


def _in_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """Returns shares by the functions of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5
