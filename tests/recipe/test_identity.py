"""A recipe stays what it is while the program grows: ids do not change with keys that are at their default."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from pydantic import Field

from pe_beam.contracts.newer import NEWER
from pe_beam.driver.public import public_recipe
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.recipe.identity import differing_keys, embedding_id, run_id
from pe_beam.recipe.loading import load_recipe, parse_recipe
from tests.whole_runs import RECIPES

# First half of the run id and of the embedding id, as of 2026-11. A change here breaks every unfinished run that users
# have: mark a new key NEWER instead.
PINNED = {
    "abstracts-openai": ("6ba5b596e7c5da27f8abae62e67f4202", "aaf8a819e13d672b6760fdc5762a3cdc"),
    "adult": ("d231365f09bfc84c970100c30b7dd15e", "2137f807130464fb43fe42a85bbb47cf"),
    "artificial-characters": ("2b10403fc12e847637ec3c1ff8ed4b13", "e206f119a63c4af62288c4295eb2acf8"),
    "breast-cancer": ("66e17d64a7adb239c53379639bcd2964", "07b0fd15f30b252725682e5d46b1f776"),
    "digits": ("729f504c5ae175733b25d32a81fd14a9", "cb7602b0384fd857914f9d5d8614e957"),
    "person-activity": ("96d35c183b2839b4a9c44645694f6d42", "629b69b423852af040f72c70be84789f"),
    "reviews-huggingface": ("45b6694ad3704e94e56be8092aefebab", "fe7112f91dc67582898cc383a495e888"),
    "reviews-openai": ("f4bbc8218c74fd31f7ac39ecc6784eaf", "fe7112f91dc67582898cc383a495e888"),
    "reviews-vllm": ("44944a592740d54279c14d11cc2bb851", "3b0e9c4d883ba88e938b4f7af94465ae"),
    "snippets-offline": ("7de70cfa48389b6f23d716ac79483ee4", "6c7265f3b2a225605f4d3e489fc20014"),
    "strokes": ("b52333017fc296f2dfa80dc252df74fb", "cb7602b0384fd857914f9d5d8614e957"),
    "camelyon17": ("e857d58f71989a956760ebdfe0c1a68d", "3e57ec17a8149deab81d8906002a8d13"),
    "cats-stable-diffusion": ("00c6eb05ec07076d54dcc6f634dfc4c7", "6e9f8d0afc3c043ed92796e462188ec9"),
    "celeba-avatar": ("51d4ccf7cc9c039d28e8874a49b90946", "3916e9fa73442a12dddad832a9a6cf88"),
    "cifar10-diffusion": ("b3e6944bae8c64ec5f840d19b567514b", "1ecb9c780812df2e5d6c1e8b36c1eda3"),
    "emoji": ("7545b7f1f293957cd129461ddee138d4", "d47b68560c4a69ed271e66355433fe27"),
    "faces-nearest-image": ("98248e5babe4c323211b5594c6ad6298", "3916e9fa73442a12dddad832a9a6cf88"),
    "mnist-text-render": ("11992e6a688d4cc24e7eeb18b81c8e6d", "dd3b54e8d7b81c70588e56edf10267c0"),
}


def test_the_ids_of_every_shipped_recipe_are_pinned():
    assert set(PINNED) == {path.stem for path in RECIPES.glob("*.yaml")}
    for name, pinned in PINNED.items():
        recipe = load_recipe(RECIPES / f"{name}.yaml")
        assert (run_id(recipe)[:32], embedding_id(recipe)[:32]) == pinned, name


class _LaterOptions(PixelsOptions):
    tint: Annotated[int, NEWER] = Field(0, description="a key of a later release")


@pytest.fixture
def later(monkeypatch):
    monkeypatch.setattr(Pixels, "Options", _LaterOptions)


def test_a_new_key_at_its_default_changes_no_id_and_no_released_byte(small, monkeypatch):
    before = parse_recipe(small)
    ids = (run_id(before), embedding_id(before), json.dumps(public_recipe(before)))
    monkeypatch.setattr(Pixels, "Options", _LaterOptions)
    after = parse_recipe(small)
    assert after.embedder.options["tint"] == 0
    assert (run_id(after), embedding_id(after), json.dumps(public_recipe(after))) == ids
    assert differing_keys(before, after) == []


def test_a_new_key_that_is_set_is_part_of_both_ids(small, later):
    default = parse_recipe(small)
    small["embedder"]["tint"] = 1
    tinted = parse_recipe(small)
    assert run_id(tinted) != run_id(default)
    assert embedding_id(tinted) != embedding_id(default)
    assert differing_keys(default, tinted) == ["embedder.tint"]
    assert public_recipe(tinted)["embedder"]["tint"] == 1
