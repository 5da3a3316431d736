"""Both forms of the scores keep to their bound, and so does what is done to queries before. One vote, and several."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.search import Frame, norms_at_most
from pe_beam.voting.decide import Decider, score_terms
from pe_beam.voting.nearest import flat_search, reference_nearest
from pe_beam.voting.search.blas import BlasProposer
from pe_beam.voting.search.scan import taken
from tests.voting.test_engines import KINDS, _vectors

FORMS = {"added": 60, "columns": 12}  # dimensions with 64 candidates
ALIKE = [kind for kind in KINDS if kind not in ("mixed", "zeros", "ulps")]  # candidates whose norms are about equal


def _proposer(frame: Frame, votes: int = 1) -> BlasProposer:
    return BlasProposer(frame, votes=votes, tile=4096)


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_scores_bound_the_exact_ranking_value(form, kind, product):
    queries, candidates = _vectors(kind, dimension=FORMS[form])
    frame = Frame.of(candidates, product=product)
    blas = _proposer(frame)
    assert blas._added == (form == "added" and frame.largest <= 2 * np.median(frame.norms))
    assert blas._added == (form == "added") or kind not in ALIKE
    placed, radii = frame.place(queries)
    left = placed if blas._added else blas._widened(placed, radii)
    scores = blas._scores(left, slice(0, len(candidates))).astype(np.float64)
    constant = frame.constant_error(radii)
    widest = frame.largest if blas._added else frame.norms
    for row in np.flatnonzero(frame.safe(radii)):
        exact = _ranking(queries[row], placed[row], candidates, frame)
        missing = blas._a * radii[row] * widest if blas._added else 0.0
        slack = 2.0**-40 * (np.abs(exact) + radii[row] ** 2)  # of the float64 arithmetic of this test
        assert (exact <= scores[row] + missing + constant[row] + slack).all()
        doubt = blas._doubt(radii[row], np.arange(len(candidates))) - missing
        assert (exact >= scores[row] - doubt - constant[row] - slack).all()


def _ranking(query, placed, candidates, frame):
    """The s of `contracts.search`, for each candidate."""
    wide = candidates.astype(np.float64)
    if frame.product:
        return np.array([math.fsum(row) for row in query.astype(np.float64) * (wide - frame.centre)])
    distances = np.array([math.fsum(np.square(query.astype(np.float64) - row)) for row in wide])
    return (math.fsum(np.square(placed.astype(np.float64))) - distances) / 2


@pytest.mark.parametrize("votes", [1, 3])
def test_without_the_bound_votes_would_be_wrong(votes):
    queries, candidates = _vectors("between", count=32, dimension=FORMS["added"])
    if votes == 3:  # each with a twin, but for the last digit
        candidates = np.concatenate([candidates, np.nextafter(candidates, np.float32(9))])
    frame = Frame.of(candidates, product=False)
    placed, _ = frame.place(queries)
    columns, _ = taken(_proposer(frame)._scores(placed, slice(0, len(candidates))), votes)
    wanted = reference_nearest(queries, candidates, distance="l2", votes=votes)
    assert (np.sort(columns.T, axis=1) != wanted).any()


@pytest.mark.parametrize("count", [64, 4])
def test_the_best_scores_are_taken_in_order_and_as_many_as_there_are(count):
    scores = np.random.default_rng(0).normal(size=(50, count)).astype(np.float32)
    before = scores.copy()
    columns, best = taken(scores, 6)
    there = min(count, 6)
    assert (best[:there] == np.sort(before, axis=1)[:, ::-1][:, :6].T).all()
    assert (best[there:] == -np.inf).all()
    assert (np.take_along_axis(before, columns[:there].T, axis=1) == best[:there].T).all()
    np.put_along_axis(before, columns.T, -np.inf, axis=1)
    assert (scores == before).all()


def test_most_queries_get_as_many_candidates_as_they_want_and_no_score():
    """Near ties are decided, and cost a listing; nobody else does."""
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(300, 24)), rng.normal(size=(200, 24)).astype(np.float32)
    candidates[100:110] = np.nextafter(candidates[:10], np.float32(9))  # twins, but for the last digits
    queries[:9] = candidates[:9] + 1e-3
    queries = queries.astype(np.float32)
    for tile in (4096, 70):
        frame = Frame.of(candidates, product=False)
        pairs = BlasProposer(frame, votes=3, tile=tile).propose(*frame.place(queries))
        counts = np.bincount(pairs.rows, minlength=300)
        assert counts.min() == 3
        assert (counts == 3).mean() > 0.9
        assert (np.diff(pairs.rows) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(0, 999),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["l2", "inner_product"]),
    st.integers(5, 80),
    st.sampled_from([1, 2, 3, 5, 10, 40]),
)
def test_votes_equal_the_definition_in_both_forms(kind, seed, count, dimension, distance, tile, votes):
    if kind == "low rank":
        dimension = max(2, dimension)
    if kind == "duplicates":
        count = max(3, count)
    queries, candidates = _vectors(kind, seed, count, dimension)
    search = flat_search(candidates, distance=distance, votes=votes, block=13, tile=tile)
    assert (search.nearest(queries) == reference_nearest(queries, candidates, distance=distance, votes=votes)).all()


@pytest.mark.filterwarnings("error")
def test_a_record_far_beyond_all_candidates_makes_no_warning_of_its_own():
    """A warning would say in the log that there is one."""
    candidates, queries = np.full((1, 7), 3e37, dtype=np.float32), np.full((2, 7), 1e18, dtype=np.float32)
    for votes in (1, 2):
        search = flat_search(candidates, distance="inner_product", votes=votes)
        assert (search.nearest(queries) == 0).all()


def test_a_block_with_too_many_pairs_is_halved(monkeypatch):
    monkeypatch.setattr("pe_beam.voting.search.blas._MOST_PAIRS", 100)
    for form in FORMS.values():
        queries, candidates = _vectors("ulps", dimension=form)
        frame = Frame.of(candidates, product=False)
        for votes in (1, 3):
            assert _proposer(frame, votes).propose(*frame.place(queries)) is None
            search = flat_search(candidates, distance="l2", votes=votes)
            wanted = reference_nearest(queries, candidates, distance="l2", votes=votes)
            assert (search.nearest(queries) == wanted).all()


def test_few_candidates_get_larger_blocks_and_memory_stays_bounded():
    rng = np.random.default_rng(0)
    for count, dimension, block in ((50, 40, 8192), (50, 4, 4096), (2000, 4, 2097), (9000, 4, 1398)):
        blas = _proposer(Frame.of(rng.normal(size=(count, dimension)).astype(np.float32), product=False))
        assert blas.block == block
        assert blas.block * blas._width <= 1 << 22


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 999), st.integers(1, 300), st.integers(-18, 18))
def test_norms_of_queries_are_never_too_small_and_hardly_too_large(kind, seed, dimension, scale):
    vectors = _vectors("normal" if kind == "low rank" else kind, seed, 9, dimension)[0] * np.float32(10.0**scale)
    with np.errstate(over="ignore"):
        bounds = norms_at_most(vectors)
    for row, bound in zip(vectors.astype(np.float64).tolist(), bounds.tolist(), strict=True):
        norm = math.sqrt(math.fsum(number * number for number in row))
        assert bound >= norm * (1 - 2.0**-52)
        assert bound <= norm * 1.0001 + 1e-16 or norm > 2.0**63


def test_norms_of_what_cannot_be_multiplied_are_not_safe():
    frame = Frame.of(np.eye(3, dtype=np.float32), product=False)
    odd = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [3e38, 0, 0], [1, 0, 0]], dtype=np.float32)
    assert frame.safe(norms_at_most(odd)).tolist() == [False, False, False, True]
    assert np.isinf(norms_at_most(np.ones((1, 200_000), dtype=np.float32))).all()


def test_queries_are_moved_only_if_the_candidates_share_an_offset():
    rng = np.random.default_rng(0)
    candidates, queries = rng.normal(size=(2, 40, 6)).astype(np.float32)
    near, far = Frame.of(candidates, product=False), Frame.of(candidates + np.float32(2), product=False)
    assert not near.moves
    assert not near.centre.any()
    assert near.place(queries)[0] is queries
    assert far.moves
    out = np.empty_like(queries)
    for given_out in (None, out):
        placed, radii = far.place(queries, given_out)
        assert (placed == queries - far.centre).all()
        assert (radii >= np.linalg.norm(placed.astype(np.float64), axis=1)).all()
    assert placed is out
    strided = np.repeat(queries, 2, axis=1)[:, ::2]
    assert (far.place(strided)[0] == placed).all()
    assert not Frame.of(candidates + np.float32(2), product=True).moves


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_scores_are_within_their_bound_of_the_definition(kind, product):
    queries, candidates = _vectors(kind, count=40, dimension=30)
    decider = Decider(candidates, np.arange(40), np.arange(41), keep=1, product=product)
    pairs = type("Pairs", (), {"rows": np.arange(40), "columns": np.arange(40)[::-1]})
    scores, errors = decider.bounds(queries, pairs)
    terms = score_terms(queries, candidates[::-1], product=product)
    exact = [math.fsum(row) for row in terms.tolist()]
    assert (np.abs(scores - exact) <= errors).all()
    assert (errors <= 1e-14 * np.abs(terms).sum(axis=1)).all()
