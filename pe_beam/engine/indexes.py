"""Builds the search index of approximate votes from candidates, commits it once, and reads what may be told of it."""

from __future__ import annotations

import json
from typing import Any

from pe_beam.engine import matrices
from pe_beam.engine.matrices import load_matrix, make_matrix
from pe_beam.engine.run import Run, open_run
from pe_beam.kept import kept
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.bounds import votes_bound
from pe_beam.recipe.sections.evolution import Approximate
from pe_beam.voting.approximate import HEAD_AT, approximate_voter, build_index, head_length, read_index
from pe_beam.voting.hnsw import GraphOptions
from pe_beam.voting.votes import CandidateMatrix, Voter


def index_name(run: Run, iteration: int) -> str:
    """Returns the file name of the search index of an iteration. It lies beside the candidate matrix."""
    return run.layout.work(iteration, "matrix.hnsw")


def commit_index(run: Run, iteration: int) -> None:
    """Builds the index over the committed candidate matrix, and commits it once. Exact search has none (rule 10)."""
    asked, name = run.recipe.evolution.approximate, index_name(run, iteration)
    if asked is None or run.store.exists(name):
        return
    run.store.commit(name, _built(run, iteration, load_matrix(run, iteration), asked))


def _built(run: Run, iteration: int, matrix: CandidateMatrix, asked: Approximate) -> bytes:
    return build_index(
        matrix,
        _options(asked),
        distance=run.recipe.evolution.distance,
        votes=votes_bound(run.recipe),
        rng=keyed_rng(run.recipe.seed, iteration, -1, "recall"),
    )


def _options(asked: Approximate) -> GraphOptions:
    return GraphOptions(neighbours=asked.neighbours, build_effort=asked.build_effort, effort=asked.effort)


def recall_note(run: Run, iteration: int) -> dict[str, Any] | None:
    """Returns what the manifest says of approximate votes: the recall on public candidates. Returns None if exact.

    If `work/` has lost the index, it is built again from public candidates.
    """
    if run.recipe.evolution.approximate is None:
        return None
    name = index_name(run, iteration)
    if not run.store.exists(name):
        make_matrix(run, iteration)
        commit_index(run, iteration)
    length = head_length(run.store.read_range(name, 0, HEAD_AT))
    head = json.loads(run.store.read_range(name, HEAD_AT, length))
    return {"name": "approximate", **head["recall"]}


def load_voter(run: Run, iteration: int) -> Voter:
    """Returns the voter of an iteration. Matrix and search index are loaded once per process, for all its threads."""
    if run.recipe.evolution.approximate is None:
        return matrices.load_voter(run, iteration)
    files = (run.layout.work(iteration, "matrix.npy"), index_name(run, iteration))
    names = (*files, run.layout.public(iteration - 1, "manifest.json"))
    return _loaded_voter(run.root, iteration, tuple(run.store.version(name) for name in names))


@kept(maxsize=2)
def _loaded_voter(root: str, iteration: int, versions: tuple[str, ...]) -> Voter:
    """Returns the voter that asks the index. For the versions see `matrices.load_voter`."""
    run = open_run(root)
    asked = run.recipe.evolution.approximate
    assert asked is not None
    return approximate_voter(
        load_matrix(run, iteration),
        read_index(run.store.mapped(index_name(run, iteration))),
        _options(asked),
        distance=run.recipe.evolution.distance,
        votes=votes_bound(run.recipe),
    )
