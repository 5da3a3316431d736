"""`data.prepare`: private pictures of one size, by three policies, whatever source they come from."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError

from pe_beam.errors import RecipeError
from pe_beam.modalities.image.codec import encode_png
from pe_beam.modalities.image.resize import Resize
from pe_beam.recipe.identity import embedding_id, run_id, to_yaml
from pe_beam.recipe.loading import parse_recipe
from pe_beam.recipe.sources import private_source, source_at
from tests.whole_runs import parquet_recipe, picture_table


def resized(picture: np.ndarray | Image.Image | bytes, **options: object) -> np.ndarray:
    data = picture if isinstance(picture, bytes) else None
    if data is None:
        sink = io.BytesIO()
        (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(sink, format="PNG")
        data = sink.getvalue()
    table, faults = Resize.model_validate(options).prepared(pa.table({"image": pa.array([data], pa.binary())}))
    assert not faults
    return np.asarray(Image.open(io.BytesIO(table["image"][0].as_py())))


def bars(tall: int, wide: int) -> np.ndarray:
    """Left third black, middle third gray, right third white; along the longer side."""
    line = np.repeat(np.array([0, 128, 255], np.uint8), max(tall, wide) // 3)
    return np.tile(line, (tall, 1)) if wide > tall else np.tile(line[:, None], (1, wide))


@pytest.mark.parametrize("turn", [False, True])
def test_the_policies_do_what_they_are_called(turn):
    picture = bars(30, 90)
    picture = picture.T if turn else picture

    def made(**options):
        array = resized(picture, size=30, **options)
        assert array.shape == (30, 30)
        return array.T if turn else array

    assert np.array_equal(made(policy="crop", filter="box"), np.full((30, 30), 128))
    squeezed = made(policy="squeeze", filter="box")
    assert [int(squeezed[15, x]) for x in (2, 15, 27)] == [0, 128, 255]
    padded = made(policy="pad", filter="box", background="white")
    assert (padded[:10] == 255).all() and (padded[20:] == 255).all()
    assert np.array_equal(padded[10:20], squeezed[10:20])
    assert (made(policy="pad", filter="box")[:10] == 0).all()


def test_crop_is_the_middle_of_the_picture_and_then_pillows_own_resize():
    """Whole numbers: cut out the middle, then resize; as guides to CelebA's 178 x 218 do."""
    picture = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    for name in ("box", "bilinear", "bicubic", "lanczos"):
        wanted = Image.fromarray(picture[20:198]).resize((64, 64), Image.Resampling[name.upper()])
        assert np.array_equal(resized(picture, size=64, policy="crop", filter=name), np.asarray(wanted))
    assert resized(picture, size=[32, 48], policy="crop").shape == (32, 48, 3)


def test_gray_stays_gray_and_a_picture_of_the_size_stays_its_file():
    gray = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert resized(gray, size=4, policy="squeeze").ndim == 2
    table, _ = Resize(size=8, policy="pad").prepared(pa.table({"image": [encode_png(gray)]}))
    assert table["image"][0].as_py() == encode_png(gray)
    clear = Image.new("LA", (8, 8), (0, 0))
    assert (resized(clear, size=4, policy="crop") == 255).all()
    deep = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    assert resized(deep, size=4, policy="crop").tolist() == [[255] * 4] * 4
    assert resized(Image.new("1", (8, 8), 1), size=4, policy="crop").tolist() == [[255] * 4] * 4
    assert resized(Image.new("P", (8, 8)), size=4, policy="crop").shape == (4, 4, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_scans_of_twelve_bits_are_read_by_their_declared_levels(kind: str) -> None:
    """By the whole range of 16 bits they would be nearly black."""
    values = np.array([[0, 1000, 2048, 4095], [3000, 5000, 65535, 1024]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, format=kind)

    def read(**options: object) -> np.ndarray:
        table = pa.table({"image": [file.getvalue()]})
        made, faults = Resize.model_validate({"size": [2, 4], "policy": "squeeze", **options}).prepared(table)
        assert not faults
        return np.asarray(Image.open(io.BytesIO(made["image"][0].as_py())))

    assert read(levels=[0, 4095]).tolist() == [[0, 62, 128, 255], [187, 255, 255, 64]]
    assert read(levels=[1000, 3000]).tolist() == [[0, 0, 134, 255], [255, 255, 255, 3]]
    assert np.array_equal(read(levels=[0, 65535]), (values.astype(int) + 128) // 257)
    gray = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert np.array_equal(resized(gray, size=[2, 4], policy="squeeze", levels=[0, 4095]), gray), "8 bits stay"


def test_rotation_counts_before_the_size():
    """A camera's picture that lies on its side: 20 x 40 as stored, 40 x 20 as seen."""
    sink, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(bars(20, 60)).save(sink, format="PNG", exif=exif)
    assert np.array_equal(resized(sink.getvalue(), size=[60, 20], policy="squeeze"), bars(20, 60))  # the file as it is
    made = resized(sink.getvalue(), size=[6, 2], policy="squeeze", filter="box")
    assert made[:, 0].tolist() == [0, 0, 128, 128, 255, 255]


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 1), (3, 4097)])
@pytest.mark.parametrize("policy", ["squeeze", "crop", "pad"])
@pytest.mark.parametrize("size", [1, 8, [1, 500], [500, 1]])
def test_extreme_ratios(shape, policy, size):
    made = resized(np.full(shape, 7, np.uint8), size=size, policy=policy)
    assert made.shape == ((size, size) if isinstance(size, int) else tuple(size))
    assert 7 in made


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_a_fault_and_nothing_else_of_the_batch_changes():
    good = encode_png(np.zeros((9, 5), np.uint8))
    bomb = io.BytesIO()
    Image.new("1", (30_000, 3_000)).save(bomb, format="PNG")
    table = pa.table({"image": pa.array([good, b"no picture", None, b"", good[:40], bomb.getvalue(), good])})
    made, faults = Resize(size=4, policy="pad").prepared(table)
    assert made.schema == pa.schema([("image", pa.binary())])
    assert sorted(faults) == [1, 2, 3, 4, 5]
    assert faults[5].kind == "image of too many pixels"
    assert [row for row, image in enumerate(made["image"].to_pylist()) if image is None] == [1, 2, 3, 4, 5]
    alone, _ = Resize(size=4, policy="pad").prepared(table.slice(6, 1))
    assert alone["image"][0] == made["image"][6] == made["image"][0]
    empty, none = Resize(size=4, policy="pad").prepared(table.slice(0, 0))
    assert (empty.num_rows, none) == (0, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 4097},
        {"size": [4, 0]},
        {"size": [1, 2, 3]},
        {"policy": "stretch"},
        {"filter": "x"},
        {"levels": [9, 9]},
    ],
)
def test_options_that_are_refused(wrong):
    with pytest.raises(ValidationError):
        Resize.model_validate({"size": 4, "policy": "crop", **wrong})


def test_a_recipe_says_how_and_its_ids_follow(small, tmp_path):
    small = parquet_recipe(small, picture_table(6), tmp_path)
    before = parse_recipe(small)
    small["data"]["prepare"] = {"size": 4, "policy": "crop"}
    after = parse_recipe(small)
    usual = {"filter": "bicubic", "background": "black", "levels": None}
    assert after.data.prepare == {"size": 4, "policy": "crop"} | usual
    assert len({run_id(before), run_id(after)}) == len({embedding_id(before), embedding_id(after)}) == 2
    small["data"]["prepare"]["filter"] = "bicubic"
    assert run_id(parse_recipe(small)) == run_id(after)
    small["data"]["prepare"]["levels"] = None  # a newer key, which changes no id
    assert run_id(parse_recipe(small)) == run_id(after)
    small["data"]["prepare"]["levels"] = [0, 4095]
    assert run_id(parse_recipe(small)) != run_id(after)
    assert "prepare:" in to_yaml(after)
    small["data"]["prepare"] = {"size": 4, "policy": "stretch"}
    with pytest.raises(RecipeError, match=r"data\.prepare\.policy"):
        parse_recipe(small)
    small["data"]["prepare"] = {"size": 4, "policy": "crop"}
    small["data"]["never_stop"] = True
    with pytest.raises(RecipeError, match="never_stop: refused with prepare"):
        parse_recipe(small)


def test_a_modality_without_preparation_refuses_it(small):
    small["data"] = {"source": "csv", "path": "x.csv", "prepare": {"size": 4}}
    small["modality"] = "text"
    with pytest.raises(RecipeError, match=r"data\.prepare: modality 'text' takes none"):
        parse_recipe(small)


def test_sources_and_holdouts_are_read_prepared_and_cut_as_before(small, tmp_path: Path):
    """The side of a cut follows from the record as it lies there, so a preparation moves none to the other side."""
    table = picture_table(40)
    images = table["image"].to_pylist()
    images[3] = b"no picture"
    recipe = parquet_recipe(small, table.set_column(0, "image", pa.array(images, pa.binary())), tmp_path)
    recipe["data"]["holdout"] = {"share": 0.3, "random_state": 0}
    plain = parse_recipe(recipe)
    recipe["data"]["prepare"] = {"size": 4, "policy": "squeeze"}
    prepared = parse_recipe(recipe)
    found = []
    for part in ("train", "test"):
        rows, sizes, faults = [], set(), []
        for one in (plain, prepared):
            source = source_at(one, one.data.path, part=part)
            batches = [batch for piece in source.pieces() for batch in source.read(piece)]
            rows.append([row for batch in batches for row in batch.rows])
            faults.append([kind for batch in batches for kind in batch.faults])
            for batch in batches:
                whole = (x for i, x in enumerate(batch.payload["image"].to_pylist()) if i not in batch.faults)
                sizes |= {(one is prepared, Image.open(io.BytesIO(x)).size) for x in whole if x != b"no picture"}
        assert rows[0] == rows[1]
        assert sizes == {(False, (8, 8)), (True, (4, 4))}
        found += [(len(faults[0]), len(faults[1]))]
    assert sorted(found) == [(0, 0), (0, 1)]
    before, after = private_source(plain), private_source(prepared)
    assert before.digest(before.pieces()[0]) == after.digest(after.pieces()[0])
