"""CelebA, Camelyon and image folders with metadata: a table names the pictures, and only its rows are records."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pe_beam.contracts import source as base
from pe_beam.errors import DataError, EmptyInputError, RecipeError
from pe_beam.recipe.loading import parse_recipe
from tests.sources.test_sources import fill, joined, opened, read, refused

MALE = {"columns": {"label": "Male"}}


def kinds(batches):
    return [fault.kind for batch in batches for _, fault in sorted(batch.faults.items())]


# CelebA


def celeba(folder: Path, rows: int = 6, *, apart: bool = False) -> Path:
    """Attributes Smiling and Male; splits train, valid, test in turn; persons by twos."""
    names = [f"{i:06d}.jpg" for i in range(1, rows + 1)]
    where = {"Img": "Img/", "Anno": "Anno/", "Eval": "Eval/"} if apart else dict.fromkeys(("Img", "Anno", "Eval"), "")
    fill(folder, [f"{where['Img']}img_align_celeba/{name}" for name in names])
    lines = [f"{name} {1 - 2 * (i % 2):2d}  {1 if i % 3 else -1:2d}" for i, name in enumerate(names)]
    texts = {
        f"{where['Anno']}list_attr_celeba.txt": [str(rows), "Smiling Male ", *lines],
        f"{where['Eval']}list_eval_partition.txt": [f"{name} {i % 3}" for i, name in enumerate(names)],
        f"{where['Anno']}identity_CelebA.txt": [f"{name} {i // 2}" for i, name in enumerate(names)],
    }
    for name, content in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("\n".join(content) + "\n")
    return folder


@pytest.mark.parametrize("apart", [False, True])
def test_celeba(tmp_path, monkeypatch, apart):
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    root = celeba(tmp_path, apart=apart)
    source = opened("celeba", root, **MALE)
    assert [(piece.start, piece.stop) for piece in source.pieces()] == [(0, 4), (4, 6)]
    batches = read(source)
    assert joined(batches, "labels") == ["Male_0", "Male_1", "Male_1"] * 2
    place = "Img/img_align_celeba" if apart else "img_align_celeba"
    assert joined(batches, "image") == [f"bytes of {place}/{i:06d}.jpg".encode() for i in range(1, 7)]
    for number, split in enumerate(("train", "valid", "test")):
        part = read(opened("celeba", f"{root}#{split}", **MALE))
        assert [image[-10:-4] for image in joined(part, "image")] == [b"%06d" % i for i in (number + 1, number + 4)]
    both = read(opened("celeba", root, columns={"label": ["Male", "Smiling"]}, labels=["Male_0 | Smiling_1"]))
    assert joined(both, "labels")[:2] == ["Male_0 | Smiling_1", "Male_1 | Smiling_0"]
    people = read(opened("celeba", f"{root}#train", client=True, **MALE))
    assert joined(people, "clients") == ["0", "1"]


def test_celeba_rows_that_cannot_be_used_are_rejects_of_each_split(tmp_path):
    root = celeba(tmp_path)
    file = root / "list_attr_celeba.txt"
    lines = file.read_text().splitlines()
    lines[2] = "000001.jpg 1"  # an attribute is missing
    lines[3] = "000002.jpg 1 7"
    lines[4] = "../secret.jpg 1 1"
    file.write_text("\n".join(lines) + "\n")
    (root / "img_align_celeba/000004.jpg").unlink()
    whole = read(opened("celeba", root, **MALE))
    assert kinds(whole) == [
        "row with a wrong number of fields",
        "attribute that is neither 1 nor -1",
        "file name that is missing or leads out of its folder",
        "image file that is not there",
    ]
    train = read(opened("celeba", f"{root}#train", **MALE))
    assert kinds(train)[:3] == [*kinds(whole)[:2], "row that is in no split"]
    assert kinds(train)[3:] == ["image file that is not there"]
    assert len(joined(train, "rows")) == 4


@pytest.mark.parametrize(
    "text",
    ["", "6\n", "six\nMale\n", "6\n\n000001.jpg 1\n", "7\nSmiling Male\n000001.jpg 1 1\n", "{}\n[]\n"],
)
def test_celeba_damage(tmp_path, text):
    root = celeba(tmp_path)
    (root / "list_attr_celeba.txt").write_text(text)
    refused(opened("celeba", root, **MALE).pieces, DataError, "data.path")


def test_celeba_faults(tmp_path):
    root = celeba(tmp_path)
    refused(lambda: opened("celeba", root), RecipeError, "data.columns.label", "Male")
    refused(lambda: opened("celeba", root, columns={"image": "x"}), RecipeError, "data.columns", "image")
    refused(lambda: opened("celeba", f"{root}#val", **MALE), RecipeError, "#valid")
    refused(opened("celeba", root, columns={"label": "Mael"}).pieces, DataError, "data.columns.label", "Mael")
    refused(opened("celeba", tmp_path / "no", **MALE).pieces, DataError, "data.path")
    source = opened("celeba", f"{root}#test", **MALE)
    (piece,) = source.pieces()
    for damage in ("000001.jpg\n", "000001.jpg 0\n000001.jpg 1\n", "000001.jpg x\n"):
        (root / "list_eval_partition.txt").write_text(damage)
        refused(lambda: list(source.read(piece)), DataError, "data.path", "list_eval_partition.txt there is damaged")
    (root / "list_eval_partition.txt").unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "list_eval_partition.txt is not there")


def test_what_a_digest_of_celeba_depends_on(tmp_path):
    def digest(root: Path, path: str = "", **more) -> str:
        source = opened("celeba", f"{root}{path}", **{**MALE, **more})
        return source.digest(source.pieces()[0])

    first, copy = celeba(tmp_path / "a"), celeba(tmp_path / "b")
    assert digest(first) == digest(copy)
    found = {digest(first), digest(first, "#train"), digest(first, "#test"), digest(first, client=True)}
    (copy / "identity_CelebA.txt").write_text((copy / "identity_CelebA.txt").read_text().replace(" 2", " 3"))
    assert digest(copy) == digest(first)
    found.add(digest(copy, client=True))
    (copy / "img_align_celeba/000003.jpg").write_bytes(b"other")
    found.add(digest(copy))
    (copy / "img_align_celeba/000003.jpg").unlink()
    found.add(digest(copy))
    assert len(found) == 7


# Camelyon


def camelyon(folder: Path) -> Path:
    """Patches of patients 004 and 017, of hospitals 0, 1 and 2."""
    rows = ["patient,node,x_coord,y_coord,tumor,slide,center,split"]
    names = []
    for i in range(8):
        patient = "004" if i < 4 else "017"
        rows.append(
            f"{i},{patient},{i % 2},{3000 + i},{100 * i},{i % 2},{i},{(0, 0, 0, 1, 2, 0, 1, 1)[i]},{i // 2 % 2}"
        )
        folder_name = f"patches/patient_{patient}_node_{i % 2}"
        names.append(f"{folder_name}/patch_patient_{patient}_node_{i % 2}_x_{3000 + i}_y_{100 * i}.png")
    fill(folder, names)
    (folder / "metadata.csv").write_text("," + "\n".join(rows) + "\n")
    return folder


def test_camelyon(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SHARD_ROWS", 5)
    root = camelyon(tmp_path)
    batches = read(opened("camelyon", root, client=True, labels=["tumor", "no_tumor"]))
    assert joined(batches, "labels") == ["no_tumor", "tumor"] * 4
    assert joined(batches, "clients") == ["004"] * 4 + ["017"] * 4
    assert [image[-9:] for image in joined(batches, "image")][:2] == [b"0_y_0.png", b"y_100.png"]
    assert not kinds(batches)
    parts = {"train": [0, 1, 5], "id_val": [2], "val": [3, 6, 7], "test": [4]}
    for split, rows in parts.items():
        part = read(opened("camelyon", f"{root}#{split}"))
        assert joined(part, "rows") == [f"{root}/metadata.csv:{row}" for row in rows]
    assert joined(read(opened("camelyon", root, labelled=False)), "labels") == [None] * 8


def test_camelyon_rows_that_cannot_be_used(tmp_path):
    root = camelyon(tmp_path)
    text = (root / "metadata.csv").read_text().splitlines()
    text[1] = text[1].replace("004", "../../004")
    text[2] = text[2].rpartition(",")[0]
    text[3] = "2,004,0,,200,0,2,0,1"
    text[4] = text[4][:-3] + "0,9"
    (root / "metadata.csv").write_text("\n".join(text) + "\n")
    train = read(opened("camelyon", f"{root}#train"))
    assert kinds(train) == [
        "file name that is missing or leads out of its folder",
        "row with a wrong number of fields",
        "row that is in no split",
    ]
    assert kinds(read(opened("camelyon", root)))[2:] == ["image file that is not there"]
    (root / "metadata.csv").write_text("\n".join(text).replace("tumor", "cancer"))
    refused(opened("camelyon", root).pieces, DataError, "data.columns.label", "tumor")
    (root / "metadata.csv").write_text("")
    refused(opened("camelyon", root).pieces, DataError, "data.path", "empty")
    (root / "metadata.csv").unlink()
    refused(opened("camelyon", root).pieces, DataError, "data.path")
    refused(lambda: opened("camelyon", root, columns={"label": "slide"}), RecipeError, "data.columns")


# Image folders


def metadata(folder: Path, ending: str, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    if ending == "csv":
        lines = [",".join(table.column_names), *(",".join(str(v) for v in row.values()) for row in rows)]
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    elif ending == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(table, folder / "metadata.parquet")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_image_folders(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(base, "SHARD_ROWS", 2)
    fill(tmp_path, ["a/1.png", "a/deep/2.png", "b/1.png", "a/not-named.png"])
    rows = [
        {"file_name": "1.png", "label": "cat", "who": 7},
        {"file_name": "deep/2.png", "label": "dog", "who": 8},
        {"file_name": "../b/1.png", "label": "dog", "who": 8},
    ]
    metadata(tmp_path / "a", ending, rows)
    metadata(tmp_path / "b", ending, [{"file_name": "1.png", "label": "cat", "who": 9}])
    source = opened("imagefolder", tmp_path, client=True, columns={"client": "who"})
    assert [(piece.file_index, piece.start, piece.stop) for piece in source.pieces()] == [
        (0, 0, 2),
        (0, 2, 3),
        (1, 0, 1),
    ]
    batches = read(source)
    assert joined(batches, "image") == [b"bytes of a/1.png", b"bytes of a/deep/2.png", None, b"bytes of b/1.png"]
    assert kinds(batches) == ["file name that is missing or leads out of its folder"]
    assert joined(batches, "labels") == ["cat", "dog", "dog", "cat"]
    assert joined(batches, "clients") == ["7", "8", "8", "9"]
    source.refuse({fact for batch in batches for fact in batch.seen})
    alone = read(opened("imagefolder", tmp_path / f"b/metadata.{ending}", labelled=False))
    assert joined(alone, "image") == [b"bytes of b/1.png"]


def test_image_folders_that_cannot_be_read(tmp_path):
    fill(tmp_path, ["cat/1.png"])
    refused(opened("imagefolder", tmp_path).pieces, DataError, "data.path", "data.source: folder")
    refused(opened("imagefolder", tmp_path).pieces, DataError, "data.path", "a file of another name")
    refused(opened("imagefolder", tmp_path / "labels.csv").pieces, DataError, "data.path", "no file")
    metadata(tmp_path, "csv", [{"file": "cat/1.png", "label": "cat"}])
    refused(opened("imagefolder", tmp_path).pieces, DataError, "columns.image: 'file_name'", "no column of that name")
    assert joined(read(opened("imagefolder", tmp_path, columns={"image": "file"})), "image") == [b"bytes of cat/1.png"]
    metadata(tmp_path, "jsonl", [{"file_name": "cat/1.png", "label": "cat"}])
    refused(opened("imagefolder", tmp_path).pieces, DataError, "data.path", "several kinds")
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text("file_name,label\n")
    refused(opened("imagefolder", tmp_path).pieces, EmptyInputError, "data.path")
    (tmp_path / "metadata.csv").rename(tmp_path / "metadata.csv.gz")
    refused(opened("imagefolder", tmp_path).pieces, DataError, "data.path", "unpack")


def test_a_name_that_is_no_file_is_a_reject_and_never_waited_for(tmp_path):
    """A folder, a pipe, a name that is too long, an absolute one: none is opened."""
    fill(tmp_path, ["sub/1.png"])
    os.mkfifo(tmp_path / "pipe.png")
    names = ["sub", "pipe.png", "x" * 5000, "/etc/passwd", "sub//1.png", "", "sub/1.png"]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps({"file_name": n, "label": "a"}) + "\n" for n in names))
    source = opened("imagefolder", tmp_path)
    batches = read(source)
    assert [image is None for image in joined(batches, "image")] == [True] * 6 + [False]
    assert len(source.digest(source.pieces()[0])) == 64


def test_listed_pictures_are_bounded_by_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("pe_beam.sources.listed.BATCH_BYTES", 40)
    monkeypatch.setattr("pe_beam.sources.listed.MAX_BYTES", 30)
    names = [f"{i}.png" for i in range(7)]
    fill(tmp_path, names)
    (tmp_path / "3.png").write_bytes(b"x" * 31)
    metadata(tmp_path, "csv", [{"file_name": name, "label": name[0]} for name in names])
    batches = read(opened("imagefolder", tmp_path))
    assert max(len(batch.labels) for batch in batches) <= 3
    assert joined(batches, "labels") == list("0123456")
    assert joined(batches, "rows") == [f"{tmp_path}/metadata.csv:{i}" for i in range(7)]
    assert kinds(batches) == ["image file of too many bytes"]
    assert [i for i, image in enumerate(joined(batches, "image")) if image is None] == [3]


@pytest.mark.parametrize("source", ["celeba", "camelyon", "imagefolder"])
def test_never_stop_is_refused(small, source):
    small["data"] = {"source": source, "path": "x", "labels": ["a"], "never_stop": True}
    refused(lambda: parse_recipe(small), RecipeError, "never_stop")
