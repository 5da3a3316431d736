import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.voting.client import client_ballot
from pe_beam.voting.nearest import flat_search, normalise_rows, reference_nearest
from pe_beam.voting.votes import CandidateMatrix, Voter, read_batch

DISTANCES = ["l2", "inner_product"]


def _same(queries, candidates, distance, votes, **options):
    search = flat_search(candidates, distance=distance, votes=votes, **options)
    wanted = reference_nearest(queries, candidates, distance=distance, votes=votes)
    assert (search.nearest(queries) == wanted).all()


KINDS = ["normal", "integers", "duplicates", "ulps", "offset", "huge", "tiny"]


def _vectors(kind):
    rng = np.random.default_rng(3)
    queries = rng.normal(size=(60, 12)).astype(np.float32)
    candidates = rng.normal(size=(30, 12)).astype(np.float32)
    if kind == "integers":
        queries, candidates = np.round(queries), np.round(candidates)
    if kind == "duplicates":
        candidates[10:25] = candidates[:15]
    if kind == "ulps":
        candidates[1:] = candidates[0]
        candidates[np.arange(1, 30), np.arange(1, 30) % 12] = np.nextafter(candidates[0, 0], np.float32(9))
    if kind == "offset":
        queries, candidates = queries * np.float32(1e-4) + 1000, candidates * np.float32(1e-4) + 1000
    if kind == "huge":
        queries, candidates = queries * np.float32(1e37), candidates * np.float32(1e37)
    if kind == "tiny":
        queries, candidates = queries * np.float32(1e-41), candidates * np.float32(1e-41)
    return queries.astype(np.float32), candidates.astype(np.float32)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("votes", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_definition(kind, votes, distance):
    _same(*_vectors(kind), distance, votes)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_tiles_and_engines_equal_the_definition(kind, distance):
    for votes in (1, 3, 40):
        _same(*_vectors(kind), distance, votes, block=7, tile=11)
        _same(*_vectors(kind), distance, votes, search_engine="faiss")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4), st.integers(1, 6))
def test_small_integers_with_many_ties(seed, count, dimension, votes):
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, size=(9, dimension)).astype(np.float32)
    candidates = rng.integers(-1, 2, size=(count, dimension)).astype(np.float32)
    _same(queries, candidates, "l2", votes)


def test_batches_do_not_change_an_answer():
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(500, 64)).astype(np.float32)
    candidates[250:] = np.nextafter(candidates[:250], np.float32(9))
    queries = rng.normal(size=(3000, 64)).astype(np.float32)
    search = flat_search(candidates, distance="l2", votes=1)
    whole = search.nearest(queries)
    for size in (1, 64, 999):
        parts = [search.nearest(queries[a : a + size]) for a in range(0, 300 if size == 1 else 3000, size)]
        assert (np.concatenate(parts) == whole[: sum(map(len, parts))]).all()


def _voter(votes=1):
    rng = np.random.default_rng(1)
    matrix = CandidateMatrix(
        ids=np.arange(20) * 3,
        labels=np.repeat([0, 1, 2, 3], 5).astype(np.int32),
        vectors=rng.normal(size=(20, 4)).astype(np.float32),
    )
    return Voter(matrix, distance="l2", votes_per_record=votes)


def test_votes_go_to_candidates_of_the_own_label_only():
    vectors = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    labels = np.full(50, 2, dtype=np.int32)
    counts = _voter().count(vectors, labels)
    assert counts.sum() == 50
    assert counts[10:15].sum() == 50
    assert _voter(votes=9).count(vectors, labels).sum() == 250  # more votes than candidates do not exist
    assert _voter().count(vectors, np.full(50, 7, dtype=np.int32)).sum() == 0


def test_one_record_more_changes_one_count_by_one():
    vectors = np.random.default_rng(2).normal(size=(51, 4)).astype(np.float32)
    labels = np.arange(51, dtype=np.int32) % 4
    change = _voter().count(vectors, labels) - _voter().count(vectors[:-1], labels[:-1])
    assert sorted(change)[-1] == 1
    assert np.abs(change).sum() == 1
    change = _voter(votes=3).count(vectors, labels) - _voter(votes=3).count(vectors[:-1], labels[:-1])
    assert (change**2).sum() == 3


@given(st.dictionaries(st.integers(0, 99), st.integers(1, 10**9), min_size=1), st.integers(0, 20))
def test_a_client_moves_the_votes_by_at_most_the_norm(counts, bits):
    ballot = client_ballot(counts, bits)
    assert sum(x * x for x in ballot.values()) <= 4**bits
    norm = math.sqrt(sum(c * c for c in counts.values()))
    for row, value in ballot.items():
        assert value <= 2**bits * counts[row] / norm * (1 + 1e-9)


def test_reads_slices_and_chunks_of_arrow():
    vectors = np.arange(24, dtype=np.float32).reshape(6, 4)
    array = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    table = pa.table({"label": pa.array(range(6), pa.int32()), "vector": array})
    found, labels, clients = read_batch(pa.concat_tables([table.slice(1, 2), table.slice(4, 2)]))
    assert (found == vectors[[1, 2, 4, 5]]).all()
    assert labels.tolist() == [1, 2, 4, 5]
    assert clients is None


def test_zero_rows_cannot_be_normalised():
    rows, zero = normalise_rows(np.array([[0, 0], [1, 1]], dtype=np.float32))
    assert zero.tolist() == [True, False]
    assert rows[1] @ rows[1] == pytest.approx(1)


def _normalised(vectors):
    wide = vectors.astype(np.float64)
    return (wide / np.array([[math.sqrt(math.fsum(row))] for row in (wide * wide).tolist()])).astype(np.float32)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(-149, 127))
@settings(max_examples=300, deadline=None)
def test_rows_are_normalised_to_the_bits_of_the_definition(seed, dimension, exponent):
    rng = np.random.default_rng(seed)
    spread = rng.integers(1, 40)
    vectors = rng.choice([-1.0, 1.0], (50, dimension)) * 2.0 ** rng.uniform(
        exponent - spread, exponent, (50, dimension)
    )
    vectors[rng.random(vectors.shape) < rng.choice([0, 0.3, 0.9])] = rng.choice([0.0, -0.0])
    vectors = vectors.astype(np.float32)
    rows, zero = normalise_rows(vectors)
    assert (zero == (vectors == 0).all(axis=1)).all()
    assert rows[~zero].tobytes() == _normalised(vectors[~zero]).tobytes()
    assert (rows[zero] == 0).all()


def test_rows_that_nearly_round_to_another_float_are_normalised_by_the_definition(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((200, 8192)).astype(np.float32)
    summed, fsum = [], math.fsum
    with monkeypatch.context() as patch:
        patch.setattr(math, "fsum", lambda row: summed.append(row) or fsum(row))
        rows, _ = normalise_rows(vectors)
    assert rows.tobytes() == _normalised(vectors).tobytes()
    assert 0 < len(summed) < 100
