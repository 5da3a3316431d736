"""text-render beyond white on black: colour, text free of the label, schedules; and recipes that keep their bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import pyarrow as pa
import pytest
from PIL import ImageFont
from pydantic import ValidationError

from pe_beam.contracts.generator import Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.text_drawing import coloured
from pe_beam.modalities.image.text_render import TextRender, TextRenderOptions
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.loading import parse_recipe
from pe_beam.testing import check_generator


def _rngs(count, purpose="test"):
    return [keyed_rng(7, 1, i, purpose) for i in range(count)]


def _states(table):
    return [json.loads(text) for text in table["state"].to_pylist()]


def _made(count=12, labels=("0", "7", "x"), **options):
    generator = TextRender(TextRenderOptions(**options), labels=list(labels))
    asked = [labels[i % len(labels)] for i in range(count)]
    made = generator.random(asked, _rngs(count, "random"))
    return generator, made.append_column("label", pa.array(asked))


def _digests(table):
    states = hashlib.sha256("\n".join(table["state"].to_pylist()).encode()).hexdigest()
    pixels = b"".join(np.asarray(decode_image(data, mode="L")).tobytes() for data in table["image"].to_pylist())
    return states[:32], hashlib.sha256(pixels).hexdigest()[:32]


def test_recipes_from_before_colour_and_moves_keep_their_bytes():
    """Taken at fc20f03, before `any_text`, `colour` and `moves`, with Pillow 12.3.0; another Pillow draws otherwise."""
    generator, parents = _made(size=(1.0, 1.5), bend=(-0.3, 0.3), wave=(-0.15, 0.15), waist=(-0.3, 0.3))
    varied = generator.vary(parents, Step(iteration=2, iterations=5, degree=0.3), _rngs(12, "vary"))
    pinned = [
        ("3b0dc535eab9c47d8fd65befd8b48089", "cbc7e2842cd91d3cc18b83724e6a07ac"),
        ("ee9a25cf7f7a0e37f5a52076e8e0ae7f", "8d360e6af69bf5200eb3c9cf9bfc7318"),
    ]
    found = [_digests(parents), _digests(varied)]
    assert [states for states, _ in found] == [states for states, _ in pinned]
    if PIL.__version__ == "12.3.0":
        assert found == pinned


@pytest.mark.parametrize(
    "options",
    [
        {"colour": {}},
        {"any_text": ["a", "B"]},
        {"moves": {"font": 1, "text": [0.5, 0], "size": {"from": 0.2, "to": 0.1}, "colour": 9}, "any_text": ["q", "w"]},
        {"side": 28, "colour": {"ink": [[200, 0, 0], [255, 60, 60]], "background": [[0, 0, 0], [0, 0, 90]]}},
    ],
)
def test_it_keeps_the_contract_with_every_option(options):
    check_generator(TextRender(TextRenderOptions(**options), labels=["0", "7"]), MODALITY, labels=["0", "7"])


def test_default_options_leave_the_run_id_and_others_change_it(small):
    plain = run_id(parse_recipe(small))
    small["generator"]["moves"] = {}
    assert run_id(parse_recipe(small)) == plain
    small["generator"]["colour"] = {}
    assert run_id(parse_recipe(small)) != plain


def test_ink_and_background_are_mixed_by_the_ink_that_lies_there():
    ink = np.array([[0, 255, 51]], np.uint8)
    assert coloured(ink, [10, 0, 255], [110, 200, 5])[0].tolist() == [[10, 0, 255], [110, 200, 5], [30, 40, 205]]


def test_colours_stay_in_their_ranges_and_are_in_the_picture():
    colour = {"background": [[0, 40, 200], [50, 90, 255]], "ink": [[255, 250, 0], [200, 200, 0]]}
    generator, parents = _made(24, colour=colour, offset=(0, 0))
    varied = generator.vary(parents, Step(iteration=1, iterations=1, degree=1.0), _rngs(24, "vary"))
    for table in (parents, varied):
        for state, data in zip(_states(table), table["image"].to_pylist(), strict=True):
            for name, ends in colour.items():
                low, high = np.minimum(*ends), np.maximum(*ends)
                assert (low <= state[name]).all() and (state[name] <= high).all()
            image = decode_image(data, mode="RGB")
            assert image.getpixel((0, 0)) == tuple(state["background"])
    moved = [a["ink"] != b["ink"] for a, b in zip(_states(parents), _states(varied), strict=True)]
    assert sum(moved) > 20


def test_text_is_free_of_the_label_and_redrawn_by_its_schedule():
    generator, parents = _made(200, any_text=["0", "1", "2"], moves={"text": [0, 1]})
    texts = [state["text"] for state in _states(parents)]
    assert {(label, text) for label, text in zip(parents["label"].to_pylist(), texts, strict=True)} == {
        (label, text) for label in ("0", "7", "x") for text in "012"
    }
    kept, redrawn = (
        [s["text"] for s in _states(generator.vary(parents, Step(iteration=t, iterations=2, degree=0.5), _rngs(200)))]
        for t in (1, 2)
    )
    assert kept == texts
    assert 0.55 < np.mean([a != b for a, b in zip(redrawn, texts, strict=True)]) < 0.78  # 2/3 of redraws, 3 sd


def test_moves_are_widths_in_place_of_degree():
    generator, parents = _made(100, moves={"font": 0, "rotation": [3, 1], "size": 0, "stroke": 0, "offset": 0.01})
    before = _states(parents)
    for iteration, width in ((1, 3), (2, 1)):
        step = Step(iteration=iteration, iterations=2, degree=1.0)
        after = _states(generator.vary(parents, step, _rngs(100, "vary")))
        turned = [abs(a["rotation"] - b["rotation"]) for a, b in zip(before, after, strict=True)]
        assert 0.8 * width < max(turned) <= width + 1e-4
        assert all(a["font"] == b["font"] and a["size"] == b["size"] for a, b in zip(before, after, strict=True))
        assert max(abs(a["dx"] - b["dx"]) for a, b in zip(before, after, strict=True)) <= 0.0101
        assert max(abs(a["scale_x"] - b["scale_x"]) for a, b in zip(before, after, strict=True)) > 0.2  # by degree


def test_fonts_below_a_folder(tmp_path):
    own = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    (tmp_path / "ofl/dejavu").mkdir(parents=True)
    shutil.copy(own, tmp_path / "ofl/dejavu/DejaVuSans.ttf")
    with pytest.raises(RecipeError, match=r"generator\.fonts: no font"):
        _made(fonts=str(tmp_path / "ofl"))
    _, made = _made(fonts=f"{tmp_path}/ofl/**")
    assert {state["font"] for state in _states(made)} == {"dejavu/DejaVuSans.ttf"}
    assert made["image"] == _made(fonts=str(tmp_path / "ofl/dejavu"))[1]["image"]
    (tmp_path / "ofl/bad.ttf").write_bytes(b"no font")
    with pytest.raises(RecipeError, match=r"generator\.fonts: 'bad\.ttf' there is no font"):
        _made(fonts=f"{tmp_path}//ofl/**")  # another spelling, for what is found is kept a process


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"any_text": ["a"], "texts": {"0": "b"}}, r"generator\.any_text: not beside texts"),
        ({"any_text": ["a", " "]}, r"generator\.any_text: an empty text"),
        ({"any_text": ["a", "\U00020000"]}, "no font there has every letter"),
    ],
)
def test_wrong_texts_are_named(options, message):
    with pytest.raises(RecipeError, match=message):
        TextRender(TextRenderOptions(**options), labels=["0"])


@pytest.mark.parametrize(
    ("moves", "message"),
    [
        ({"font": 1.5}, r"generator\.moves\.font: 1.5 is not allowed; 0 to 1"),
        ({"rotation": [1, 2]}, r"generator\.moves\.rotation: \[1\.0, 2\.0\] is not allowed; .*list of 3"),
        ({"size": -0.1}, r"generator\.moves\.size: -0.1 is not allowed; 0 or more"),
        ({"bend": {"from": 1}}, r"generator\.moves\.bend"),
    ],
)
def test_wrong_schedules_are_refused_before_anything_is_drawn(moves, message):
    generator = TextRender(TextRenderOptions(moves=moves), labels=["0"])
    with pytest.raises(RecipeError, match=message):
        generator.attach(Surroundings(iterations=3, service=Service(), folder=None))


def test_a_colour_out_of_range_is_refused():
    with pytest.raises(ValidationError):
        TextRenderOptions(colour={"ink": [[0, 0, 256], [0, 0, 0]]})


def test_threads_that_draw_in_turn_share_their_fonts(monkeypatch):
    """Beam's pools keep threads that have nothing to do: with fonts of their own, each held some 50 MB of them."""
    opened, truetype = [], ImageFont.truetype
    monkeypatch.setattr(ImageFont, "truetype", lambda *args: opened.append(args) or truetype(*args))
    pools = [ThreadPoolExecutor(1) for _ in range(4)]
    drawn = [_digests(pool.submit(_made, size=(7.25, 7.25)).result()[1]) for pool in pools]
    assert len(set(drawn)) == 1
    assert len(opened) == len(set(opened))
    for pool in pools:
        pool.shutdown()
