"""WebDataset tars: records of members that have one key, hostile members, and every kind of damage."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from pe_beam.contracts import source as base
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.sources import tar
from tests.sources.test_damage import TEXT
from tests.sources.test_listed import kinds
from tests.sources.test_raw_pictures import with_options
from tests.sources.test_sources import joined, opened, read, refused

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def pack(file: Path, members: list[tuple[str, bytes]], *, form: int = tarfile.PAX_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def records(rows: int, *, first: int = 0) -> list[tuple[str, bytes]]:
    found = []
    for i in range(first, first + rows):
        found += [(f"{i:05d}.jpg", b"picture %d" % i), (f"{i:05d}.cls", b"%d" % (i % 3))]
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_records_are_read_in_order(tmp_path, monkeypatch, form):
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    monkeypatch.setattr(base, "BATCH_ROWS", 3)
    pack(tmp_path / "b.tar", records(6), form=FORMATS[form])
    pack(tmp_path / "a.tar", records(2, first=6), form=FORMATS[form])
    source = with_options("webdataset", tmp_path)
    assert [(p.file_index, p.start, p.stop) for p in source.pieces()] == [(0, 0, 2), (1, 0, 4), (1, 4, 6)]
    batches = read(source)
    assert [len(batch.labels) for batch in batches] == [2, 3, 1, 2]
    assert joined(batches, "image") == [b"picture %d" % i for i in (6, 7, 0, 1, 2, 3, 4, 5)]
    assert joined(batches, "labels") == [str(i % 3) for i in (6, 7, 0, 1, 2, 3, 4, 5)]
    assert joined(batches, "rows")[:3] == ["a.tar:0", "a.tar:1", "b.tar:0"]
    assert not kinds(batches)
    named = read(with_options("webdataset", tmp_path / "a.tar", {"names": ["cat", "dog"]}))
    assert joined(named, "labels") == ["cat", "dog"]
    assert joined(read(with_options("webdataset", tmp_path / "b.tar", {"names": ["cat", "dog"]})), "labels")[2] is None


LONG = "folder/" * 30 + "é" * 60


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_and_odd_names(tmp_path, form):
    members = [
        (f"{LONG}.jpg", b"1"),
        (f"{LONG}.cls", b"a"),
        ("x/a.b/1.JPG", b"2"),
        ("x/a.b/1.cls", b"b\n"),
        ("1", b"3"),
    ]
    pack(tmp_path / "x.tar", members, form=FORMATS[form])
    batches = read(with_options("webdataset", tmp_path))
    assert joined(batches, "image") == [b"1", b"2", None]
    assert joined(batches, "labels") == ["a", "b", None]
    assert kinds(batches) == ["record without a picture"]


def test_what_the_parts_of_a_record_may_be(tmp_path):
    members = [
        ("1.left.jpg", b"l"),
        ("1.right.jpg", b"r"),
        ("1.json", b'{"class": {"name": "cat", "sure": true, "number": 4.0}, "who": 17}'),
        ("1.txt", "a café".encode()),
        ("README", b"skipped"),
        (".hidden.jpg", b"skipped"),
        ("x/._1.jpg", b"skipped"),
    ]
    pack(tmp_path / "x.tar", members)

    def one(**columns) -> tuple[object, object, object, list[str]]:
        batches = read(with_options("webdataset", tmp_path, columns=columns, client="client" in columns))
        assert len(joined(batches, "rows")) == 1
        return joined(batches, "image")[0], joined(batches, "labels")[0], joined(batches, "clients")[0], kinds(batches)

    assert one()[3] == ["record with several pictures"]
    assert one(image="left.jpg", label="txt") == (b"l", "a café", None, [])
    assert one(image="right.jpg", label="json.class.name", client="json.who") == (b"r", "cat", "17", [])
    assert one(image="left.jpg", label="json.class.sure")[1] == "true"
    assert one(image="left.jpg", label="json.class.none")[1] is None
    assert one(image="left.jpg", label="json.class")[3] == ["label or client of a record that cannot be read"]
    assert one(image="left.jpg", label="nothing")[1] is None
    assert one(image="png")[3] == ["record without a picture"]
    refused(lambda: one(image="txt", label="txt"), RecipeError, "data.columns", "two roles")
    refused(lambda: one(pictures="txt"), RecipeError, "data.columns", "pictures")


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xff\xfe",
        b"{",
        b'{"a": ' * 100_000,
        b'{"a": NaN}{',
        b"x" * (2 << 20),
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\\ud800"}',
    ],
    ids=["no text", "cut", "deep", "two", "long", "a number of 5,000 digits", "half a character"],
)
def test_a_damaged_label_costs_its_own_record(tmp_path, damaged):
    members = [("1.jpg", b"1"), ("1.json", damaged), ("2.jpg", b"2"), ("2.json", b'{"a": 1}')]
    pack(tmp_path / "x.tar", members)
    batches = read(with_options("webdataset", tmp_path, columns={"label": "json.a"}))
    assert kinds(batches) == ["label or client of a record that cannot be read"]
    assert joined(batches, "labels")[1] == "1"


def test_a_part_that_comes_again_begins_another_record(tmp_path):
    pack(tmp_path / "x.tar", [("1.jpg", b"1"), ("1.cls", b"0"), ("1.jpg", b"2"), ("1.cls", b"1"), ("2.cls", b"2")])
    batches = read(with_options("webdataset", tmp_path))
    assert joined(batches, "image") == [b"1", b"2", None]
    assert joined(batches, "labels")[:2] == ["0", "1"]


def hostile(kind: bytes, **more) -> tarfile.TarInfo:
    info = tarfile.TarInfo("2.jpg")
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "symbolic link": hostile(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": hostile(tarfile.LNKTYPE, linkname="1.jpg"),
    "hard link with a size": hostile(tarfile.LNKTYPE, linkname="1.jpg", size=1 << 40),
    "device": hostile(tarfile.CHRTYPE, devmajor=1, devminor=5),
    "block device": hostile(tarfile.BLKTYPE),
    "pipe": hostile(tarfile.FIFOTYPE),
    "sparse": hostile(tarfile.GNUTYPE_SPARSE),
    "sparse by pax": hostile(tarfile.REGTYPE, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "99"}),
    "unknown": hostile(b"Z"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_a_reject_of_its_record(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("1.jpg", "3.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
            if name == "1.jpg":
                archive.addfile(HOSTILE[kind])
    batches = read(with_options("webdataset", tmp_path, labelled=False))
    assert joined(batches, "image") == [b"x", None, b"x"]
    assert kinds(batches) == ["link, device or sparse file in a tar"]


def test_names_that_lead_elsewhere_are_names_alone(tmp_path):
    pack(tmp_path / "d/x.tar", [("../../evil.jpg", b"1"), ("/abs/evil.jpg", b"2"), ("C:\\evil.jpg", b"3")])
    batches = read(with_options("webdataset", tmp_path / "d", labelled=False))
    assert joined(batches, "image") == [b"1", b"2", b"3"]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "d", tmp_path / "d/x.tar"]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


END = b"\0" * 1024


def test_a_member_of_too_many_bytes_is_not_read(tmp_path):
    """10 GB that are there, as a hole of the disk: skipped by its offset, in no memory."""
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(header("1.jpg", 10 << 30))
        file.seek(10 << 30, os.SEEK_CUR)
        file.write(header("2.jpg", 1) + b"x".ljust(512, b"\0") + END)
    batches = read(with_options("webdataset", tmp_path, labelled=False))
    assert joined(batches, "image") == [None, b"x"]
    assert kinds(batches) == ["image file of too many bytes"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no tar at all",
        b"x" * 2048,
        header("1.jpg", 10 << 30) + b"x" * 4096 + END,
        header("1.jpg", 2**62) + b"x" * 512 + END,
        header("1.jpg", 1),
        header("1.jpg", 1) + b"x" * 100,
        header("1.jpg", 1) + b"x" * 512,
        header("1.jpg", 1) + b"x" * 512 + b"\0" * 100,
        header("1.jpg", 1) + b"x" * 512 + b"\0" * 512 + header("2.jpg", 0) + END,
        header("1.jpg", 1) + b"x" * 512 + header("2.jpg", 0)[:100] + b"?" + header("2.jpg", 0)[101:] + END,
        header("././@LongLink", 1 << 30, tarfile.GNUTYPE_LONGNAME) + b"x" * 512,
        header("././@LongLink", 1 << 20, tarfile.GNUTYPE_LONGNAME) + b"x" * (1 << 20) + header("1.jpg", 0) + END,
        header("pax", 5, tarfile.XHDTYPE) + b"99 a=".ljust(512, b"\0") + header("1.jpg", 0) + END,
        header("pax", 2, tarfile.XHDTYPE) + b"0 ".ljust(512, b"\0") + header("1.jpg", 0) + END,
        header("pax", 11, tarfile.XHDTYPE) + b"11 size=-1\n".ljust(512, b"\0") + header("1.jpg", 0) + END,
        header("pax", 10, tarfile.XGLTYPE) + b"10 path=a\n".ljust(512, b"\0") + header("1.jpg", 0) + END,
    ],
    ids=range(17),
)
def test_a_damaged_tar_stops_before_anything_is_spent(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    refused(with_options("webdataset", tmp_path, labelled=False).pieces, DataError, "data.path", "a tar file there")


def test_a_negative_size_in_base_256(tmp_path):
    raw = bytearray(header("1.jpg", 0))
    raw[124:136] = b"\xff" * 12
    raw[148:156] = b"        "
    raw[148:156] = b"%06o\0 " % sum(raw)
    (tmp_path / "x.tar").write_bytes(bytes(raw) + END)
    refused(with_options("webdataset", tmp_path).pieces, DataError, "data.path", "a tar file there")


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_anywhere_is_seen(tmp_path, form):
    """No place at which an archive is cut gives fewer records without a word."""
    data = pack(tmp_path / "whole.tar", records(3), form=FORMATS[form]).read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    file = tmp_path / "d/x.tar"
    file.parent.mkdir()
    for length in [*range(0, end, 100), *range(0, end, 512), end - 1, end]:
        file.write_bytes(data[:length])
        refused(with_options("webdataset", file).pieces, DataError, "data.path", "a tar file there")
    file.write_bytes(data[: end + 512])
    assert len(joined(read(with_options("webdataset", file)), "rows")) == 3


def test_a_flipped_byte_in_a_header_is_seen(tmp_path):
    data = pack(tmp_path / "d/x.tar", records(2), form=tarfile.USTAR_FORMAT).read_bytes()
    chance = random.Random(0)
    for place in (
        0,
        130,
        156,
        1030,
        1024 + 125,
        1024 + 257,
        *(512 * chance.choice([0, 2, 4, 6]) + 10 for _ in range(5)),
    ):
        broken = bytearray(data)
        broken[place] ^= 0x15
        (tmp_path / "d/x.tar").write_bytes(broken)
        refused(with_options("webdataset", tmp_path / "d").pieces, DataError, "data.path", "headers is damaged")


def test_tar_against_the_standard_library(tmp_path):
    """Names, offsets and sizes are those that tarfile reads, in each of its formats."""
    for form in FORMATS.values():
        names = ["a.jpg", "d/" * 40 + "b.jpg", "ü" * 40 + ".jpg"]
        names += [] if form == tarfile.USTAR_FORMAT else ["d/" * 200 + "c.jpg"]
        file = pack(tmp_path / "x.tar", [(name, os.urandom(700 * i)) for i, name in enumerate(names)], form=form)
        with tarfile.open(file) as archive, file.open("rb") as handle:
            wanted = [(info.name, info.offset, info.offset_data, info.size) for info in archive]
            found = list(tar.members(handle, file.stat().st_size))
        assert [(one.name, one.start, one.offset, one.size) for one in found] == wanted


def test_what_is_no_tar_or_holds_no_records(tmp_path):
    refused(with_options("webdataset", tmp_path).pieces, EmptyInputError, "data.path", "no tar files")
    refused(with_options("webdataset", tmp_path / "no").pieces, DataError, "data.path", "no tar files")
    pack(tmp_path / "x.tar", [("README", b"no record")])
    refused(with_options("webdataset", tmp_path).pieces, EmptyInputError, "data.path", "no records")
    for name in ("y.tar.gz", "z.tgz", "x.tar"):
        (tmp_path / "x.tar").unlink(missing_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"x"))
        refused(with_options("webdataset", tmp_path).pieces, DataError, "compressed (gzip)", "unpack it first")
        (tmp_path / name).unlink()
    refused(lambda: with_options("webdataset", tmp_path, content=TEXT), RecipeError, "data.source")


def test_a_tar_that_changes_after_it_was_listed(tmp_path):
    file = pack(tmp_path / "x.tar", records(5))
    source = with_options("webdataset", tmp_path)
    (piece,) = source.pieces()
    first, data = source.digest(piece), file.read_bytes()
    pack(file, records(4))
    file.write_bytes(file.read_bytes().ljust(len(data), b"\0"))
    refused(lambda: list(source.read(piece)), DataError, "data.path")
    assert source.digest(piece) != first
    file.write_bytes(data[:3000])
    refused(lambda: list(source.read(piece)), DataError, "data.path", "cut short")
    refused(lambda: source.digest(piece), DataError, "data.path", "not what it was")
    file.unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "gone")


def test_one_record_more_at_the_end_shifts_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    ends = []
    for rows in (8, 9):
        pack(tmp_path / str(rows) / "x.tar", records(rows))
        source = with_options("webdataset", tmp_path / str(rows))
        ends.append([(piece.name, source.digest(piece)) for piece in source.pieces()])
    assert ends[1][:2] == ends[0]
    assert len(ends[1]) == 3


def test_a_record_of_very_many_files_is_a_reject(tmp_path):
    pack(tmp_path / "x.tar", [("1.jpg", b"1"), *((f"1.x{i}", b"") for i in range(300)), ("2.jpg", b"2")])
    batches = read(with_options("webdataset", tmp_path, labelled=False))
    assert kinds(batches) == ["record of too many files"]
    assert joined(batches, "image") == [None, b"2"]


def test_batches_are_bounded_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", 25)
    pack(tmp_path / "x.tar", records(9))
    batches = read(with_options("webdataset", tmp_path))
    assert [len(batch.labels) for batch in batches] == [2, 2, 2, 2, 1]
    assert joined(batches, "rows") == [f"x.tar:{i}" for i in range(9)]


def test_never_stop_is_refused(small):
    small["data"] = {"source": "webdataset", "path": "x", "labels": ["a"], "never_stop": True}
    refused(lambda: parse_recipe(small), RecipeError, "never_stop")
    refused(lambda: opened("webdataset", ""), RecipeError, "data.path")
