"""Embeds candidates into the matrix for a vote, and commits it once."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pe_beam.contracts.embedder import checked_vectors
from pe_beam.engine import tables
from pe_beam.engine.frozen import read_index
from pe_beam.engine.layout import SEARCH_ENGINES
from pe_beam.engine.manifests import candidate_count
from pe_beam.engine.measurements import generator
from pe_beam.engine.populations import around, chunk_ranges, population_rows, read_population, step_at
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import PeBeamError, StageError
from pe_beam.kept import kept
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.bounds import votes_bound
from pe_beam.voting.nearest import normalise_rows
from pe_beam.voting.search.auto import fastest_engine
from pe_beam.voting.votes import CandidateMatrix, Voter


def embed_candidates(run: Run, iteration: int, start: int, stop: int) -> int:
    """Embeds rows of population t-1 for the vote of iteration t: each candidate, or the mean of its lookahead.

    Returns:
      The number of variations that the generator made.
    """
    name = run.layout.work(iteration, f"matrix/{start:09d}.npy")
    if run.store.exists(name):
        return 0
    rows = population_rows(run, iteration - 1, np.arange(start, stop))
    ahead = run.recipe.evolution.lookahead
    if ahead == 0:
        vectors = embed_rows(run, rows)
    else:
        step = step_at(run, iteration)
        ids = rows["candidate_id"].to_pylist()
        total = np.zeros((rows.num_rows, run.embedder.dimension), dtype=np.float64)
        journal = run.layout.work(iteration, f"journal/lookahead-{start:09d}")
        about = around(run, journal, ids, iteration)
        for turn in range(ahead):
            rngs = [keyed_rng(run.recipe.seed, iteration, i, f"lookahead/{turn}") for i in ids]
            total += embed_rows(run, generator(run).vary(rows, step, rngs, **about))
        vectors = (total / ahead).astype(np.float32)
    if run.recipe.evolution.distance == "cosine":
        vectors, zero = normalise_rows(vectors)
        if zero.any():
            raise StageError("embedder: a candidate's embedding has length zero; cosine needs another embedder")
    run.store.commit(name, tables.save_array(vectors))
    if ahead:
        run.store.remove(journal)
    return ahead * rows.num_rows


def embed_rows(run: Run, rows: pa.Table) -> np.ndarray:
    """Returns the vectors of generated candidates, float32 (n, d). Raises StageError if one cannot be embedded."""
    embedded = run.embedder.embed(rows)
    vectors = checked_vectors(embedded, rows.num_rows, run.embedder.dimension)
    if embedded.faults:
        fault = next(iter(embedded.faults.values()))
        said = f"{fault.kind}: {fault.detail}" if fault.detail else fault.kind  # of a candidate, which is public
        raise StageError(f"embedder: a generated candidate cannot be embedded ({said})")
    if not np.isfinite(vectors).all():
        raise StageError("embedder: a generated candidate has an embedding that is not finite")
    return vectors


def commit_matrix(run: Run, iteration: int) -> list[str]:
    """Commits the candidate matrix as one file, and returns the names of the shards that vote on it."""
    index = read_index(run)
    if index is None:
        raise PeBeamError("private/embeddings: not frozen yet; the embed pipeline comes first")
    spans = chunk_ranges(run, candidate_count(run, iteration - 1))
    shape = (spans[-1][1], run.embedder.dimension)

    def write(file: BinaryIO) -> None:
        """Writes part by part, because two matrices do not always fit into memory."""
        tables.write_array_head(file, shape)
        for start, _ in spans:
            part = tables.load_array(run.store.read_committed(run.layout.work(iteration, f"matrix/{start:09d}.npy")))
            file.write(part.tobytes())

    run.store.commit(run.layout.work(iteration, "matrix.npy"), write)
    return [shard["shard"] for shard in index["shards"]]


def make_matrix(run: Run, iteration: int) -> CandidateMatrix:
    """Returns the candidate matrix of an iteration. If `work/` has lost it, public candidates are embedded again."""
    if not run.store.exists(run.layout.work(iteration, "matrix.npy")):
        for span in chunk_ranges(run, candidate_count(run, iteration - 1)):
            embed_candidates(run, iteration, *span)
        commit_matrix(run, iteration)
    return load_matrix(run, iteration)


def load_matrix(run: Run, iteration: int) -> CandidateMatrix:
    """Returns the committed candidate matrix of the vote of iteration t, memory-mapped where the store can."""
    population = read_population(run, iteration - 1, ["candidate_id", "label"])
    data = run.store.mapped(run.layout.work(iteration, "matrix.npy"))
    return CandidateMatrix(
        ids=population["candidate_id"].to_numpy(),
        labels=run.recipe.codes(population["label"].to_pylist()),
        vectors=tables.load_array(data),
        digest=hashlib.sha256(data).hexdigest(),
    )


def load_voter(run: Run, iteration: int) -> Voter:
    """Returns the voter of an iteration. Matrix and search index are loaded once per process, for all its threads."""
    names = (run.layout.work(iteration, "matrix.npy"), run.layout.public(iteration - 1, "manifest.json"))
    return _loaded_voter(run.root, iteration, tuple(run.store.version(name) for name in names))


@kept(maxsize=2)
def _loaded_voter(root: str, iteration: int, versions: tuple[str, ...]) -> Voter:
    """Returns the voter. The versions of its files are part of the cache key, because another run may start in a
    directory of the same name."""
    run = open_run(root)
    matrix, votes = load_matrix(run, iteration), votes_bound(run.recipe)
    return Voter(
        matrix,
        distance=run.recipe.evolution.distance,
        votes_per_record=votes,  # if it is below k, no label has more candidates
        search_engine=_engine(run, matrix, votes),
        memory=run.recipe.execution.search_bytes,
    )


def _engine(run: Run, matrix: CandidateMatrix, votes: int) -> str:
    """Returns the search engine. What `auto` takes, for as many candidates as a label has, is noted for `status`."""
    named = run.recipe.execution.search_engine
    if named != "auto":
        return named
    typical = matrix.vectors[:: len(np.unique(matrix.labels))]
    product = run.recipe.evolution.distance == "inner_product"
    taken = fastest_engine(typical, votes=votes, product=product, queries=_queries(run))
    run.store.commit(f"{SEARCH_ENGINES}/{taken}", b"")
    return taken


def _queries(run: Run) -> int | None:
    """Returns about how many records vote over all iterations; None if the recipe has no public guess of them."""
    records = run.recipe.data.expected_records if run.recipe.privacy.unit == "record" else None
    return None if records is None else records * run.recipe.evolution.iterations
