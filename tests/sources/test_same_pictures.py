"""The same pictures in any kind of file are the same records; and one kind of file in a whole run."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.driver.loop import evolve
from pe_beam.errors import DataError
from pe_beam.modalities.image.codec import encode_png
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.parts import new_embedder
from pe_beam.recipe.sources import private_source
from tests.sources.test_raw_pictures import idx
from tests.sources.test_tfrecord import example, frame
from tests.sources.test_webdataset import pack
from tests.whole_runs import release_digests, stop_half_way


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.rint(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.uint8)


def as_mnist(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(pictures))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels))


def as_webdataset(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    pairs = enumerate(zip(pictures, labels, strict=True))
    parts = [[(f"{i:04d}.png", encode_png(picture)), (f"{i:04d}.cls", b"%d" % label)] for i, (picture, label) in pairs]
    pack(folder / "x.tar", [member for part in parts for member in part])


def as_tfrecord(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    pairs = zip(pictures, labels, strict=True)
    every = [frame(example(image__encoded=encode_png(p), image__class__label=int(label))) for p, label in pairs]
    (folder / "x.tfrecord").write_bytes(b"".join(every))


def as_imagefolder(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    lines = [json.dumps({"file_name": f"{i}.png", "label": int(label)}) + "\n" for i, label in enumerate(labels)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    for i, picture in enumerate(pictures):
        (folder / f"{i}.png").write_bytes(encode_png(picture))


def as_folder(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        (folder / f"{label}/{i:04d}.png").write_bytes(encode_png(picture))


def as_parquet(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> None:
    images = [{"bytes": encode_png(picture), "path": None} for picture in pictures]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": labels.astype(np.int64)}), folder / "x.parquet")


WRITERS = {
    "folder": as_folder,
    "imagefolder": as_imagefolder,
    "mnist": as_mnist,
    "parquet": as_parquet,
    "tfrecord": as_tfrecord,
    "webdataset": as_webdataset,
}


def recipe_on(small: dict, source: str, folder: Path) -> dict:
    labels = [str(i) for i in range(10)]
    return copy.deepcopy(small) | {"data": {"source": source, "path": str(folder), "labels": labels}}


def test_the_same_pictures_are_the_same_vectors_and_labels(small, tmp_path):
    pictures, labels = (part[:150] for part in digits())
    order = np.argsort(labels, kind="stable")  # as class folders are sorted
    found = {}
    embedder = new_embedder(parse_recipe(small))
    for source, write in WRITERS.items():
        folder = tmp_path / source
        folder.mkdir()
        write(folder, pictures[order], labels[order])
        opened = private_source(parse_recipe(recipe_on(small, source, folder)))
        batches = [batch for piece in opened.pieces() for batch in opened.read(piece)]
        assert not any(batch.faults for batch in batches)
        vectors = b"".join(embedder.embed(batch.payload).vectors.tobytes() for batch in batches)
        found[source] = vectors, tuple(label for batch in batches for label in batch.labels)
    assert len(set(found.values())) == 1
    assert [len(part) for part in found["mnist"]] == [150 * 64 * 4, 150]


@pytest.fixture
def mnist_of_digits(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    as_mnist(folder, *(part[:600] for part in digits()))
    pictures, labels = (part[600:700] for part in digits())
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(pictures))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_a_whole_run_on_mnist_resumes_to_the_same_bytes(small, tmp_path, secret_file, mnist_of_digits):
    recipe = recipe_on(small, "mnist", Path(f"{mnist_of_digits}#train"))
    recipe["data"] |= {"holdout": f"{mnist_of_digits}#test", "prepare": {"size": 6, "policy": "crop"}}
    evolve(parse_recipe(recipe), tmp_path / "whole", secret_file=secret_file)
    stop_half_way(recipe, tmp_path / "half", secret_file)
    other = copy.deepcopy(recipe)
    other["data"]["path"] = f"{mnist_of_digits}#test"
    with pytest.raises(DataError, match="the private data differ"):
        evolve(parse_recipe(other), tmp_path / "half", secret_file=secret_file)
    evolve(parse_recipe(recipe), tmp_path / "half", secret_file=secret_file)
    assert release_digests(tmp_path / "half") == release_digests(tmp_path / "whole")
    labels = pq.read_table(tmp_path / "whole/release/samples.parquet")["label"].to_pylist()
    assert sorted(set(labels)) == [str(i) for i in range(10)]
