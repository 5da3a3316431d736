"""Engine `int8`: its bound on vectors that attack it, its groups, and a CPU that is not as exact as it must be.

Where the CPU has no instructions for 8 bits, its products are emulated, so that all of this runs on any machine.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.search import Frame
from pe_beam.errors import PeBeamWarning
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.flat import WholeSearch
from pe_beam.voting.nearest import reference_nearest
from pe_beam.voting.search import int8, integers
from pe_beam.voting.search.int8 import Int8Proposer
from tests.voting.search.units import KINDS, vectors


def emulated(left, right, out):
    out.copy_(torch.from_numpy(left.numpy().astype(np.float64) @ right.numpy().astype(np.float64).T))


@pytest.fixture(autouse=True)
def _eight_bits(monkeypatch):
    """Small tiles and strips have every edge, and no query is too crowded."""
    if not int8.multiplies_integers():
        monkeypatch.setattr(integers, "multiply", emulated)
        monkeypatch.setattr(int8, "multiplies_integers", lambda: True)
        integers.exact.cache_clear()
    monkeypatch.setattr(int8, "_ROWS", 16)
    monkeypatch.setattr(int8, "_GROUPS", 2)
    monkeypatch.setattr(int8, "_CROWD", 1)


def same(queries, candidates, *, distance="l2", votes=1, tile=4096):
    made = []

    def engine(frame, *, votes, tile):
        made.append(Int8Proposer(frame, votes=votes, tile=tile))
        return made[-1]

    product = distance == "inner_product"
    search = WholeSearch(Distinct(candidates), product=product, votes=votes, search_engine=engine, block=64, tile=tile)
    wanted = reference_nearest(queries, candidates, distance=distance, votes=votes)
    assert (search.nearest(queries) == wanted).all()
    return made[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_definition(kind):
    queries, candidates = vectors(kind, columns=120)
    for distance in ("l2", "inner_product"):
        for votes, tile in ((1, 4096), (3, 40), (120, 4096)):
            made = same(queries, candidates, distance=distance, votes=votes, tile=tile)
            assert made.pays == (kind != "huge")


@given(st.integers(0, 2**32), st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_finite_numbers(seed, votes, product):
    """Random bits: every exponent, subnormal numbers included, in any company."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, size=(40, 5), dtype=np.uint32)
    exponents = rng.integers(*sorted(rng.choice(250, 2, replace=False) + 1), size=bits.shape, dtype=np.uint32)
    numbers = ((bits & np.uint32(0x807FFFFF)) | (exponents << np.uint32(23))).view(np.float32)
    numbers[rng.random(numbers.shape) < 0.2] = 0
    with np.errstate(over="ignore"):
        same(numbers[:6], numbers[6:], votes=votes, distance="inner_product" if product else "l2", tile=16)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_small_integers_with_many_ties(seed, count, dimension, votes):
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(-2, 3, size=(n, dimension)).astype(np.float32) for n in (9, count))
    same(queries, candidates, votes=votes, tile=17)


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("huge", "subnormal")])
def test_the_bound_holds_for_every_pair_and_every_group(kind, product):
    """Against exact ranking values in float64 and beyond. A bound without residual norms would not hold."""
    queries, candidates = vectors(kind, columns=60)
    candidates = np.unique(candidates, axis=0)
    frame = Frame.of(candidates, product=product)
    placed, radii = frame.place(queries)
    keep = frame.safe(radii)
    queries, placed, radii = queries[keep], placed[keep], radii[keep]
    wide, others = queries.astype(np.longdouble)[:, None], candidates.astype(np.longdouble)
    if product:
        value = (wide * (others - frame.centre.astype(np.longdouble))).sum(axis=2)
    else:
        centred = wide[:, 0] - frame.centre.astype(np.longdouble)
        value = ((centred**2).sum(axis=1)[:, None] - ((wide - others) ** 2).sum(axis=2)) / 2
    made = Int8Proposer(frame, votes=1, tile=48)
    left, slack = made._left(placed, radii), frame.constant_error(radii)[:, None]
    assert len(made._tiles) > 1 or len(candidates) < 48
    bare = 0
    for tile in made._tiles:
        products = made._multiplied(left, tile)
        rows, groups = (each.ravel() for each in np.indices(products.upper.shape))
        exact = value[rows[:, None], tile.columns[groups]]
        best = products.upper.ravel()
        assert (exact.max(axis=1) <= best + slack[rows, 0]).all()
        units = left.scales[rows].astype(np.float64) * tile.scales[groups]
        less = (products.tops.ravel()[:, None] - products.members(rows, groups).astype(np.float64)) * units[:, None]
        assert (exact <= best[:, None].astype(np.longdouble) - less + slack[rows]).all()
        every = np.ones(products.upper.shape, dtype=bool)
        nowhere = np.full(len(placed), np.finfo(np.float32).min)
        query, column, upper = made._opened(every, np.arange(len(placed)), nowhere, products)
        assert len(query) == tile.real.sum() * len(placed)
        assert (value[query, column] <= upper + slack[query, 0]).all()
        bare += (value[query, column] > upper - left.terms[query, 1] * made._errors[column]).sum()
    if kind in ("normal", "near ties", "offset", "mixed"):
        assert bare > 0


def test_rounding_loses_what_it_says():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((300, 50)) * 10.0 ** rng.uniform(-44, 17, (300, 1))).astype(np.float32)
    rows[0] = 0
    scales = integers.scales_of(rows)
    assert (scales.view(np.uint32) & 127 == 0).all()
    whole = np.zeros((300, 50), dtype=np.int8)
    lost = integers.quantise(rows, scales, whole)
    exact = rows.astype(np.longdouble) - whole * scales.astype(np.longdouble)[:, None]
    assert (np.sqrt((exact**2).sum(axis=1)) <= lost).all()
    ordinary = np.abs(rows).max(axis=1) > 1e-9
    assert (np.abs(whole[ordinary]).max(axis=1) == 127).all()
    assert (lost[ordinary] < 0.02 * np.linalg.norm(rows[ordinary].astype(np.float64), axis=1)).all()


def test_few_are_left_for_float32():
    """On isotropic vectors, the worst case: the bound is not vacuous."""
    rng = np.random.default_rng(0)
    frame = Frame.of(rng.standard_normal((3000, 384), dtype=np.float32), product=False)
    placed, radii = frame.place(rng.standard_normal((64, 384), dtype=np.float32))
    made, seen = Int8Proposer(frame, votes=1, tile=4096), []
    narrow = made._narrow
    made._narrow = lambda rows, *more: seen.append(len(rows)) or narrow(rows, *more)
    crowded, pairs = made._bounded(placed, radii)
    assert not crowded.any() and len(pairs.rows) < 1.1 * 64
    assert seen[0] < 6 * 64


def test_a_crowded_query_is_left_to_blas(monkeypatch):
    monkeypatch.setattr(int8, "_CROWD", 0)
    monkeypatch.setattr(int8, "_FEW", 0)
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(900, 24)).astype(np.float32)
    candidates[:, -1] = 0
    queries = candidates[:80] + np.float32(1e-3)
    queries[:40, -1] = 1e3  # as far from all of them
    for votes in (1, 4):
        made = same(queries, candidates, votes=votes)
        assert 0 < made._vain < len(queries)  # some by either way


@pytest.mark.parametrize("short", ["16 bits", "missing"])
def test_products_that_are_not_exact_are_refused(monkeypatch, short):
    """Without VNNI sums of two products, one side moved by 128 to be positive, saturate at 16 bits."""

    def saturated(left, right, out):
        left, right = left.numpy().astype(np.int32), right.numpy().astype(np.int32)
        pairs = (left[:, None] + 128) * right
        pairs = np.clip(pairs[:, :, ::2] + pairs[:, :, 1::2], -(2**15), 2**15 - 1)
        out.copy_(torch.from_numpy(pairs.sum(axis=2) - 128 * right.sum(axis=1)))

    if short == "missing":
        monkeypatch.setattr(int8, "multiplies_integers", lambda: False)
    else:
        monkeypatch.setattr(integers, "multiply", saturated)
    integers.exact.cache_clear()
    queries, candidates = vectors("normal")
    with pytest.warns(PeBeamWarning, match="int8: this CPU does not multiply 16 numbers of 8 bits"):
        made = same(queries, candidates)
    assert not made.pays
    integers.exact.cache_clear()
