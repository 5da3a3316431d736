import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pe_beam.contracts.generator import Step
from pe_beam.errors import RecipeError
from pe_beam.modalities.image.codec import decode_image, encode_png
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.modalities.image.preview import samples_grid
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.testing import check_embedder


def _rngs(count, seed=0):
    return [np.random.default_rng(seed + i) for i in range(count)]


@pytest.fixture(scope="module")
def generator():
    return TextRender(TextRenderOptions(), labels=["0", "7"])


@pytest.fixture(scope="module")
def parents(generator):
    labels = ["0", "7"] * 8
    return generator.random(labels, _rngs(16)).append_column("label", pa.array(labels))


def test_pictures_are_gray_drawn_and_different(parents):
    images = [decode_image(data, mode="L") for data in parents["image"].to_pylist()]
    assert all(image.size == (32, 32) and np.asarray(image).max() > 200 for image in images)
    assert len(set(parents["image"].to_pylist())) > 12


def test_degree_zero_is_the_parent(generator, parents):
    same = generator.vary(parents, Step(iteration=1, iterations=1, degree=0.0), _rngs(16, 50))
    assert same["image"] == parents["image"]


def test_a_variation_stays_within_its_degree_and_remembers(generator, parents):
    varied = generator.vary(parents, Step(iteration=1, iterations=3, degree=0.1), _rngs(16, 99))
    for old, new in zip(parents["state"].to_pylist(), varied["state"].to_pylist(), strict=True):
        before, after = json.loads(old), json.loads(new)
        assert after["degree"] == 0.1
        assert abs(after["rotation"] - before["rotation"]) <= 0.1 * 20 + 1e-4
        assert -20 <= after["rotation"] <= 20
    assert varied["image"] != parents["image"]


def test_a_row_does_not_depend_on_its_batch(generator):
    whole = generator.random(["0", "7", "0"], _rngs(3))
    assert generator.random(["7"], _rngs(1, 1))["image"][0] == whole["image"][1]


def test_options_are_refused_by_name():
    with pytest.raises(RecipeError, match="no text"):
        TextRender(TextRenderOptions(), labels=[None])
    with pytest.raises(RecipeError, match="no font"):
        TextRender(TextRenderOptions(), labels=["\U00020000"])
    with pytest.raises(RecipeError, match=r"generator\.rotation"):
        TextRender(TextRenderOptions(rotation=(5, -5)), labels=["0"])
    with pytest.raises(RecipeError, match=r"generator\.fonts"):
        TextRender(TextRenderOptions(fonts="/nowhere"), labels=["0"])
    with pytest.raises(RecipeError, match=r"generator\.waist: \[0\.0, 0\.6\]"):
        TextRender(TextRenderOptions(waist=(0, 0.6)), labels=["0"])


def _drawn(text, **moved):
    """One picture of a text in DejaVu Sans, all at rest but what is named, as an array."""
    state = {"size": 1.3, "stroke": 0.04, "rotation": 0, "dx": 0, "dy": 0, "scale_x": 1, "text": text}
    state |= {"font": "DejaVuSans.ttf", "bend": 0, "wave": 0, "waist": 0} | moved
    parent = pa.table({"state": [json.dumps(state)], "label": ["0"]})
    options = TextRenderOptions(**{name: (value, value) for name, value in moved.items()})
    made = TextRender(options, labels=["0"]).vary(parent, Step(iteration=1, iterations=1, degree=0.0), _rngs(1))
    return np.asarray(decode_image(made["image"][0].as_py(), mode="L"), dtype=float)


def _middle(picture, axis):
    """The centre of mass along an axis, in half-sides from the middle."""
    mass = picture.sum(axis=1 - axis)
    return (mass @ np.arange(len(mass)) / mass.sum() + 0.5) / len(mass) * 2 - 1


def test_a_bend_is_an_arc():
    """x + 0.3 (y^2 - 1/3) of the picture is 0 on the stem: 0.1 right in the middle, 0.2 left at the ends."""
    bent = _drawn("|", bend=0.3)
    assert _middle(bent[14:18], 1) == pytest.approx(0.1, abs=0.03)
    assert _middle(bent[:2], 1) < -0.1 and _middle(bent[-2:], 1) < -0.1


def test_a_wave_is_an_s():
    waved = _drawn("|", wave=0.15)
    assert _middle(waved[:16], 1) > 0.05 and _middle(waved[16:], 1) < -0.05


def test_a_waist_moves_the_middle_up():
    """A dash at height `rest` shows where y + 0.3 (1 - y^2) = rest."""
    rest, y = _middle(_drawn("-"), 0), _middle(_drawn("-", waist=0.3), 0)
    assert y < rest - 0.1
    assert y + 0.3 * (1 - y**2) == pytest.approx(rest, abs=0.04)


def test_pixels_are_block_means():
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    embedder = Pixels(PixelsOptions(size=4))
    table = pa.table({"image": [encode_png(array)]})
    wanted = array.reshape(4, 2, 4, 2).mean(axis=(1, 3)).ravel() / 255
    assert embedder.embed(table).vectors[0] == pytest.approx(wanted, abs=1e-7)
    assert embedder.dimension == 16
    assert Pixels(PixelsOptions(size=(2, 3), mode="rgb")).dimension == 18


def test_what_is_no_image_is_a_fault():
    whole = encode_png(np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8))
    found = Pixels(PixelsOptions()).embed(pa.table({"image": [whole, whole[:200], b"", None, b"GIF89a"]}))
    assert sorted(found.faults) == [1, 2, 3, 4]
    assert not found.vectors[1:].any()


def test_the_picture_of_samples(parents):
    grid = Image.open(io.BytesIO(samples_grid(parents, "NOT PRIVATE")))
    assert grid.width > 1000
    assert samples_grid(parents, None) == samples_grid(parents, None)
    assert samples_grid(parents.slice(0, 0), None)


def test_labels_beside_samples_are_told_apart():
    """Cut to a few letters, all rows of CelebA were called Male_0."""
    image = encode_png(np.zeros((8, 8), np.uint8))

    def grid(label: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(samples_grid(pa.table({"label": [label], "image": [image]})))))

    assert not np.array_equal(grid("Male_0 | Young_0"), grid("Male_0 | Young_1"))
    long = "one of very many columns that together make a label | " * 4
    assert not np.array_equal(grid(f"{long}0"), grid(f"{long}1"))
    assert grid(f"{long}0").shape[1] < 1600
    assert grid("no_tumor").shape[1] > grid("0").shape[1]
    assert grid("") is not None


def test_pixels_without_resizing_are_the_picture_and_another_size_is_left_out():
    rng = np.random.default_rng(0)
    own, other = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8), rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    embedder = Pixels(PixelsOptions(size=(6, 4), mode="rgb", resize=False))
    found = embedder.embed(pa.table({"image": [encode_png(own), encode_png(other)]}))
    assert found.vectors[0].tolist() == (own.ravel() / 255).astype(np.float32).tolist()
    assert {row: fault.kind for row, fault in found.faults.items()} == {1: "image of another size than embedder.size"}
    check_embedder(embedder, pa.table({"image": [encode_png(own), encode_png(255 - own), encode_png(own // 2)]}))
