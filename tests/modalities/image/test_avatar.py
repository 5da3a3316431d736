"""avatar: the package's faces, drawn and redrawn attribute by attribute."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pytest

from pe_beam.contracts.generator import Step
from pe_beam.contracts.service import Service, Surroundings
from pe_beam.errors import MissingExtraError, RecipeError
from pe_beam.keyed import keyed_rng
from pe_beam.modalities.image import MODALITY
from pe_beam.modalities.image.codec import decode_image
from pe_beam.modalities.image.simulators import avatar
from pe_beam.modalities.image.simulators.avatar import Avatar, AvatarOptions
from pe_beam.testing import check_generator

STEP = Step(iteration=1, iterations=2, degree=0.5)
try:
    import resvg_py  # noqa: F401

    MISSING = False
except ImportError:
    MISSING = True
drawn = pytest.mark.skipif(MISSING, reason="avatar was NOT tested: resvg-py is not installed")


def _rngs(count, purpose="test"):
    return [keyed_rng(5, 1, i, purpose) for i in range(count)]


def _states(table):
    return [json.loads(text) for text in table["state"].to_pylist()]


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures cost 10 to 100 ms each: for tests that look at states alone."""
    monkeypatch.setattr(Avatar, "_picture", lambda self, state: b"")


@drawn
def test_it_keeps_the_contract():
    check_generator(Avatar(AvatarOptions(), labels=["a"]), MODALITY, labels=["a"])


@drawn
def test_the_published_attributes_and_values():
    """PAPERS: 16 attributes of python_avatars 1.4.1."""
    counts = [2, 3, 61, 14, 14, 12, 3, 13, 8, 7, 10, 10, 10, 16, 14, 13]
    assert [len(values) for values in avatar._values().values()] == counts


@drawn
def test_every_value_of_every_attribute_can_be_drawn(monkeypatch):
    """Small, for the time; 61 rows go through all values of each."""
    monkeypatch.setattr(avatar, "_WIDTH", 66)
    monkeypatch.setattr(avatar, "_HEIGHT", 70)
    generator = Avatar(AvatarOptions(side=24, crop=None), labels=[None])
    states = [{name: values[row % len(values)] for name, values in generator._names.items()} for row in range(61)]
    drawings = {generator._picture(state) for state in states}
    assert len(drawings) == 61
    assert {decode_image(data, mode="RGB").size for data in drawings} == {(24, 24)}


@drawn
def test_the_picture_shows_the_attributes():
    base = {name: values[-1] for name, values in Avatar(AvatarOptions(), labels=[None])._names.items()}
    base |= {"style": "CIRCLE", "background_color": "WHITE", "top": "NONE", "facial_hair": "NONE", "accessory": "NONE"}
    generator = Avatar(AvatarOptions(side=100, crop=None), labels=[None])
    light, dark = (
        np.asarray(decode_image(generator._picture(base | {"skin_color": skin}), mode="L"), float)
        for skin in ("PALE", "BLACK")
    )
    assert light[40:60, 40:60].mean() > dark[40:60, 40:60].mean() + 40
    assert abs(light[:10] - dark[:10]).max() == 0
    assert light[0, 0] == 255  # over white


@drawn
def test_labels_make_no_difference_and_half_have_no_beard(undrawn):
    generator = Avatar(AvatarOptions(), labels=["a", "b"])
    one, other = generator.random(["a"] * 400, _rngs(400)), generator.random(["b"] * 400, _rngs(400))
    assert one == other
    for attribute, values in (("facial_hair", 8), ("accessory", 10)):
        share = np.mean([state[attribute] == "NONE" for state in _states(one)])
        assert abs(share - (0.5 + 0.5 / values)) < 0.09  # 3.5 sd
    assert abs(np.mean([state["style"] == "CIRCLE" for state in _states(one)]) - 0.5) < 0.09


@drawn
def test_mutation_is_the_probability_of_another_draw(undrawn):
    generator = Avatar(AvatarOptions(mutation=[0.6, 0]), labels=[None])
    parents = generator.random([None] * 300, _rngs(300)).append_column("label", pa.nulls(300, pa.string()))
    varied = generator.vary(parents, STEP, _rngs(300, "vary"))
    moved = [a["mouth"] != b["mouth"] for a, b in zip(_states(parents), _states(varied), strict=True)]
    assert abs(np.mean(moved) - 0.6 * 12 / 13) < 0.1
    still = generator.vary(parents, Step(iteration=2, iterations=2, degree=1.0), _rngs(300, "vary"))
    assert still["state"] == parents["state"]


@drawn
def test_choices_are_all_that_is_drawn(undrawn):
    choices = {"top": ["BOB", "HIJAB"], "facial_hair": ["BEARD_LIGHT"], "accessory": ["NONE", "KURT"]}
    made = Avatar(AvatarOptions(choices=choices), labels=[None]).random([None] * 60, _rngs(60))
    for attribute, names in choices.items():
        assert {state[attribute] for state in _states(made)} == set(names)


@drawn
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choices": {"ears": ["BIG"]}}, "'ears' is no attribute .*style, background_color"),
        ({"choices": {"nose": ["LONG"]}}, r"choices\.nose: \['LONG'\] are not allowed; .* DEFAULT, SMALL, WIDE"),
        ({"choices": {"nose": []}}, r"generator\.choices\.nose"),
        ({"crop": [0, 0, 300, 280]}, r"generator\.crop: \[0, 0, 300, 280\] is no part"),
        ({"crop": [50, 0, 50, 280]}, r"generator\.crop"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(RecipeError, match=message):
        Avatar(AvatarOptions(**options), labels=[None])


@drawn
def test_a_wrong_schedule_is_refused():
    generator = Avatar(AvatarOptions(mutation=[0.5]), labels=[None])
    with pytest.raises(RecipeError, match=r"generator\.mutation"):
        generator.attach(Surroundings(iterations=2, service=Service(), folder=None))


@pytest.mark.parametrize("package", ["python_avatars", "resvg_py"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "resvg_py":
        pytest.importorskip("python_avatars")
    avatar._values.cache_clear()
    with pytest.raises(MissingExtraError, match=rf"needs the package {package}; install pe_beam\[image\]"):
        Avatar(AvatarOptions(), labels=[None])
    avatar._values.cache_clear()
