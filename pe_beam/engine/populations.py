"""Released populations as an engine reads them: by rows, so that what is read does not grow with the population."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Chunk, PaidGenerator, Step
from pe_beam.contracts.store import Folder
from pe_beam.engine import tables
from pe_beam.engine.run import Run, open_run

POPULATION = "population/part-00000.parquet"
HISTOGRAM = "histogram/part-00000.parquet"


def chunk_ranges(run: Run, rows: int) -> list[tuple[int, int]]:
    """Row ranges in which candidates are generated, embedded and committed."""
    size = run.generator.chunk_size
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def population_rows(run: Run, iteration: int, rows: np.ndarray) -> pa.Table:
    """Some rows of a released population, in the order given: what is read does not grow with the population."""
    with run.store.open(run.public(iteration, POPULATION)) as file:
        return tables.take_rows(file, rows)


@functools.lru_cache(maxsize=1)
def _whole_population(root: str, iteration: int, version: str) -> pa.Table:
    """Once a process, for generators that show candidates to each other. Cached by the very file."""
    return read_population(open_run(root), iteration)


def read_population(run: Run, iteration: int) -> pa.Table:
    """A released population, sorted by candidate_id."""
    return tables.read_bytes(run.store.read(run.public(iteration, POPULATION)))


def around(run: Run, journal: str, iteration: int = 0) -> dict[str, Any]:
    """What a generator whose answers are paid for is told besides: nothing for any other."""
    if not isinstance(run.generator, PaidGenerator):
        return {}

    def population() -> pa.Table:
        version = run.store.version(run.public(iteration - 1, POPULATION))
        return _whole_population(run.root, iteration - 1, version)

    journals = Folder(run.store, journal)
    return {"chunk": Chunk(journal=journals, population=population if iteration else None)}


def step_at(run: Run, iteration: int) -> Step:
    """Where iteration t stands, for a generator."""
    return Step(
        iteration=iteration,
        iterations=run.recipe.evolution.iterations,
        degree=run.degrees[iteration - 1],
    )
