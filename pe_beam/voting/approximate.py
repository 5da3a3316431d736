"""The index of approximate votes (DESIGN, privacy rule 10): one file of HNSW graphs, a graph for each large label.

A label with at most `effort` distinct candidates has no graph: it is searched exactly, which costs no more.

The file: `MAGIC`, the length of the head (8 bytes, big-endian), the head (JSON), then the graphs. The head names the
candidate matrix by its digest, the build of faiss, the options, the recall, and the label, size and SHA-256 of each
graph. Votes are bound to the digest of the whole file, and so to the matrix.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pe_beam.errors import InputError
from pe_beam.voting.distinct import Distinct
from pe_beam.voting.hnsw import GraphOptions, GraphSearch, build_graph, this_build
from pe_beam.voting.nearest import NearestSearch, flat_search, normalise_rows
from pe_beam.voting.votes import CandidateMatrix, Voter

MAGIC = b"pe_beam hnsw 1\n"
HEAD_AT = len(MAGIC) + 8
"""Where the head begins."""
_PROBES = 256


@dataclass(frozen=True)
class SearchIndex:
    """An index that was read.

    Attributes:
      head: its head.
      graphs: label -> body of its graph.
      digest: SHA-256 (hex) of the file.
    """

    head: dict[str, Any]
    graphs: dict[int, bytes]
    digest: str


def build_index(
    matrix: CandidateMatrix, options: GraphOptions, *, distance: str, votes: int, rng: np.random.Generator
) -> bytes:
    """Builds the index of a candidate matrix, and measures its recall on candidates alone.

    Args:
      matrix: the candidates, with the digest of their file.
      options: how graphs are built and searched.
      distance: as in `flat_search`.
      votes: k.
      rng: picks the probes of the recall. Its stream must not depend on private data.

    Returns:
      The file. Equal arguments give equal bytes on one build of faiss.
    """
    graphs: dict[int, bytes] = {}
    for label in np.unique(matrix.labels).tolist():
        found = Distinct(matrix.vectors, np.flatnonzero(matrix.labels == label))
        distinct = found.part(0, len(found))
        if len(distinct) > max(options.effort, votes):
            graphs[label] = build_graph(distinct, options, product=distance == "inner_product")
    searches = _Searches(graphs, options, distance=distance, votes=votes)
    head = {
        "matrix": matrix.digest,
        "build": this_build(),
        "options": asdict(options),
        "distance": distance,
        "votes": votes,
        "recall": measured_recall(matrix, searches, distance=distance, votes=votes, rng=rng),
        "graphs": [
            {"label": label, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            for label, body in graphs.items()
        ],
    }
    plain = json.dumps(head, sort_keys=True).encode()
    return b"".join([MAGIC, len(plain).to_bytes(8, "big"), plain, *graphs.values()])


def head_length(start: bytes) -> int:
    """Returns the length of the head from the first `HEAD_AT` bytes. Raises InputError if they are no index's."""
    if len(start) < HEAD_AT or not start.startswith(MAGIC):
        raise _damaged()
    return int.from_bytes(start[len(MAGIC) : HEAD_AT], "big")


def read_index(data: bytes | memoryview) -> SearchIndex:
    """Reads an index. Raises InputError if it is damaged: faiss itself would not notice, and might crash."""
    stop = HEAD_AT + head_length(bytes(data[:HEAD_AT]))
    try:
        head = json.loads(bytes(data[HEAD_AT:stop]))
        graphs = {}
        for graph in head["graphs"]:
            start, stop = stop, stop + graph["bytes"]
            graphs[graph["label"]] = bytes(data[start:stop])
            if hashlib.sha256(graphs[graph["label"]]).hexdigest() != graph["sha256"]:
                raise _damaged()
    except (ValueError, KeyError, TypeError):
        raise _damaged() from None
    if stop != len(data):
        raise _damaged()
    return SearchIndex(head, graphs, hashlib.sha256(data).hexdigest())


def approximate_voter(
    matrix: CandidateMatrix, index: SearchIndex, options: GraphOptions, *, distance: str, votes: int
) -> Voter:
    """Returns the voter that asks an index. Its votes are bound to the index's digest.

    Raises:
      InputError: the index is of another matrix or has other options, or this process has another build of faiss.
    """
    head, here = index.head, this_build()
    if head["matrix"] != matrix.digest:
        raise InputError("work: the search index is of another candidate matrix; restore work/ as it was")
    if (head["options"], head["distance"], head["votes"]) != (asdict(options), distance, votes):
        raise InputError("work: the search index was built with other options; restore work/ as it was")
    if head["build"] != here:
        raise InputError(
            f"evolution.search: the index was built by {_said(head['build'])}, and this worker has {_said(here)}, "
            "whose votes could differ; workers with one build of faiss and one instruction set are wanted"
        )
    searches = _Searches(index.graphs, options, distance=distance, votes=votes)
    return Voter(matrix, distance=distance, votes_per_record=votes, search_of=searches, digest=index.digest)


def _said(build: dict[str, str]) -> str:
    return f"faiss {build['faiss']} ({build['instructions']}, {build['machine']})"


def _damaged() -> InputError:
    return InputError("work: the search index is damaged; restore work/ as it was")


class _Searches:
    """Makes the search of a label: in its graph, or exactly if it has none."""

    def __init__(self, graphs: dict[int, bytes], options: GraphOptions, *, distance: str, votes: int) -> None:
        self._graphs, self._options, self._distance, self._votes = graphs, options, distance, votes

    def __call__(self, label: int, candidates: np.ndarray) -> NearestSearch:
        body, votes = self._graphs.get(label), self._votes
        if body is None:
            return flat_search(candidates, distance=self._distance, votes=votes)
        product = self._distance == "inner_product"
        return GraphSearch(candidates, body, self._options, product=product, votes=votes)


def measured_recall(
    matrix: CandidateMatrix, searches: _Searches, *, distance: str, votes: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Returns the share of exact nearest candidates that a search finds, measured on candidates alone.

    Probes are combinations of candidates of one label; the label is that of a candidate drawn at random. *Near* probes
    are mixtures of three, with weights that are uniform on the simplex: near one of them, or between them. *Far* probes
    are the mean plus 256 deviations from it, with weights that are uniform on the sphere: they have the candidates'
    covariance, and are near none. Records that candidates resemble are like the first, others like the second.

    Returns:
      `probes`, the number of each kind, and `near` and `far`, from 0 to 1: over all probes, the found share of the
      min(k, m) nearest.
    """
    told: dict[str, Any] = {"probes": _PROBES}
    for kind, probes_of in (("near", _near), ("far", _far)):
        labels = matrix.labels[rng.integers(0, len(matrix.ids), _PROBES)]
        found = wanted = 0
        for label in np.unique(labels).tolist():
            candidates = matrix.vectors[matrix.labels == label]
            probes = probes_of(candidates, int((labels == label).sum()), rng)
            if distance == "cosine":
                probes, zero = normalise_rows(probes)
                probes = probes[~zero]
            exact = flat_search(candidates, distance=distance, votes=votes).nearest(probes)
            near = searches(label, candidates).nearest(probes)
            found += sum(len(np.intersect1d(one, other)) for one, other in zip(exact, near, strict=True))
            wanted += exact.size
        told[kind] = round(found / wanted, 6) if wanted else 1.0
    return told


def _near(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns float32 (count, d): mixtures of three rows each."""
    weights = rng.dirichlet(np.ones(3), count)
    return _combined(candidates, weights, rng).astype(np.float32)


def _far(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns float32 (count, d): the mean plus weighted deviations of 256 rows each, with squares that sum to 1."""
    weights = rng.normal(size=(count, 256))
    weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
    mean = candidates.mean(axis=0, dtype=np.float64)
    rest = 1 - weights.sum(axis=1, keepdims=True)
    return (_combined(candidates, weights, rng) + rest * mean).astype(np.float32)


def _combined(candidates: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns float64 (n, d): sums of rows drawn at random with weights (n, j)."""
    total = np.zeros((len(weights), candidates.shape[1]))
    for column in weights.T:
        total += column[:, None] * candidates[rng.integers(0, len(candidates), len(weights))].astype(np.float64)
    return total
