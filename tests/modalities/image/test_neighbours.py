"""The nearest of a set to some of its own rows: what the definition says, by every way to find it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pe_beam.modalities.image.simulators import neighbours
from pe_beam.modalities.image.simulators.basis import Basis, levels_of
from pe_beam.modalities.image.simulators.neighbours import Neighbours


def _search(vectors):
    basis = Basis.of(vectors)
    return Neighbours(vectors, basis, *basis.place(vectors))


def _by_definition(vectors, row, keep, members=None):
    members = range(len(vectors)) if members is None else members
    query = vectors[row].astype(np.float64)
    exact = {other: math.fsum((vectors[other].astype(np.float64) - query) ** 2) for other in members if other != row}
    return [row, *sorted(exact, key=lambda other: (exact[other], other))][:keep]


def _embedding_like(count, dimension, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dimension + 1) ** -0.6
    centres = rng.standard_normal((20, dimension)) * scale
    return (centres[rng.integers(20, size=count)] + 0.7 * rng.standard_normal((count, dimension)) * scale + 3).astype(
        "f4"
    )


@pytest.fixture
def few(monkeypatch):
    """Sizes at which a toy set goes through samples, tiles and blocks."""
    monkeypatch.setattr(neighbours, "_FEW", 50)
    monkeypatch.setattr(neighbours, "_SAMPLE", 200)
    monkeypatch.setattr(neighbours, "_TILE", 128)
    monkeypatch.setattr(neighbours, "BLOCK", 7)


@pytest.mark.parametrize("level", [None, 0, 1, 2, "chosen"])
def test_every_level_gives_what_the_definition_says(few, monkeypatch, level):
    vectors = _embedding_like(900, 128)
    search = _search(vectors)
    if level != "chosen":
        guess = Neighbours._guess
        monkeypatch.setattr(Neighbours, "_guess", lambda *given: (guess(*given)[0], level))
    rows = np.array([0, 5, 17, 450, 899, 321, 77, 600, 12])
    for keep in (1, 2, 30, 900, 5000):
        for row, found in zip(rows, search.nearest(rows, keep), strict=True):
            assert found.tolist() == _by_definition(vectors, row, keep)


def test_equals_go_to_the_smaller_row_and_a_row_is_first_among_its_doubles(few):
    rng = np.random.default_rng(1)
    vectors = rng.integers(0, 2, (600, 4)).astype(np.float32)  # sixteen different ones
    for row, found in zip([3, 599], _search(vectors).nearest(np.array([3, 599]), 100), strict=True):
        assert found.tolist() == _by_definition(vectors, row, 100)
        assert found[0] == row


def test_sums_that_rounding_exchanges_are_taken_exactly(few):
    """Squares that differ by less than float64 sums can tell, in the order that the sum does not favour."""
    rng = np.random.default_rng(2)
    base = rng.standard_normal(200).astype(np.float32)
    vectors = np.stack([np.zeros(200, np.float32), *(rng.permutation(base) for _ in range(300))])
    assert _search(vectors).nearest(np.array([0]), 40)[0].tolist() == _by_definition(vectors, 0, 40)


def test_an_answer_does_not_depend_on_its_company(few):
    vectors = _embedding_like(700, 160, seed=3)
    rows = np.arange(0, 700, 23)
    together = _search(vectors).nearest(rows, 25)
    alone = [_search(vectors).nearest(np.array([row]), 25)[0] for row in rows]
    assert [each.tolist() for each in together] == [each.tolist() for each in alone]


def test_only_members_are_near(few):
    vectors = _embedding_like(800, 128, seed=4)
    members = np.flatnonzero(np.arange(800) % 3 == 1)
    for row, found in zip(members[:9], _search(vectors).nearest(members[:9], 20, members), strict=True):
        assert found.tolist() == _by_definition(vectors, row, 20, members.tolist())


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 0.9])
def test_a_guess_that_is_too_small_is_asked_again(few, monkeypatch, factor):
    vectors = _embedding_like(500, 128, seed=5)
    guess, calls = Neighbours._guess, []

    def low(*given):
        calls.append(given[-1])
        limits, level = guess(*given)
        return (limits * factor if len(calls) < 3 else limits), level

    monkeypatch.setattr(Neighbours, "_guess", low)
    assert _search(vectors).nearest(np.array([7]), 60)[0].tolist() == _by_definition(vectors, 7, 60)


def test_one_far_picture_and_a_constant_coordinate_blur_nothing(few):
    vectors = _embedding_like(400, 128, seed=6)
    vectors[:, 3] = 1000
    vectors[200] *= 1e6
    rows = np.array([1, 200, 399])
    for row, found in zip(rows, _search(vectors).nearest(rows, 10), strict=True):
        assert found.tolist() == _by_definition(vectors, row, 10)


def test_the_lower_bound_is_one():
    vectors = _embedding_like(300, 128, seed=7)
    heads, tails = Basis.of(vectors).place(vectors)
    exact = np.linalg.norm(vectors[:, None].astype(float) - vectors[None], axis=2)
    for place, level in enumerate(levels_of(128)):
        gap = np.linalg.norm(heads[:, None, :level].astype(float) - heads[None, :, :level], axis=2)
        bound = np.hypot(gap, tails[:, None, place].astype(float) - tails[None, :, place])
        assert (bound <= exact * (1 + 1e-6) + 1e-5).all()
        assert bound.mean() > 0.5 * exact.mean()
