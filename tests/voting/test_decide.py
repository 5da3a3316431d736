"""What an engine says of its pairs spares the decision work, and changes no answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.search import Pairs
from pe_beam.voting.decide import Decider, score_terms
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.nearest import flat_search, reference_nearest
from tests.voting.test_engines import KINDS, _vectors


def _scores(queries, candidates):
    rows = [score_terms(np.broadcast_to(query, candidates.shape), candidates, product=False) for query in queries]
    return np.array([[math.fsum(terms) for terms in row.tolist()] for row in rows])


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 9), st.sampled_from([0.0, 1e-3, 0.3, 3.0, 30.0]))
def test_any_bounds_that_hold_give_the_nearest(seed, votes, values, width):
    """Few values in few dimensions: candidates are equal to one another, and distances too."""
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(0, values, (count, 2)).astype(np.float32) for count in (7, 40))
    queries += (rng.random(queries.shape) < 0.3) * np.float32(2.0**-20)
    distinct, keep = Distinct(candidates), votes
    found = candidates[distinct.firsts]
    exact = _scores(queries, found)
    low, high = exact - width * rng.random(exact.shape), exact + width * rng.random(exact.shape)
    shift = rng.normal(size=(7, 1))  # the same for all pairs of a query
    least = np.sort(low, axis=1)[:, ::-1][:, min(keep, len(found)) - 1, None]
    rows, columns = np.nonzero((high >= least) | (rng.random(exact.shape) < 0.2))
    told = Pairs(rows, columns, (low + shift)[rows, columns] - 1e-9, (high + shift)[rows, columns] + 1e-9)
    decider = Decider(found, distinct.members, distinct.starts, keep=keep, product=False)
    wanted = reference_nearest(queries, candidates, distance="l2", votes=keep)
    assert (decider.best(queries, told) == wanted).all()
    assert (decider.best(queries, Pairs(rows, columns)) == wanted).all()


def test_what_is_sure_is_not_scored(monkeypatch):
    """Three votes: two are clear, and two candidates are near one another for the third."""
    candidates = np.array([[0], [1], [5], [5.0000005], [9]], dtype=np.float32)
    queries = np.zeros((1, 1), dtype=np.float32)
    scored = []
    score = Decider.bounds
    monkeypatch.setattr(
        Decider, "bounds", lambda self, queries, pairs: scored.append(len(pairs.rows)) or score(self, queries, pairs)
    )
    decider = Decider(candidates, np.arange(5), np.arange(6), keep=3, product=False)
    every = Pairs(np.zeros(5, np.int64), np.arange(5))
    near = Pairs(every.rows, every.columns, -(candidates[:, 0] ** 2) - 0.1, -(candidates[:, 0] ** 2) + 0.1)
    for pairs in (every, near):
        assert decider.best(queries, pairs).tolist() == [[0, 1, 2]]
    assert scored == [5, 2]


@pytest.mark.parametrize("distance", ["l2", "inner_product"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["blas", "prefix", "int8"])
def test_bounds_of_engines_hold(engine, kind, distance):
    """For every pair that they propose, some of them far from winning."""
    pytest.importorskip("torch")
    queries, candidates = _vectors(kind)
    search = flat_search(candidates, distance=distance, votes=4, search_engine=engine, tile=24).search
    candidates = candidates[Distinct(candidates).firsts]
    product = distance == "inner_product"
    for indexes, pairs in search._part.proposals(queries):
        if pairs.low is None:
            continue
        terms = score_terms(queries[indexes[pairs.rows]], candidates[pairs.columns], product=product)
        exact = np.array([math.fsum(row) for row in terms.tolist()]) * (1.0 if product else 0.5)
        for row in np.unique(pairs.rows):
            mine = pairs.rows == row
            low, high, true = pairs.low[mine].astype(float), pairs.high[mine].astype(float), exact[mine]
            slack = 2.0**-40 * (np.abs(true).max() + np.abs(high).max())
            assert (low <= high).all()
            # Up to a shift: no pair is said to be better than another by more than it is.
            assert (low[:, None] - high <= true[:, None] - true + slack).all()
