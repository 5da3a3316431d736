"""Candidates larger than the memory for them: equal votes, bounded memory, and equal candidates found."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pe_beam import registry
from pe_beam.errors import MissingExtraError
from pe_beam.voting import distinct
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.flat import PartsSearch
from pe_beam.voting.nearest import flat_search, reference_nearest
from pe_beam.voting.votes import CandidateMatrix, Voter

MB = 1 << 20


def test_memory_stays_within_the_budget_and_votes_are_equal(tmp_path):
    rng = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(tmp_path / "matrix.npy", "w+", np.float32, (32768, 512))  # 64 MB
    for start in range(0, len(matrix), 4096):
        matrix[start : start + 4096] = rng.standard_normal((4096, 512), dtype=np.float32)
    matrix[30000:30100] = matrix[50:150]  # equal candidates in different parts
    matrix[20000:20100] = np.nextafter(matrix[50:150], np.float32(9))  # and nearly equal ones
    matrix.flush()
    matrix = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    queries = np.concatenate([matrix[50:150], rng.standard_normal((156, 512), dtype=np.float32)])
    tracemalloc.start()
    search = flat_search(matrix, distance="l2", votes=3, memory=8 * MB)
    assert isinstance(search.search, PartsSearch)
    found = search.nearest(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MB + 6 * MB  # the decision's float64 scratch has a size of its own
    assert (found == flat_search(matrix, distance="l2", votes=3, memory=1 << 30).nearest(queries)).all()


@pytest.mark.parametrize("engine", registry.names("search_engines"))
@pytest.mark.parametrize("distance", ["l2", "inner_product"])
def test_parts_equal_the_definition(engine, distance):
    rng = np.random.default_rng(1)
    for scale in (1, 1e19, 1e-41):
        candidates = (np.round(rng.normal(size=(70, 6))) * scale).astype(np.float32)  # many ties
        queries = (np.round(rng.normal(size=(30, 6))) * scale).astype(np.float32)
        queries[:3] *= np.float32(1e19)
        for votes in (1, 4, 90):
            try:
                search = flat_search(
                    candidates, distance=distance, votes=votes, search_engine=engine, memory=1500, block=9
                )
            except MissingExtraError as error:
                pytest.skip(str(error))
            assert isinstance(search.search, PartsSearch)
            wanted = reference_nearest(queries, candidates, distance=distance, votes=votes)
            assert (search.nearest(queries) == wanted).all()


def test_labels_in_parts_vote_as_whole():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 400).astype(np.int32)
    matrix = CandidateMatrix(np.arange(400), labels, np.round(rng.normal(size=(400, 3))).astype(np.float32))
    records, own = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 4, 200).astype(np.int32)
    whole, parts = (Voter(matrix, distance="l2", votes_per_record=2, memory=size) for size in (1 << 30, 2000))
    assert all((a == b).all() for a, b in zip(whole.ballots(records, own), parts.ballots(records, own), strict=True))


def test_equal_candidates_are_found_though_all_hashes_collide(monkeypatch):
    rng = np.random.default_rng(3)
    rows = rng.integers(-1, 2, (300, 4)).astype(np.float32)
    rows[rows == 0] *= -1  # -0.0
    among = np.flatnonzero(rng.random(300) < 0.7)
    _, first, inverse = np.unique(rows[among] + 0, axis=0, return_index=True, return_inverse=True)
    owner = first[inverse.ravel()]
    for constant in (False, True):
        if constant:
            monkeypatch.setattr(Distinct, "_hashes", lambda self: np.zeros(len(self._where), dtype=np.uint64))
        monkeypatch.setattr(distinct, "_CHUNK", 40)
        found = Distinct(rows, among)
        assert (found.firsts == among[np.sort(first)]).all()
        assert (found.members == np.argsort(owner, kind="stable")).all()
        for group, start in enumerate(found.starts[:-1]):
            mine = found.members[start : found.starts[group + 1]]
            assert (rows[among[mine]] == rows[found.firsts[group]]).all()


def test_a_query_that_is_not_finite_is_refused_in_parts():
    candidates = np.eye(8, dtype=np.float32)
    with pytest.raises(ValueError, match="finite"):
        flat_search(candidates, distance="l2", votes=1, memory=300).nearest(np.full((1, 8), np.nan, dtype=np.float32))
