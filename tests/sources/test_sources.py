"""Sources against small real files."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pe_beam import sources
from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import SHARD_ROWS, Piece, Source, SourceBatch
from pe_beam.errors import DataError, RecipeError
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.recipe.sources import open_source
from pe_beam.sources import parquet


def opened(source: str, path: Path | str, **more: Any) -> Source:
    content = FieldContent(base.IMAGE_SCHEMA)
    given: dict[str, Any] = {"content": content, "columns": {}, "labelled": True, "client": False, "part": None, **more}
    return open_source(source=source, path=str(path), **given)


def read(source: Source) -> list[SourceBatch]:
    source = pickle.loads(pickle.dumps(source))  # noqa: S301
    return [batch for piece in source.pieces() for batch in source.read(piece)]


def joined(batches: list[SourceBatch], field: str) -> list[Any]:
    if field == "image":
        return [x for batch in batches for x in batch.payload.column("image").to_pylist()]
    return [x for batch in batches for x in getattr(batch, field)]


def refused(call: Callable[[], Any], kind: type[Exception], *words: str, never: str = "zzsecret") -> None:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert never not in message
    assert "Arrow" not in message and "Traceback" not in message and "\n" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# scikit-learn


def test_digits_are_the_stratified_cut_in_its_order() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    for which, pixels, labels in (("train", parts[0], parts[2]), ("test", parts[1], parts[3])):
        batches = read(opened("sklearn", "digits", part=(which, 0.3, 0)))
        assert max(len(batch.labels) for batch in batches) <= 1024
        assert joined(batches, "labels") == [str(label) for label in labels]
        images = [Image.open(io.BytesIO(image)) for image in joined(batches, "image")]
        assert {(image.mode, image.size, image.format) for image in images} == {("L", (8, 8), "PNG")}
        wanted = np.array([[round(255 * p / 16) for p in row] for row in pixels])
        assert np.array_equal(np.array([np.asarray(image).ravel() for image in images]), wanted)


def test_digits_whole_without_labels() -> None:
    source = opened("sklearn", "digits", labelled=False)
    assert source.pieces() == [Piece("digits", 0, 0, 1797)]
    assert joined(read(source), "labels") == [None] * 1797
    part = opened("sklearn", "digits", part=("train", 0.3, 0))
    assert source.digest(source.pieces()[0]) != part.digest(part.pieces()[0])


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan"), 0.0001])
def test_a_share_that_cannot_be_cut(share: float) -> None:
    refused(lambda: opened("sklearn", "digits", part=("test", share, 0)), RecipeError, "data.holdout")


def test_recipe_errors(tmp_path: Path) -> None:
    refused(lambda: opened("sklearn", "moons"), RecipeError, "data.path", "digits")
    refused(lambda: opened("sklearn", "wine").pieces(), DataError, "data.columns.image", "no column")
    refused(lambda: opened("xml", tmp_path), RecipeError, "data.source", "parquet")
    refused(lambda: opened("folder", ""), RecipeError, "data.path")
    refused(lambda: opened("sklearn", "digits", part=("dev", 0.3, 0)), RecipeError, "data.holdout", "train")
    refused(lambda: opened("folder", tmp_path, client=True), RecipeError, "data.columns.client")
    refused(lambda: opened("folder", tmp_path, columns={"image": "x"}), RecipeError, "data.columns")
    refused(lambda: opened("parquet", tmp_path, columns={"imgae": "x"}), RecipeError, "data.columns", "image")
    refused(lambda: opened("folder", "nofs://x").pieces(), RecipeError, "data.path", "nofs")


# folder


def fill(root: Path, names: list[str]) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"bytes of " + name.encode())
    return root


def test_folder_order_labels_and_what_is_skipped(tmp_path: Path) -> None:
    names = ["b/2.PNG", "b/10.jpg", "a/deep/x.webp", "a-b/1.tif", "top.png", "é/1.gif", "a/1.jfif", "a/1", "a/1.png.gz"]
    beside = ["a/notes.txt", "README", "LICENSE", "b/Thumbs.db", ".DS_Store", "a/.DS_Store", "a/labels.json"]
    root = fill(tmp_path / "d[1]", [*names, *beside, ".h/1.png", "a/.1.png"])
    kept = sorted(names, key=str.encode)
    batches = read(opened("folder", f"{root}/"))
    assert joined(batches, "rows") == [f"{name}:0" for name in kept]
    assert joined(batches, "image") == [b"bytes of " + name.encode() for name in kept]
    assert joined(batches, "labels") == [n.split("/")[0] if "/" in n else None for n in kept]
    assert joined(read(opened("folder", root, labelled=False)), "labels") == [None] * len(kept)


def test_folder_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ["1.png"])
    root = fill(tmp_path / "root", ["a/1.png"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    assert [n for n in opened("folder", root).pieces()[0].files if "up" not in n] == ["a/1.png", "b/1.png"]


def test_folder_ranges_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 4)
    monkeypatch.setattr("pe_beam.sources.folder.BATCH_ROWS", 3)
    root = fill(tmp_path, [f"a/{i}.png" for i in range(10)])
    source = opened("folder", root)
    pieces = source.pieces()
    assert [(p.start, p.stop, len(p.files)) for p in pieces] == [(0, 4, 4), (4, 8, 4), (8, 10, 2)]
    assert [p.name for p in pieces] == sorted(p.name for p in pieces)
    assert [len(b.labels) for b in source.read(pieces[0])] == [3, 1]
    whole = joined(read(source), "image")
    monkeypatch.setattr("pe_beam.sources.folder.BATCH_BYTES", 20)
    assert [len(b.labels) for b in source.read(pieces[0])] == [1, 1, 1, 1]
    assert joined(read(source), "image") == whole


def test_folder_digest(tmp_path: Path) -> None:
    root = fill(tmp_path / "one", ["a/1.png", "a/2.png"])
    copy = fill(tmp_path / "two", ["a/1.png", "a/2.png"])

    def digest(path: Path) -> str:
        source = opened("folder", path)
        return source.digest(source.pieces()[0])

    first = digest(root)
    assert len(first) == 64 and digest(copy) == first
    (root / "a/2.png").write_bytes(b"bytes of a/2.pnG")
    changed = digest(root)
    (copy / "a/2.png").rename(copy / "a/3.png")
    assert len({first, changed, digest(copy)}) == 3


def test_folder_faults(tmp_path: Path) -> None:
    refused(lambda: opened("folder", tmp_path / "no").pieces(), DataError, "data.path", str(tmp_path / "no"))
    refused(lambda: opened("folder", tmp_path).pieces(), DataError, "data.path", "no image files")
    refused(lambda: opened("folder", tmp_path, key="data.holdout").pieces(), DataError, "data.holdout")
    source = opened("folder", fill(tmp_path, ["a/zzsecret.png", "a/1.png"]))
    refused(lambda: opened("folder", tmp_path / "a/1.png").pieces(), DataError, "data.path")
    (piece,) = source.pieces()
    (tmp_path / "a/zzsecret.png").unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "gone")
    refused(lambda: source.digest(piece), DataError, "data.path", "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    root = fill(tmp_path, ["zzsecret/1.png", "b/1.png"])
    (root / "zzsecret").chmod(0)
    try:
        refused(lambda: opened("folder", root).pieces(), DataError, "data.path", "may not be read")
    finally:
        (root / "zzsecret").chmod(0o700)


# Parquet


def write(file: Path, rows: int = 5, *, group: int = 1000, first: int = 0, **columns: Any) -> Path:
    given: dict[str, Any] = {
        "image": [b"png %d" % (first + i) for i in range(rows)],
        "label": [str(i % 3) for i in range(rows)],
        "other": list(range(rows)),
        **columns,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(given), file, row_group_size=group)
    return file


@pytest.mark.parametrize("group", [700, 8192, 50_000])
def test_parquet_ranges(tmp_path: Path, group: int) -> None:
    rows = 2 * SHARD_ROWS + 17
    source = opened("parquet", write(tmp_path / "x.parquet", rows, group=group))
    pieces = source.pieces()
    assert [(p.start, p.stop) for p in pieces] == [(0, 8192), (8192, 16384), (16384, rows)]
    batches = read(source)
    assert max(len(b.rows) for b in batches) <= 1024
    assert joined(batches, "image") == [b"png %d" % i for i in range(rows)]
    assert joined(batches, "labels") == [str(i % 3) for i in range(rows)]
    assert joined(batches, "rows") == [f"{tmp_path}/x.parquet:{i}" for i in range(rows)]
    assert joined(list(source.read(pieces[1])), "image") == [b"png %d" % i for i in range(8192, 16384)]


def test_parquet_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 5000)
    images = [os.urandom(1000) for _ in range(40)]
    batches = read(opened("parquet", write(tmp_path / "x.parquet", 40, image=images)))
    assert joined(batches, "image") == images
    assert max(len(b.rows) for b in batches) <= 5


def test_parquet_files_folder_and_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate(["b.parquet", "a/z.parquet", "a-b.parquet", ".hidden.parquet"]):
        write(tmp_path / "d" / name, 2, first=10 * i)
    (tmp_path / "d" / "readme.txt").write_text("no")
    folder = opened("parquet", tmp_path / "d")
    assert [Path(p.file).name for p in folder.pieces()] == ["a-b.parquet", "z.parquet", "b.parquet"]
    assert [p.file_index for p in folder.pieces()] == [0, 1, 2]
    assert joined(read(folder), "image") == [b"png %d" % i for i in (20, 21, 10, 11, 0, 1)]
    assert len(opened("parquet", tmp_path / "d" / "[ab].parquet").pieces()) == 1
    monkeypatch.chdir(tmp_path / "d")
    assert len(opened("parquet", "b*.parquet").pieces()) == 1
    assert len(opened("parquet", "**/z.parquet").pieces()) == 1


def test_parquet_kinds_of_columns(tmp_path: Path) -> None:
    hugging = pa.array(
        [{"bytes": b"a", "path": "p"}, {"bytes": None, "path": "p"}, None],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    file = tmp_path / "x.parquet"
    table = pa.table(
        {
            "img": hugging,
            "class": pa.array([0, 7, None], pa.int64()),
            "who": pa.array(["u", None, "v"]).dictionary_encode(),
        }
    )
    pq.write_table(table, file)
    columns = {"image": "img", "label": "class", "client": "who"}
    (batch,) = read(opened("parquet", file, columns=columns, client=True))
    assert batch.payload.schema == pa.schema([("image", pa.binary())])
    assert batch.payload.column("image").to_pylist() == [b"a", None, None]
    assert batch.labels == ["0", "7", None] and batch.clients == ["u", None, "v"]
    assert {i: fault.kind for i, fault in batch.faults.items()} == {1: "missing image", 2: "missing image"}

    write(
        file,
        2,
        image=pa.array([b"x", None], pa.large_binary()),
        label=pa.array(["l", "m"], pa.large_string()),
    )
    (batch,) = read(opened("parquet", file))
    assert batch.payload.column("image").to_pylist() == [b"x", None]
    assert list(batch.faults) == [1] and batch.labels == ["l", "m"] and batch.clients == [None, None]


def test_parquet_columns_missing_or_of_a_wrong_type(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")

    def tried(**more: Any) -> Callable[[], Any]:
        return lambda: opened("parquet", tmp_path, **more).pieces()

    refused(tried(columns={"image": "img"}), DataError, "data.columns.image", "'img'", "no column")
    refused(tried(client=True), DataError, "data.columns.client", "no column")
    refused(tried(columns={"image": "other"}), DataError, "data.columns.image", "wrong type", "binary")
    assert opened("parquet", tmp_path, columns={"label": "no"}, labelled=False).pieces()
    write(tmp_path / "zzsecret.parquet", label=[[0.5]] * 5)
    refused(tried(), DataError, "data.columns.label", "wrong type", "string, integer, float, decimal or boolean")
    write(tmp_path / "zzsecret.parquet", image=["text"] * 5)
    refused(tried(), DataError, "data.columns.image", "wrong type")
    write(tmp_path / "zzsecret.parquet", image=[{"path": "p"}] * 5)
    refused(tried(), DataError, "data.columns.image", "wrong type")
    twice = pa.table([[b"a"], [b"b"], ["l"]], names=["image", "image", "label"])
    pq.write_table(twice, tmp_path / "zzsecret.parquet")
    refused(tried(), DataError, "data.columns.image", "more than one")


def test_parquet_digest(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", SHARD_ROWS + 1)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(file.read_bytes())
    source = opened("parquet", file)
    one, two = source.pieces()
    before = source.digest(one)
    assert source.digest(two) != before
    assert opened("parquet", copy).digest(opened("parquet", copy).pieces()[0]) == before
    raw = bytearray(file.read_bytes())
    raw[100] ^= 1
    file.write_bytes(raw)
    assert source.digest(one) != before


def test_parquet_digest_reads_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened("parquet", write(tmp_path / "x.parquet", SHARD_ROWS + 1))
    calls: list[str] = []
    whole = sources.files.chunks  # type: ignore[attr-defined]
    monkeypatch.setattr("pe_beam.sources.files.chunks", lambda path: calls.append(path) or whole(path))
    for piece in source.pieces() * 2:
        source.digest(piece)
    assert len(calls) == 1


def test_parquet_truncated_damaged_changed_gone(tmp_path: Path) -> None:
    file = write(tmp_path / "zzsecret.parquet", 3000, image=[os.urandom(20) for _ in range(3000)])
    source = opened("parquet", tmp_path)
    (piece,) = source.pieces()
    good = file.read_bytes()
    for bad in (
        good[: len(good) // 2],
        good[:5],
        b"",
        b"not parquet at all",
        good[:-8] + b"\xff" * 4 + b"PAR1",
    ):
        file.write_bytes(bad)
        refused(source.pieces, DataError, "data.path", "Parquet")
        refused(lambda: list(source.read(piece)), DataError, "data.path")
    file.write_bytes(good[:4] + b"\xff" * 3000 + good[3004:])
    assert source.pieces() == [piece]
    refused(lambda: list(source.read(piece)), DataError, "data.path", "damaged")
    write(file, 10)
    refused(lambda: list(source.read(piece)), DataError, "data.path", "fewer rows")
    file.unlink()
    refused(lambda: list(source.read(piece)), DataError, "data.path", "gone")
    refused(lambda: source.digest(piece), DataError, "data.path", "gone")


def test_parquet_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no", tmp_path / "*.parquet", tmp_path / "no" / "*.parquet"):
        refused(lambda path=path: opened("parquet", path).pieces(), DataError, "data.path", "no Parquet files")
    write(tmp_path / "x.parquet", 0, image=pa.array([], pa.binary()), label=pa.array([], pa.string()))
    refused(lambda: opened("parquet", tmp_path).pieces(), DataError, "data.path", "no rows")


def test_pictures_of_unread_formats_count_and_large_files_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of HEIC must not become an empty or a small run without a word."""
    (tmp_path / "a.heic").write_bytes(b"ftypheic")
    (tmp_path / "b.png").write_bytes(b"x" * 50)
    (tmp_path / "notes.txt").write_text("skipped")
    monkeypatch.setattr("pe_beam.sources.folder.MAX_BYTES", 40)
    source = opened("folder", tmp_path, labelled=False)
    (piece,) = source.pieces()
    (batch,) = source.read(piece)
    assert batch.rows == ["a.heic:0", "b.png:0"]
    assert {row: fault.kind for row, fault in batch.faults.items()} == {1: "image file of too many bytes"}
    assert sorted(Pixels(PixelsOptions()).embed(batch.payload).faults) == [0, 1]


def test_a_file_of_several_pieces_is_digested_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARD_ROWS", 10)
    for name, count in (("a", 25), ("b", 5)):
        pq.write_table(pa.table({"image": [b"%d" % i for i in range(count)]}), tmp_path / f"{name}.parquet")
    source = opened("parquet", tmp_path, labelled=False)
    pieces = source.pieces()
    wanted = [source.digest(piece) for piece in pieces]
    digested = [*source.digested(pieces[:3]), *source.digested(pieces[3:])]
    assert [piece.whole is not None for piece in digested] == [True, True, True, False]
    read: list[str] = []
    real = parquet._file_digest
    monkeypatch.setattr(parquet, "_file_digest", lambda file: read.append(file) or real(file))
    assert [source.digest(piece) for piece in digested] == wanted
    assert [Path(file).name for file in read] == ["b.parquet"]
    pq.write_table(pa.table({"image": [b"other"] * 25}), tmp_path / "a.parquet")
    assert all(source.digest(a) != b for a, b in zip(digested[:3], wanted, strict=False))
