"""TFRecord files: checksums, Examples against Google's protobuf, and every kind of damage."""

from __future__ import annotations

import functools
import gzip
import os
import struct
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts import source as base
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.sources.crc32c import crc32c, masked
from pe_beam.sources.example import ExampleError, features
from tests.sources.test_damage import TEXT
from tests.sources.test_listed import kinds
from tests.sources.test_raw_pictures import with_options
from tests.sources.test_sources import joined, read, refused


@functools.cache
def example_class():
    """`tf.train.Example` as TensorFlow's own feature.proto and example.proto declare it."""
    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=kinds.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for i, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    ):
        feature.field.add(
            name=name, number=i + 1, type=kinds.TYPE_MESSAGE, type_name=f".t.{kind}", label=1, oneof_index=0
        )
    every = file.message_type.add(name="Features")
    entry = every.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=kinds.TYPE_MESSAGE, type_name=".t.Feature", label=1)
    every.field.add(name="feature", number=1, type=kinds.TYPE_MESSAGE, type_name=".t.Features.FeatureEntry", label=3)
    made = file.message_type.add(name="Example")
    made.field.add(name="features", number=1, type=kinds.TYPE_MESSAGE, type_name=".t.Features", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


def example(**values: object) -> bytes:
    """Serialised by protobuf; `__` in a name is a slash."""
    made = example_class()()
    for name, value in values.items():
        feature = made.features.feature[name.replace("__", "/")]
        some = value if isinstance(value, list) else [value]
        kind = (
            "bytes_list" if isinstance(some[0], bytes) else "int64_list" if isinstance(some[0], int) else "float_list"
        )
        getattr(feature, kind).value.extend(some)
    return made.SerializeToString()


def frame(data: bytes) -> bytes:
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked(size)) + data + struct.pack("<I", masked(data))


def picture(i: int, **more: object) -> bytes:
    return example(image__encoded=b"picture %d" % i, image__class__label=i % 3, **more)


def write(file: Path, rows: int, *, first: int = 0) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(frame(picture(i)) for i in range(first, first + rows)))
    return file


def test_crc32c_is_that_of_the_standard():
    """The test vectors of RFC 3720, appendix B.4."""
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(bytes(range(31, -1, -1))) == 0x113FDB5C


@functools.cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 1027, 1028, 2048, 5000, 600_001])
def test_crc32c_against_a_byte_at_a_time(size):
    data, state = os.urandom(size), 0xFFFFFFFF
    for byte in data:
        state = state >> 8 ^ _byte_table()[(state ^ byte) & 255]
    assert crc32c(data) == state ^ 0xFFFFFFFF


def test_beam_writes_the_same_frames():
    from apache_beam.io.tfrecordio import _TFRecordUtil

    assert _TFRecordUtil._masked_crc32c(b"abc", crc32c_fn=crc32c) == masked(b"abc")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(
            st.lists(st.binary(max_size=300), min_size=1, max_size=3),
            st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4),
        ),
        max_size=4,
    )
)
def test_examples_are_read_as_protobuf_reads_them(values):
    made = example_class()()
    for name, some in values.items():
        kind = "bytes_list" if isinstance(some[0], bytes) else "int64_list"
        getattr(made.features.feature[name], kind).value.extend(some)
    assert features(made.SerializeToString()) == values


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_damaged_examples_raise_one_error_alone(noise, place, value):
    data = bytearray(picture(1))
    data[place % len(data)] = value
    for some in (bytes(data), noise, bytes(data[: place % len(data)])):
        try:
            found = features(some)
        except ExampleError:
            continue
        assert all(isinstance(name, str) for name in found)


def test_lists_that_are_not_packed_and_fields_that_are_unknown():
    """Older writers give each integer a field of its own; floats and unknown fields are passed over."""
    entry = b"\x0a\x01a" + b"\x12\x06" + b"\x1a\x04" + b"\x08\x05\x08\x06"
    features_of_it = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features_of_it)]) + features_of_it + b"\x11" + b"8 bytes!" + b"\x1d4byt" + b"\x20\x07"
    assert features(data) == {"a": [5, 6]}
    assert features(example(a=1.5, b=2)) == {"a": None, "b": [2]}


def test_records_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    monkeypatch.setattr(base, "BATCH_ROWS", 3)
    write(tmp_path / "b.tfrecord", 6)
    write(tmp_path / "a.tfrecords", 2, first=6)
    source = with_options("tfrecord", tmp_path)
    assert [(p.file_index, p.start, p.stop) for p in source.pieces()] == [(0, 0, 2), (1, 0, 4), (1, 4, 6)]
    batches = read(source)
    assert [len(batch.labels) for batch in batches] == [2, 3, 1, 2]
    assert joined(batches, "image") == [b"picture %d" % i for i in (6, 7, 0, 1, 2, 3, 4, 5)]
    assert joined(batches, "labels") == [str(i % 3) for i in (6, 7, 0, 1, 2, 3, 4, 5)]
    assert joined(batches, "rows")[:3] == ["a.tfrecords:0", "a.tfrecords:1", "b.tfrecord:0"]
    write(tmp_path / "c/train-00000-of-00002", 2)
    write(tmp_path / "c/train-00001-of-00002", 1, first=2)
    named = with_options("tfrecord", f"{tmp_path}/c/train-*", {"names": ["cat", "dog"]})
    assert joined(read(named), "labels") == ["cat", "dog", None]


def test_features_by_other_names(tmp_path):
    data = example(png=b"p", kind="é".encode(), person=7, several=[1, 2], number=2.5, raw=b"\xff")
    (tmp_path / "x.tfrec").write_bytes(frame(data))

    def one(**columns) -> tuple[object, object, object, list[str]]:
        batches = read(with_options("tfrecord", tmp_path, columns=columns, client="client" in columns))
        return joined(batches, "image")[0], joined(batches, "labels")[0], joined(batches, "clients")[0], kinds(batches)

    assert one(image="png", label="kind", client="person") == (b"p", "é", "7", [])
    assert one(image="png", label="none")[1:] == (None, None, [])
    assert one(image="png", label="number")[1] is None
    assert one(image="png", label="several")[3] == ["feature of several values where one is wanted"]
    assert one(image="png", label="raw")[3] == ["feature that is neither text nor a whole number"]
    assert one(image="several", label="kind")[3] == ["record without a picture"]
    assert one()[3] == ["record without a picture"]


def test_a_damaged_record_costs_itself_alone(tmp_path):
    frames = [frame(picture(i)) for i in range(6)]
    frames[1] = frames[1][:20] + bytes([frames[1][20] ^ 1]) + frames[1][21:]
    frames[2] = frames[2][:-1] + bytes([frames[2][-1] ^ 1])
    frames[3] = frame(b"\xff no example")
    frames[4] = frame(b"")
    (tmp_path / "x.tfrecord").write_bytes(b"".join(frames))
    batches = read(with_options("tfrecord", tmp_path))
    assert kinds(batches) == [
        "record whose checksum is another's",
        "record whose checksum is another's",
        "record that is no tf.train.Example",
        "record without a picture",
    ]
    assert [image for image in joined(batches, "image") if image] == [b"picture 0", b"picture 5"]


def test_a_cut_anywhere_is_seen(tmp_path):
    data = write(tmp_path / "x.tfrecord", 3).read_bytes()
    ends = {len(b"".join(frame(picture(i)) for i in range(n))) for n in range(4)}
    for length in range(len(data)):
        if length not in ends:  # a file that ends between two records is one of fewer records
            (tmp_path / "x.tfrecord").write_bytes(data[:length])
            refused(with_options("tfrecord", tmp_path).pieces, DataError, "data.path", "a TFRecord file there")


@pytest.mark.parametrize("size", [2**63, 10 << 30, 1])
def test_a_length_that_is_not_there(tmp_path, size):
    head = struct.pack("<Q", size)
    (tmp_path / "x.tfrecord").write_bytes(head + struct.pack("<I", masked(head)))
    refused(with_options("tfrecord", tmp_path).pieces, DataError, "data.path", "cut short")
    (tmp_path / "x.tfrecord").write_bytes(head + struct.pack("<I", masked(head) ^ 1) + b"\0" * 100)
    refused(with_options("tfrecord", tmp_path).pieces, DataError, "data.path", "length is damaged")


def test_a_record_of_too_many_bytes_is_not_read(tmp_path):
    """10 GB that are there, as a hole of the disk: passed over, in no memory."""
    head = struct.pack("<Q", 10 << 30)
    with (tmp_path / "x.tfrecord").open("wb") as file:
        file.write(head + struct.pack("<I", masked(head)))
        file.seek((10 << 30) + 4, os.SEEK_CUR)
        file.write(frame(picture(0)))
    batches = read(with_options("tfrecord", tmp_path))
    assert kinds(batches) == ["record of more than 256 MB"]
    assert joined(batches, "image") == [None, b"picture 0"]


def test_what_is_no_tfrecord(tmp_path):
    refused(with_options("tfrecord", tmp_path).pieces, EmptyInputError, "data.path", "no TFRecord files")
    refused(with_options("tfrecord", tmp_path / "no").pieces, DataError, "data.path", "no TFRecord files")
    (tmp_path / "x.tfrecord").write_bytes(b"")
    refused(with_options("tfrecord", tmp_path).pieces, EmptyInputError, "data.path", "no records")
    (tmp_path / "x.tfrecord").write_bytes(b"this is a text, and no file of records")
    refused(with_options("tfrecord", tmp_path).pieces, DataError, "data.path", "no TFRecord file")
    (tmp_path / "x.tfrecord").write_bytes(gzip.compress(frame(picture(1))))
    refused(with_options("tfrecord", tmp_path).pieces, DataError, "compressed (gzip)", "unpack it first")
    refused(lambda: with_options("tfrecord", tmp_path, content=TEXT), RecipeError, "data.source")


def test_a_file_that_changes_after_it_was_listed(tmp_path):
    file = write(tmp_path / "x.tfrecord", 5)
    source = with_options("tfrecord", tmp_path)
    (piece,) = source.pieces()
    first, data = source.digest(piece), file.read_bytes()
    file.write_bytes(data[:-10])
    refused(lambda: list(source.read(piece)), DataError, "data.path", "cut short")
    refused(lambda: source.digest(piece), DataError, "data.path", "not what it was")
    file.write_bytes(b"".join(frame(picture(i)) for i in (1, 0, 2, 3, 4)))
    assert source.digest(piece) != first
    file.unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "gone")


def test_one_record_more_at_the_end_shifts_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    ends = []
    for rows in (8, 9):
        source = with_options("tfrecord", write(tmp_path / f"{rows}.tfrecord", rows))
        ends.append([(piece.name, source.digest(piece)) for piece in source.pieces()])
    assert ends[1][:2] == ends[0]
    assert len(ends[1]) == 3


def test_never_stop_is_refused(small):
    small["data"] = {"source": "tfrecord", "path": "x", "labels": ["a"], "never_stop": True}
    refused(lambda: parse_recipe(small), RecipeError, "never_stop")
