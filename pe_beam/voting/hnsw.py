"""Approximate search among one label's candidates with faiss's HNSW graph (Malkov and Yashunin 2018, arXiv 1603.09320).

DESIGN, privacy rule 10: an approximate vote is a function of record and index alone. So

- the graph is built once: one thread, the seeds that faiss fixes, vectors in the order of their first position;
- queries are asked one at a time, so neither batch nor threads can change an answer;
- what the graph returns is ordered exactly (`decide`), so ties among it go to the smaller candidate_id;
- a query for which the graph returns too few candidates, -1 or a repeat is compared with every candidate. So a vote
  always names min(k, m) distinct candidates.

faiss picks its code by the machine's instructions, and sums of another order may take another path through the
graph. `this_build` names what has to be the same wherever one index is asked.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from pe_beam.contracts.search import UNIT, Frame, Pairs, product_error, row_norms
from pe_beam.voting.decide import Decider
from pe_beam.voting.distinct import Distinct


@dataclass(frozen=True)
class GraphOptions:
    """How a graph is built and searched.

    Attributes:
      neighbours: links of a candidate, M of the paper; 2M in the lowest layer.
      build_effort: candidates looked at when one is linked, efConstruction.
      effort: candidates held while a query is answered, efSearch.
    """

    neighbours: int
    build_effort: int
    effort: int


def this_build() -> dict[str, str]:
    """Returns what answers depend on besides record and index: faiss's version, its instruction set, the machine."""
    import faiss

    config = getattr(faiss, "SIMDConfig", None)  # since faiss 1.14 one library holds code for several sets
    level = config.get_level_name() if config is not None else ""
    compiled = " ".join(faiss.get_compile_options().split())
    return {
        "faiss": str(faiss.__version__),
        "instructions": f"{compiled} {level}".strip(),
        "machine": platform.machine(),
    }


def build_graph(distinct: np.ndarray, options: GraphOptions, *, product: bool) -> bytes:
    """Builds the graph of one label's candidates. Equal arguments give equal bytes on one build of faiss.

    Args:
      distinct: float32 (u, d), distinct rows.
      options: its options.
      product: whether the largest inner product is nearest.

    Returns:
      faiss's own format, without the vectors, which are in the candidate matrix.
    """
    import faiss

    index = faiss.IndexHNSWFlat(distinct.shape[1], options.neighbours, _metric(product=product))
    index.hnsw.efConstruction = options.build_effort
    threads = faiss.omp_get_max_threads()  # of this thread of Python alone
    faiss.omp_set_num_threads(1)
    try:
        index.add(np.ascontiguousarray(distinct))
    finally:
        faiss.omp_set_num_threads(threads)
    body: bytes = faiss.serialize_index(index, faiss.IO_FLAG_SKIP_STORAGE).tobytes()
    return body


def _metric(*, product: bool) -> int:
    import faiss

    return int(faiss.METRIC_INNER_PRODUCT if product else faiss.METRIC_L2)


class GraphSearch:
    """The search in one graph, a `NearestSearch`. Several threads may use it at once.

    Args:
      candidates: float32 (m, d), of one label, in order.
      body: `build_graph` over their distinct rows.
      options: as for `build_graph`.
      product: as for `build_graph`.
      votes: number of candidates that each query asks for, 1 or more; m if there are fewer.

    Raises:
      ValueError: the graph has another number of candidates or dimensions.
    """

    def __init__(
        self, candidates: np.ndarray, body: bytes, options: GraphOptions, *, product: bool, votes: int
    ) -> None:
        import faiss

        found = Distinct(candidates)
        distinct, members, starts = found.part(0, len(found)), found.members, found.starts
        index: Any = faiss.deserialize_index(np.frombuffer(body, np.uint8), faiss.IO_FLAG_SKIP_STORAGE)
        if (index.ntotal, index.d) != distinct.shape:
            raise ValueError(f"graph: of {(index.ntotal, index.d)} vectors; {distinct.shape} are needed")
        self._storage = faiss.IndexFlat(distinct.shape[1], _metric(product=product))
        self._storage.add(distinct)
        index.storage, index.own_fields = self._storage, False
        norms = row_norms(distinct)
        centre = np.zeros(distinct.shape[1], dtype=np.float32)  # unmoved: a mean may differ between machines
        self._frame = Frame(centre, 0.0, distinct, norms, float(norms.max()), product)
        self._keep, self._wanted = min(votes, len(candidates)), min(votes, len(distinct))
        self._ask = max(self._wanted, min(options.effort, len(distinct)))
        index.hnsw.efSearch = max(options.effort, self._wanted)
        self._index = index
        self._decider = Decider(distinct, members, starts, keep=self._keep, product=product)
        self._columns = np.arange(len(distinct))
        # As in `search/faiss.py`: the error of a float32 distance or product of faiss.
        self._error = 1.2 * product_error(distinct.shape[1] + 4) + 4 * UNIT

    def nearest(self, queries: np.ndarray) -> np.ndarray:
        """See `NearestSearch`. The candidates are the nearest of those that the graph returns."""
        dimension = len(self._frame.centre)
        if queries.dtype != np.float32 or queries.ndim != 2 or queries.shape[1] != dimension:
            raise ValueError(f"queries: float32 (n, {dimension}) is needed; got {queries.dtype} {queries.shape}")
        if not np.isfinite(queries).all():
            raise ValueError("queries: every number must be finite")
        answer = np.empty((len(queries), self._keep), dtype=np.int64)
        if len(queries) == 0:
            return answer
        radii = row_norms(queries)
        scores, columns = self._ask_each(queries)
        sound = self._sound(columns) & self._frame.safe(radii)
        if sound.any():
            answer[sound] = self._decided(queries[sound], radii[sound], scores[sound], columns[sound])
        for row in np.flatnonzero(~sound):
            pairs = Pairs(np.zeros_like(self._columns), self._columns)
            answer[row] = self._decider.best(queries[row : row + 1], pairs)[0]
        return answer

    def _ask_each(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Asks the graph a query at a time. Returns scores (a larger one is nearer) and columns, (n, asked) each."""
        values = np.empty((len(queries), self._ask), dtype=np.float32)
        columns = np.empty((len(queries), self._ask), dtype=np.int64)
        for row in range(len(queries)):
            one = slice(row, row + 1)
            query = np.ascontiguousarray(queries[one])
            self._index.search(query, self._ask, D=values[one], I=columns[one])
        return (values if self._frame.product else -values).astype(np.float64), columns

    def _sound(self, columns: np.ndarray) -> np.ndarray:
        """Returns bool (n,): whether a query has enough candidates, and each once."""
        ordered = np.sort(columns, axis=1)
        repeats = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
        sound: np.ndarray = (columns[:, : self._wanted] >= 0).all(axis=1) & ~repeats
        return sound & (columns < len(self._columns)).all(axis=1)

    def _decided(self, queries: np.ndarray, radii: np.ndarray, scores: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Compares what the graph returned, exactly: (n, keep). What lies beyond float32's error needs no score."""
        size = radii * self._frame.largest if self._frame.product else (radii + self._frame.largest) ** 2
        margin = 2 * (self._error * size + 2 * self._frame.constant_error(radii))
        worst = np.sort(scores, axis=1)[:, -self._wanted]
        rows, places = np.nonzero((scores >= (worst - margin)[:, None]) & (columns >= 0))
        return self._decider.best(queries, Pairs(rows, columns[rows, places]))
