"""Windows that slide have a record several times, say so, and pay for it."""

from __future__ import annotations

import math

import pytest

from pe_beam.errors import InputError, RecipeError
from pe_beam.streams.closing import stream_source
from pe_beam.streams.promise import promise
from tests.streams.drifting import Life, counts, manifest, put, stream_recipe

WINDOW = {"every": "1d", "length": "2d", "anchor": "2026-12-01T00:00Z", "close_after": "2h", "publish_after": "4h"}
SLIDING = {"stream__window": WINDOW, "stream__sliding": 2, "stream__keep_private": True}


def test_they_are_refused_until_they_are_asked_for(tmp_path):
    with pytest.raises(RecipeError, match="sliding: 2 says that this is meant"):
        stream_recipe(tmp_path, stream__window=WINDOW)
    with pytest.raises(RecipeError, match="sliding: 1 says that this is meant"):
        stream_recipe(tmp_path, stream__sliding=2)
    with pytest.raises(RecipeError, match="length: a multiple of every"):
        stream_recipe(tmp_path, stream__window=WINDOW | {"length": "36h"}, stream__sliding=2)


def test_mu_grows_by_the_root_of_their_number(tmp_path):
    one, two = promise(stream_recipe(tmp_path)), promise(stream_recipe(tmp_path, **SLIDING))
    assert two["mu"] == pytest.approx(one["mu"] * math.sqrt(2))
    assert two["window_epsilon"] == one["window_epsilon"] < two["epsilon"]
    assert "Each record votes in at most 2 windows, which slide" in two["statement"]


def test_a_record_votes_in_as_many_windows_and_in_no_other(tmp_path):
    stores = []
    for name, rows in (("with", [3, 9]), ("without", [3])):
        life = Life(tmp_path / name, SLIDING)
        for day, values in ((0, [1]), (1, rows), (2, [4]), (3, [5])):
            put(life.folder, day, "a", values)
        stores.append(life.until(4.5))
    assert [len(manifest(stores[0], day)["positions"]) for day in range(4)] == [1, 2, 2, 2]
    apart = [
        sum(abs(a - b) for a, b in zip(counts(stores[0], day), counts(stores[1], day), strict=True)) for day in range(4)
    ]
    assert apart == [0, 1, 1, 0]


def test_sources_whose_windows_tile_do_not_slide(tmp_path):
    options = {"data__source": "kafka", "data__path": "topic", "data__options": {"servers": ["x:1"]}}
    recipe = stream_recipe(tmp_path, **SLIDING, **options, stream__source="kafka", stream__stamp=None)
    with pytest.raises(InputError, match=r"stream\.sliding: not with source kafka"):
        stream_source(recipe)
