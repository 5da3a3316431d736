"""Approximate votes are a function of record and index alone, bounded as exact ones (DESIGN, privacy rule 10)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from pe_beam.errors import InputError
from pe_beam.voting import approximate
from pe_beam.voting.approximate import HEAD_AT, approximate_voter, build_index, read_index
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.hnsw import GraphOptions, GraphSearch, build_graph, this_build
from pe_beam.voting.nearest import flat_search, normalise_rows, reference_nearest
from pe_beam.voting.votes import CandidateMatrix, Voter

OPTIONS = GraphOptions(neighbours=8, build_effort=16, effort=16)
DISTANCES = ["l2", "cosine", "inner_product"]


def _vectors(count: int, seed: int, distance: str = "l2") -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)
    return normalise_rows(made)[0] if distance == "cosine" else made


def _matrix(distance: str = "l2") -> CandidateMatrix:
    """Labels of 500, 400 and 5 candidates, some of them equal."""
    vectors = _vectors(905, 1, distance)
    vectors[100:120] = vectors[:20]
    labels = np.repeat([0, 1, 2], [500, 400, 5]).astype(np.int32)
    return CandidateMatrix(np.arange(905) * 2, labels, vectors, digest="a" * 64)


def _index(distance: str = "l2", votes: int = 1, options: GraphOptions = OPTIONS) -> bytes:
    rng = np.random.default_rng(5)
    return build_index(_matrix(distance), options, distance=distance, votes=votes, rng=rng)


def _voter(distance: str = "l2", votes: int = 1, data: bytes | None = None) -> Voter:
    index = read_index(_index(distance, votes) if data is None else data)
    return approximate_voter(_matrix(distance), index, OPTIONS, distance=distance, votes=votes)


def _records(distance: str = "l2", count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return _vectors(count, 2, distance), np.random.default_rng(3).integers(0, 3, count).astype(np.int32)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("votes", [1, 3])
def test_batches_and_threads_change_no_vote(distance: str, votes: int) -> None:
    vectors, labels = _records(distance)
    data = _index(distance, votes)
    rows, positions = _voter(distance, votes, data).ballots(vectors, labels)
    for size in (1, 7, 64, len(vectors)):
        voter = _voter(distance, votes, data)
        starts = range(0, len(vectors), size)
        parts = [(vectors[a : a + size], labels[a : a + size]) for a in starts]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(voter.ballots, *zip(*parts, strict=True)))
        assert (np.concatenate([r + a for (r, _), a in zip(found, starts, strict=True)]) == rows).all()
        assert (np.concatenate([p for _, p in found]) == positions).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_index_has_equal_bytes_each_time_and_in_each_process(distance: str) -> None:
    first = _index(distance)
    assert first == _index(distance)
    code = (
        "import sys; from hashlib import sha256; from tests.voting import test_approximate as t; d = sys.argv[1];"
        "v = t._voter(d, 3).ballots(*t._records(d))[1];"
        "print(sha256(t._index(d)).hexdigest(), sha256(v.tobytes()).hexdigest())"
    )
    votes = sha256(_voter(distance, 3).ballots(*_records(distance))[1].tobytes()).hexdigest()
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    told = subprocess.run(
        [sys.executable, "-c", code, distance], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [sha256(first).hexdigest(), votes]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("votes", [1, 4, 16])
def test_one_record_more_casts_its_own_votes_and_moves_no_other(distance: str, votes: int) -> None:
    vectors, labels = _records(distance, 90)
    voter = _voter(distance, votes)
    for row in (0, 40, 89):
        others = np.delete(np.arange(90), row)
        change = voter.count(vectors, labels) - voter.count(vectors[others], labels[others])
        assert set(change.tolist()) <= {0, 1}
        assert (change**2).sum() == min(votes, 5 if labels[row] == 2 else votes)
        assert (_matrix(distance).labels[change == 1] == labels[row]).all()


def test_what_is_returned_is_compared_exactly_and_ties_go_to_the_smaller_id() -> None:
    rng = np.random.default_rng(0)
    candidates = rng.integers(-2, 3, size=(400, 4)).astype(np.float32)  # many equal ones, and many ties
    distinct = candidates[Distinct(candidates).firsts]
    options = GraphOptions(neighbours=16, build_effort=200, effort=len(distinct) - 1)
    queries = rng.integers(-2, 3, size=(200, 4)).astype(np.float32) / 2
    for votes in (1, 5):
        search = GraphSearch(
            candidates, build_graph(distinct, options, product=False), options, product=False, votes=votes
        )
        wanted = reference_nearest(queries, candidates, distance="l2", votes=votes)
        assert (search.nearest(queries) == wanted).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_most_votes_are_the_exact_ones_and_the_recall_says_how_many(distance: str) -> None:
    vectors, labels = _records(distance, 2000)
    exact = Voter(_matrix(distance), distance=distance, votes_per_record=1).ballots(vectors, labels)[1]
    near = _voter(distance).ballots(vectors, labels)[1]
    told = read_index(_index(distance)).head["recall"]
    assert told["probes"] == 256
    assert 0.9 < np.mean(exact == near) < 1
    assert abs(told["far"] - np.mean(exact == near)) < 0.06
    assert told["far"] <= told["near"] <= 1


class _Lame:
    """A graph that finds too little: it answers -1, or one candidate again and again."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def search(self, query: np.ndarray, k: int, D: np.ndarray, I: np.ndarray) -> None:  # noqa: E741, N803
        D[:], I[:] = 0, self._answer


@pytest.mark.parametrize("answer", [-1, 3, 10**6])
def test_a_graph_that_finds_too_little_gives_exact_votes(answer: int) -> None:
    candidates, queries = _vectors(100, 1), _vectors(20, 2)
    search = GraphSearch(candidates, build_graph(candidates, OPTIONS, product=False), OPTIONS, product=False, votes=2)
    search._index = _Lame(answer)
    exact = flat_search(candidates, distance="l2", votes=2).nearest(queries)
    assert (search.nearest(queries) == exact).all()


@pytest.mark.parametrize("product", [False, True])
def test_numbers_beyond_float32_are_decided_exactly(product: bool) -> None:
    candidates, queries = _vectors(100, 1) * np.float32(1e18), _vectors(20, 2) * np.float32(1e19)
    search = GraphSearch(
        candidates, build_graph(candidates, OPTIONS, product=product), OPTIONS, product=product, votes=1
    )
    distance = "inner_product" if product else "l2"
    assert (search.nearest(queries) == reference_nearest(queries, candidates, distance=distance, votes=1)).all()
    for bad in (queries[:, :5], queries.astype(np.float64), queries * np.float32(np.nan)):
        with pytest.raises(ValueError, match="queries"):
            search.nearest(bad)
    assert search.nearest(queries[:0]).shape == (0, 1)


def test_a_damaged_index_is_refused_wherever_the_damage_is() -> None:
    data = _index()
    length = int.from_bytes(data[HEAD_AT - 8 : HEAD_AT], "big")
    spots = [0, HEAD_AT - 5, HEAD_AT, HEAD_AT + length, len(data) // 2, len(data) - 1]
    damaged = [data[:spot] + bytes([data[spot] ^ 0x55]) + data[spot + 1 :] for spot in spots]
    for bad in (*damaged, b"", data[:7], data[: HEAD_AT + 3], data[:-1], data + b"x", data[:HEAD_AT] + b"[]" * 9):
        with pytest.raises(InputError, match="the search index is damaged"):
            read_index(bad)


def _with_head(data: bytes, **changes: object) -> bytes:
    """Rewrites the head, as someone would who wants to be believed."""
    length = int.from_bytes(data[HEAD_AT - 8 : HEAD_AT], "big")
    head = json.dumps(json.loads(data[HEAD_AT : HEAD_AT + length]) | changes, sort_keys=True).encode()
    return data[: HEAD_AT - 8] + len(head).to_bytes(8, "big") + head + data[HEAD_AT + length :]


def test_another_build_of_faiss_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _index()
    for key, value in (("instructions", "AVX512"), ("faiss", "0.0.0"), ("machine", "aarch64")):
        with pytest.raises(InputError, match="one build of faiss and one instruction set") as refused:
            _voter(data=_with_head(data, build=this_build() | {key: value}))
        assert value in str(refused.value)
        assert "\n" not in str(refused.value)
    monkeypatch.setattr(approximate, "this_build", lambda: this_build() | {"instructions": "AVX512"})
    with pytest.raises(InputError, match="this worker has faiss"):
        _voter(data=data)


def test_an_index_of_other_candidates_or_options_is_refused() -> None:
    data = _index()
    for change, said in (({"matrix": "b" * 64}, "another candidate matrix"), ({"votes": 2}, "other options")):
        with pytest.raises(InputError, match=said):
            _voter(data=_with_head(data, **change))
    assert _voter(data=_with_head(data, recall={"near": 1})).digest != _voter(data=data).digest
    assert _voter(data=data).digest == sha256(data).hexdigest()


def test_small_labels_have_no_graph() -> None:
    graphs = read_index(_index()).head["graphs"]
    assert [graph["label"] for graph in graphs] == [0, 1]
    assert [g["label"] for g in read_index(_index(options=GraphOptions(8, 16, 450))).head["graphs"]] == [0]
