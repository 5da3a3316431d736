"""One policy for each kind of image file: what docs/images.md promises, kind by kind."""

import io
import logging
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from pe_beam.contracts.record import Fault
from pe_beam.modalities.image.codec import FORMATS, decode_image


def _file(image, kind="PNG", **options):
    sink = io.BytesIO()
    image.save(sink, format=kind, **options)
    return sink.getvalue()


def _png(width, height, bits, colour, rows):
    """A PNG written by hand, for what Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _values(data, mode="RGB"):
    image = decode_image(data, mode=mode)
    assert not isinstance(image, Fault), image
    return np.asarray(image)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
def test_white_is_white_in_every_mode(mode):
    white = Image.new("RGB", (8, 8), "white").convert(mode)
    assert _values(_file(white, "TIFF" if mode == "CMYK" else "PNG"), "L").min() >= 254


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read(kind):
    assert _values(_file(Image.new("RGB", (16, 16), (200, 200, 200)), kind)).mean() == pytest.approx(200, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_gray_are_scaled(kind):
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert _values(_file(Image.fromarray(values), kind), "L").tolist() == [[0, 1, 128, 255]]


def test_of_sixteen_bits_colour_the_high_byte_counts():
    row = b"\0" + struct.pack(">6H", 65535, 32896, 0, 255, 256, 514)
    assert _values(_png(2, 1, 16, 2, row)).tolist() == [[[255, 128, 0], [0, 1, 2]]]


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert _values(_file(image)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_cmyk_becomes_the_colour_that_it_prints():
    assert _values(_file(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF"))[0, 0].tolist() == [0, 255, 255]


def test_transparency_lies_over_white():
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert _values(_file(half), "L")[0, 0] == pytest.approx(127, abs=1)
    clear = Image.new("P", (2, 2), 0)
    assert _values(_file(clear, transparency=0), "L").min() == 255


def test_the_rotation_of_a_camera_is_applied():
    """Orientation 6: what is stored lies on its left side, so its left edge is the top of the picture."""
    stored = Image.new("L", (16, 8), 0)
    stored.paste(255, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = _values(_file(stored, "JPEG", exif=exif, quality=95), "L")
    assert upright.shape == (16, 8)
    assert upright[:7].mean() > 240 and upright[9:].mean() < 15


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_several_frames_are_a_reject(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("black", "white")]
    found = decode_image(_file(frames[0], kind, save_all=True, append_images=frames[1:]), mode="L")
    assert found == Fault("image of several frames or pages")


def test_of_a_cameras_mpo_the_first_picture_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("black", "white")]
    assert _values(_file(frames[0], "MPO", save_all=True, append_images=frames[1:])).max() < 5


@pytest.mark.parametrize("values", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70000, np.int32)])
def test_values_without_a_range_are_a_reject(values):
    assert decode_image(_file(Image.fromarray(values), "TIFF"), mode="L").kind == "image of 32-bit, float or Lab values"


def test_lab_is_a_reject():
    assert isinstance(decode_image(_file(Image.new("LAB", (4, 4)), "TIFF"), mode="RGB"), Fault)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest resets what the codec filters
@pytest.mark.parametrize("side", [8_001, 12_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side, monkeypatch):
    def unpack(self):
        raise AssertionError("a bomb was unpacked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", unpack)
    assert decode_image(_png(side, side, 8, 0, b""), mode="L").kind == "image of too many pixels"


def test_no_format_that_runs_another_program():
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    assert decode_image(page, mode="L").kind == "image that cannot be read"


_DAMAGE = """
import io, random
from PIL import Image
from pe_beam.modalities.image.codec import decode_image
for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "JPEG2000"):
    sink = io.BytesIO()
    Image.effect_noise((24, 24), 60).save(sink, format=kind)
    for seed in range(200):
        draw = random.Random(seed)
        broken = bytearray(sink.getvalue())
        for _ in range(4):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        decode_image(bytes(broken[: draw.randrange(1, len(broken) + 1)]), mode="RGB")
print("done")
"""


def test_damage_is_a_fault_or_a_picture_and_says_nothing():
    """No damaged file makes anything but a fault or a picture, and no library talks of it on a worker's stderr."""
    found = subprocess.run([sys.executable, "-c", _DAMAGE], capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("done\n", "")


_TIFFS = """
import io, sys
from PIL import Image
from pe_beam.modalities.image.codec import decode_image
for kind in ("tiff_adobe_deflate", "jpeg", "tiff_lzw"):
    sink = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(sink, format="TIFF", compression=kind)
    for start in range(8, len(sink.getvalue()) - 40, 97):
        broken = bytearray(sink.getvalue())
        broken[start : start + 40] = bytes(40)
        decode_image(bytes(broken), mode="L")
print("done", file=sys.stderr)
"""


def test_libtiff_says_nothing_of_single_files_and_stderr_is_there_again():
    found = subprocess.run([sys.executable, "-c", _TIFFS], capture_output=True, text=True, check=True)
    assert found.stderr == "done\n"


def test_pillow_logs_nothing_of_single_files(caplog):
    sink = io.BytesIO()
    Image.new("RGB", (5, 5)).save(sink, format="TIFF")
    samples = struct.pack("<HHI", 277, 3, 1)  # SamplesPerPixel: one SHORT, whose value follows
    head, tag, rest = sink.getvalue().partition(samples)
    with caplog.at_level(logging.DEBUG):
        found = decode_image(head + tag + struct.pack("<H", 29186) + rest[2:], mode="RGB")
    assert tag and isinstance(found, Fault)
    assert not caplog.records


def test_strips_change_nothing():
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 65536, (700, 3), dtype=np.uint16)
    assert (_values(_file(Image.fromarray(gray)), "L") == np.round(gray / 257)).all()
    colours = Image.fromarray(rng.integers(0, 256, (700, 3, 4), dtype=np.uint8))
    whole = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    assert (_values(_file(colours)) == np.asarray(whole)).all()


def test_a_sixteen_bit_colour_that_is_clear_lies_over_white():
    values = Image.fromarray(np.full((2, 2), 32896, np.uint16))
    assert _values(_file(values, transparency=32896), "L").min() == 255
