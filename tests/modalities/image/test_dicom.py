"""DICOM: files of many makers, as pydicom carries them, and pictures made here, against pydicom's own processing."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from pe_beam.contracts.record import Fault
from pe_beam.contracts.source import image_table
from pe_beam.modalities.image import codec
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.resize import Resize
from pe_beam.sources.dicom_files import quiet_pydicom

SECRET = "Zzsecret^Name"


def shipped(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path)).read_bytes()


def made(values: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **tags: object) -> bytes:
    """Returns a file of gray values, int16 or uint16, or of RGB, uint8."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.PatientName, file.PatientID = SECRET, "7"
    file.Rows, file.Columns = values.shape[:2]
    bits = 8 * values.dtype.itemsize
    file.SamplesPerPixel, file.BitsAllocated, file.BitsStored, file.HighBit = values[0, 0].size, bits, bits, bits - 1
    file.PhotometricInterpretation = "RGB" if values.ndim == 3 else "MONOCHROME2"
    file.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        file.PlanarConfiguration = 0
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    sink = io.BytesIO()
    file.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def gray(data: bytes, levels: tuple[int, int] | None = None) -> np.ndarray:
    found = decode_image(data, mode=None, levels=levels)
    assert isinstance(found, Image.Image) and found.mode == "L", found
    return np.asarray(found)


RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), ([50.5, -600], [350, 1500]), (0, 1), (100, 2.5)])
def test_a_window_is_as_pydicom_has_it(function, centre, width):
    data = made(
        RAMP, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function
    )
    file = pydicom.dcmread(io.BytesIO(data))
    wanted = apply_voi_lut(pydicom.pixels.apply_modality_lut(RAMP, file), file)
    least, most = 2 * -32768 - 10, 2 * 32767 - 10  # the range of pydicom's output
    shares = (wanted - least) / (most - least)
    assert np.abs(gray(data) - shares * 255).max() <= 0.5 + 1e-6


def test_declared_levels_are_in_rescaled_values_and_go_before_a_window():
    data = made(RAMP, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=100)
    shown = gray(data, levels=(-1000, 400))
    assert np.array_equal(shown, np.floor(np.clip((RAMP - 1024.0 + 1000) / 1400, 0, 1) * 255 + 0.5))
    inverted = made(RAMP, RescaleSlope=1, RescaleIntercept=-1024, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(gray(inverted, levels=(-1000, 400)), 255 - shown)
    prepared, faults = Resize(size=64, policy="crop", levels=(-1000, 400)).prepared(image_table([data]))
    assert not faults
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(prepared["image"][0].as_py()))), shown)


def test_without_a_window_all_that_the_bits_can_store_is_shown():
    values = np.array([[0, 2048, 4095]], np.uint16)
    assert gray(made(values, BitsStored=12, HighBit=11)).tolist() == [[0, 128, 255]]
    assert gray(made(np.array([[-2048, 0, 2047]], np.int16), BitsStored=12, HighBit=11)).tolist() == [[0, 128, 255]]
    slope = made(values, BitsStored=12, HighBit=11, RescaleSlope=3, RescaleIntercept=5)
    assert gray(slope).tolist() == [[0, 128, 255]]
    falling = made(values, BitsStored=12, HighBit=11, RescaleSlope=-1, RescaleIntercept=9)
    assert gray(falling).tolist() == [[255, 127, 0]]
    assert gray(made(values, BitsStored=12, HighBit=11, WindowCenter="", WindowWidth="")).tolist() == [[0, 128, 255]]


def test_a_table_of_values_of_interest_is_looked_up():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 10, 8], np.array([0, 100, 200, 255], "<u2").tobytes()
    data = made(np.array([[0, 10, 11, 12, 13, 99]], np.uint16), VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    assert gray(data).tolist() == [[0, 0, 100, 200, 255, 255]]
    assert gray(made(np.array([[0, 10, 11]], np.uint16), ModalityLUTSequence=[table])).tolist() == [[0, 0, 100]]


def test_colours_are_as_they_are():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    found = decode_image(made(values), mode=None)
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), values)
    assert decode_image(made(values), mode="L").mode == "L"
    assert decode_image(shipped("examples_palette.dcm"), mode=None).mode == "RGB"


SAME = [
    *("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"),
    *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
]


@pytest.mark.parametrize("name", SAME[1:])
def test_a_picture_is_the_same_however_it_is_stored(name):
    assert np.array_equal(gray(shipped(name)), gray(shipped(SAME[0])))


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle_16bit.dcm"]
)
def test_colours_are_nearly_the_same_however_they_are_stored(name):
    first = np.asarray(decode_image(shipped("SC_rgb_dcmtk_+eb+cr.dcm"), mode=None)).astype(int)
    assert np.abs(np.asarray(decode_image(shipped(name), mode=None)).astype(int) - first).max() <= 5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rtdose.dcm", "image of several frames or pages"),
        ("SC_rgb_rle_2frame.dcm", "image of several frames or pages"),
        ("rtdose_1frame.dcm", "image of 32-bit, float or Lab values"),
        ("rtplan.dcm", "DICOM file without a picture"),
        ("waveform_ecg.dcm", "DICOM file without a picture"),
        ("MR_truncated.dcm", "image that cannot be read"),
        ("badVR.dcm", "image that cannot be read"),
        ("meta_missing_tsyntax.dcm", "image that cannot be read"),
        ("image_dfl.dcm", "DICOM file that is deflated as a whole"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_kind(name, kind):
    found = decode_image(shipped(name), mode="RGB")
    assert isinstance(found, Fault) and found.kind == kind


def test_no_size_that_a_file_claims_is_believed(monkeypatch):
    huge = made(np.zeros((2, 2), np.uint16), Rows=60_000, Columns=60_000)
    assert decode_image(huge, mode="L") == Fault("image of too many pixels", "60000 x 60000")
    jpeg = bytes.fromhex("ffd8 ffe0 0004 0000 ffc3 000b 10 ffff ffff 01 01 11 00".replace(" ", "")) + bytes(50)
    inside = made(np.zeros((2, 2), np.uint16), syntax=JPEGLosslessSV1, PixelData=encapsulate([jpeg]))
    assert decode_image(inside, mode="L").kind == "image of too many pixels"
    runs = made(np.zeros((2, 2), np.uint16), syntax=RLELossless, PixelData=encapsulate([b"\x81\0" * 5000]))
    assert decode_image(runs, mode="L").kind == "image of too many pixels"
    monkeypatch.setattr(codec, "MAX_PIXELS", 3)
    assert decode_image(made(np.zeros((2, 2), np.uint16)), mode="L").kind == "image of too many pixels"


def test_a_deflated_file_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("zlib.decompress", None)
    monkeypatch.setattr("zlib.decompressobj", None)
    assert decode_image(shipped("image_dfl.dcm"), mode="L").kind == "DICOM file that is deflated as a whole"


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_a_fault_and_nothing_is_said_of_a_file(seed, capfd, caplog):
    rng = np.random.default_rng(seed)
    files = [made(RAMP), *(shipped(name) for name in ("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"))]
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as heard:
        quiet_pydicom.cache_clear()  # pytest has its own filters of warnings, and takes ours away after a test
        for data in files:
            for _ in range(25):
                spoilt = bytearray(data)
                for at in rng.integers(132, min(len(data), 3000), 4):
                    spoilt[at] = rng.integers(256)
                cut = bytes(spoilt[: rng.integers(132, len(data))]) if rng.random() < 0.3 else bytes(spoilt)
                found = decode_image(cut, mode="RGB")
                assert isinstance(found, Fault | Image.Image)
    out = capfd.readouterr()
    assert (out.out, out.err, caplog.text) == ("", "", "")
    assert not [each for each in heard if "pydicom" in str(each.filename)]


def test_without_pydicom_the_fault_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    quiet_pydicom.cache_clear()
    assert decode_image(made(RAMP), mode="L") == Fault("DICOM file, which pe_beam[dicom] reads")
