"""CIFAR and MNIST by their own files: pixels and labels, pieces, and every kind of damage."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pe_beam.contracts import source as base
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import find_source
from pe_beam.sources.cifar import CIFAR10
from tests.sources.test_damage import TEXT
from tests.sources.test_sources import joined, opened, read, refused


def with_options(source: str, path: Path | str, options=None, **more):
    made = find_source(source).Options.model_validate(options or {})
    return opened(source, path, options=made, **more)


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def cifar(rows: int, *, seed: int = 0, head: int = 1) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Bytes of a file, its pictures (n, 32, 32, 3), and its labels (n, head)."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, (rows, head), dtype=np.uint8)
    planes = pictures.transpose(0, 3, 1, 2).reshape(rows, -1)
    return np.concatenate([labels, planes], axis=1).tobytes(), pictures, labels


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">2H{values.ndim}I", 0, 0x800 + values.ndim, *values.shape) + values.tobytes()


def mnist(folder: Path, rows: int, *, part: str = "train", packed: str = "", seed: int = 0):
    """Writes both files and returns pictures and labels."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, rows, dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{part}-images-idx3-ubyte", pictures), (f"{part}-labels-idx1-ubyte", labels)):
        data = idx(values)
        (folder / (name + packed)).write_bytes(gzip.compress(data) if packed else data)
    return pictures, labels


# CIFAR


def test_cifar_is_read_in_order_with_its_names(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_ROWS", 8)
    monkeypatch.setattr("pe_beam.sources.pictures.BATCH_ROWS", 3)
    parts = []
    for i in (1, 2):
        data, pictures, labels = cifar(11, seed=i)
        (tmp_path / f"data_batch_{i}.bin").write_bytes(data)
        parts.append((pictures, labels))
    (tmp_path / "test_batch.bin").write_bytes(cifar(2, seed=3)[0])
    (tmp_path / "batches.meta.txt").write_text("not read\n")
    source = with_options("cifar", f"{tmp_path}#train")
    assert [(piece.file_index, piece.start, piece.stop) for piece in source.pieces()] == [
        (0, 0, 8),
        (0, 8, 11),
        (1, 0, 8),
        (1, 8, 11),
    ]
    batches = read(source)
    assert [len(batch.labels) for batch in batches] == [3, 3, 2, 3] * 2
    made = np.array([pixels_of(png) for png in joined(batches, "image")])
    assert np.array_equal(made, np.concatenate([pictures for pictures, _ in parts]))
    wanted = [CIFAR10[number] for _, labels in parts for number in labels[:, 0]]
    assert joined(batches, "labels") == wanted
    assert joined(batches, "rows")[10:12] == ["data_batch_1.bin:10", "data_batch_2.bin:0"]
    assert len(joined(read(with_options("cifar", f"{tmp_path}#test")), "labels")) == 2
    assert len(joined(read(with_options("cifar", tmp_path)), "labels")) == 24
    assert len(joined(read(with_options("cifar", tmp_path / "test_batch.bin")), "labels")) == 2
    assert joined(read(with_options("cifar", tmp_path, labelled=False)), "labels") == [None] * 24


@pytest.mark.parametrize("place, variant", [(0, "cifar-100-coarse"), (1, "cifar-100-fine")])
def test_cifar_100_has_two_labels(tmp_path, place, variant):
    data, pictures, labels = cifar(5, head=2)
    (tmp_path / "train.bin").write_bytes(data)
    batches = read(with_options("cifar", f"{tmp_path}#train", {"variant": variant}))
    assert joined(batches, "labels") == [str(number) for number in labels[:, place]]
    assert np.array_equal(pixels_of(joined(batches, "image")[4]), pictures[4])
    named = with_options("cifar", tmp_path, {"variant": variant, "names": [f"class {i}" for i in range(10)]})
    assert joined(read(named), "labels") == [f"class {number}" for number in labels[:, place]]
    refused(with_options("cifar", tmp_path).pieces, DataError, "data.path", "3,073 bytes", "data.options.variant")


def test_a_label_beyond_the_names_is_that_of_no_record(tmp_path):
    data, _, _ = cifar(3)
    (tmp_path / "x.bin").write_bytes(bytes([200]) + data[1:])
    labels = joined(read(with_options("cifar", tmp_path)), "labels")
    assert labels[0] is None and None not in labels[1:]


def test_declared_labels_may_be_spelled_otherwise(tmp_path):
    data, _, labels = cifar(40)
    (tmp_path / "x.bin").write_bytes(data)
    found = joined(read(with_options("cifar", tmp_path, labels=[" truck", "cat"])), "labels")
    assert {label for label, number in zip(found, labels[:, 0], strict=True) if number == 9} == {" truck"}


def test_cifar_damage(tmp_path):
    data, _, _ = cifar(3)
    file = tmp_path / "data_batch_1.bin"
    refused(with_options("cifar", tmp_path).pieces, EmptyInputError, "data.path", "no CIFAR files")
    refused(with_options("cifar", tmp_path / "no").pieces, DataError, "data.path", "no CIFAR files")
    file.write_bytes(b"")
    refused(with_options("cifar", tmp_path).pieces, EmptyInputError, "data.path", "no pictures")
    file.write_bytes(data[:-1])
    refused(with_options("cifar", tmp_path).pieces, DataError, "data.path", "cut short")
    file.write_bytes(data)
    source = with_options("cifar", tmp_path)
    (piece,) = source.pieces()
    first = source.digest(piece)
    file.write_bytes(data[: 2 * 3073])
    refused(lambda: list(source.read(piece)), DataError, "data.path", "not what it was")
    refused(lambda: source.digest(piece), DataError, "data.path", "not what it was")
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert source.digest(piece) != first
    file.unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "gone")
    refused(lambda: with_options("cifar", f"{tmp_path}#dev"), RecipeError, "#dev", "#train, #test")
    refused(lambda: with_options("cifar", tmp_path, content=TEXT), RecipeError, "data.source")
    refused(lambda: with_options("cifar", tmp_path, client=True), RecipeError, "data.columns.client")


# MNIST


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_mnist_is_read_in_order(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(base, "SHARD_ROWS", 8)
    monkeypatch.setattr("pe_beam.sources.pictures.BATCH_ROWS", 5)
    pictures, labels = mnist(tmp_path, 19, packed=packed)
    mnist(tmp_path, 3, part="t10k", packed=packed, seed=1)
    source = with_options("mnist", f"{tmp_path}#train")
    assert [(piece.start, piece.stop) for piece in source.pieces()] == [(0, 8), (8, 16), (16, 19)]
    batches = read(source)
    assert [len(batch.labels) for batch in batches] == [5, 3, 5, 3, 3]
    assert np.array_equal(np.array([pixels_of(png) for png in joined(batches, "image")]), pictures)
    assert joined(batches, "labels") == [str(label) for label in labels]
    whole = joined(read(with_options("mnist", tmp_path)), "labels")
    assert len(whole) == 22
    alone = with_options("mnist", tmp_path / f"t10k-images-idx3-ubyte{packed}")
    assert joined(read(alone), "labels") == whole[:3]
    fashion = with_options("mnist", f"{tmp_path}#test", {"names": ["shirt"] * 10})
    assert joined(read(fashion), "labels") == ["shirt"] * 3


def test_a_file_that_lies_there_plain_and_packed_counts_once(tmp_path):
    mnist(tmp_path, 4)
    mnist(tmp_path, 4, packed=".gz")
    assert len(joined(read(with_options("mnist", tmp_path)), "labels")) == 4
    (tmp_path / PICTURES).unlink()
    assert len(joined(read(with_options("mnist", tmp_path)), "labels")) == 4


def test_mnist_without_labels_needs_no_file_of_them(tmp_path):
    mnist(tmp_path, 4)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert joined(read(with_options("mnist", tmp_path, labelled=False)), "labels") == [None] * 4
    refused(with_options("mnist", tmp_path).pieces, DataError, "data.path", "no file of labels")


def test_mnist_digest_is_of_both_files_and_not_of_their_packing(tmp_path):
    def digest(folder: Path) -> str:
        source = with_options("mnist", folder)
        return source.digest(source.pieces()[0])

    mnist(tmp_path / "a", 5)
    mnist(tmp_path / "b", 5, packed=".gz")
    first = digest(tmp_path / "a")
    assert digest(tmp_path / "b") == first
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        data = bytearray((tmp_path / "a" / name).read_bytes())
        data[-1] ^= 1
        (tmp_path / "a" / name).write_bytes(data)
        assert digest(tmp_path / "a") != first
        data[-1] ^= 1
        (tmp_path / "a" / name).write_bytes(data)
    assert digest(tmp_path / "a") == first


PICTURES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
DAMAGE = {
    "cut short": (PICTURES, lambda data: data[:-1]),
    "longer": (PICTURES, lambda data: data + b"\0"),
    "empty": (PICTURES, lambda data: b""),
    "no header": (PICTURES, lambda data: data[:9]),
    "labels as pictures": (PICTURES, lambda data: struct.pack(">I", 0x801) + data[4:]),
    "floats": (PICTURES, lambda data: struct.pack(">I", 0xD03) + data[4:]),
    "no pixels": (PICTURES, lambda data: data[:8] + struct.pack(">2I", 0, 28) + data[16:]),
    "giant pictures": (PICTURES, lambda data: data[:8] + struct.pack(">2I", 2**31, 2**31) + data[16:]),
    "giant count": (PICTURES, lambda data: data[:4] + struct.pack(">I", 2**32 - 1) + data[8:]),
    "labels cut": (LABELS, lambda data: data[:-1]),
    "one label more": (LABELS, lambda data: data[:4] + struct.pack(">I", 6) + data[8:] + b"\1"),
    "labels empty": (LABELS, lambda data: b""),
    "labels no labels": (LABELS, lambda data: b"\0\0\x08\x03" + data[4:]),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_mnist_damage_stops_before_anything_is_spent(tmp_path, kind, packed):
    mnist(tmp_path, 5, packed=packed)
    name, damage = DAMAGE[kind]
    file = tmp_path / (name + packed)
    data = damage(gzip.decompress(file.read_bytes()) if packed else file.read_bytes())
    file.write_bytes(gzip.compress(data) if packed else data)
    refused(with_options("mnist", tmp_path).pieces, DataError, "data.path", "IDX file")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40] + b"xxxx" + data[44:], lambda d: d[:1]]
)
@pytest.mark.parametrize("name", [PICTURES, LABELS])
def test_mnist_damaged_compression(tmp_path, damage, name):
    mnist(tmp_path, 50, packed=".gz")
    file = tmp_path / f"{name}.gz"
    file.write_bytes(damage(file.read_bytes()))
    refused(with_options("mnist", tmp_path).pieces, DataError, "data.path", "IDX file")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path, monkeypatch):
    mnist(tmp_path, 5, packed=".gz")
    file = tmp_path / f"{PICTURES}.gz"
    bomb = gzip.decompress(file.read_bytes()) + b"\0" * (64 << 20)
    file.write_bytes(gzip.compress(bomb))
    read_of_it = []
    real = gzip.GzipFile.read

    def noted(self, size=-1):
        data = real(self, size)
        read_of_it.append(len(data))
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", noted)
    refused(with_options("mnist", tmp_path).pieces, DataError, "longer than its header says")
    assert sum(read_of_it) < 10_000


def test_mnist_that_changes_after_it_was_listed(tmp_path):
    mnist(tmp_path, 5)
    source = with_options("mnist", tmp_path)
    (piece,) = source.pieces()
    data = (tmp_path / PICTURES).read_bytes()
    (tmp_path / PICTURES).write_bytes(data[:-100])
    refused(lambda: list(source.read(piece)), DataError, "data.path", "cut short")
    refused(lambda: source.digest(piece), DataError, "data.path", "cut short")
    (tmp_path / LABELS).unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "no file of labels")
    refused(with_options("mnist", tmp_path / "no").pieces, DataError, "data.path", "no IDX files")


def test_one_record_more_shifts_no_other(tmp_path, monkeypatch):
    """Neighbours: the record at the end belongs to the last range, and those before it are cut as they were."""
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    ends = []
    for rows in (8, 9):
        data, _, _ = cifar(9)
        (tmp_path / str(rows)).mkdir()
        (tmp_path / str(rows) / "x.bin").write_bytes(data[: rows * 3073])
        source = with_options("cifar", tmp_path / str(rows))
        ends.append([(piece.name, source.digest(piece)) for piece in source.pieces()])
    assert ends[1][:2] == ends[0]
    assert len(ends[1]) == 3


def test_recipes_take_them_with_never_stop(small, tmp_path):
    for source in ("cifar", "mnist"):
        small["data"] = {"source": source, "path": str(tmp_path), "labels": ["cat"], "never_stop": True}
        assert parse_recipe(small).data.never_stop
    small["data"] |= {"source": "cifar", "options": {"variant": "cifar-1000"}}
    refused(lambda: parse_recipe(small), RecipeError, "data.options.variant")
