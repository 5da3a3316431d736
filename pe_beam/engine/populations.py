"""Reads released populations and histograms. Rows are read singly, so that reads do not grow with the population."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Chunk, PaidGenerator, Step
from pe_beam.contracts.record import population_files
from pe_beam.contracts.store import Folder
from pe_beam.engine import tables
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.run import Run, open_run
from pe_beam.kept import kept
from pe_beam.storage.parquet import read_parquet

FILE_ROWS = 65_536
"""Largest number of rows of a part of a population; a multiple of a row group. It is part of the format."""
HISTOGRAM = "histogram/part-00000.parquet"
HISTOGRAM_WORK = "histogram.parquet"


def chunk_ranges(run: Run, rows: int) -> list[tuple[int, int]]:
    """Returns the row ranges in which candidates are generated, embedded and committed."""
    size = run.generator.chunk_size
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def population_rows(run: Run, iteration: int, rows: np.ndarray) -> pa.Table:
    """Returns some rows of a released population, in the order given. The read does not grow with the population."""
    parts = population_files(manifest_of(run, iteration))
    starts = np.cumsum([0, *(count for _, count in parts)])
    owners = np.searchsorted(starts, rows, side="right") - 1
    found, places = [], []
    for part in np.unique(owners).tolist() or [0]:
        mine = np.flatnonzero(owners == part)
        with run.store.open(run.layout.public(iteration, parts[part][0])) as file:
            found.append(tables.take_rows(file, rows[mine] - starts[part]))
        places.append(mine)
    if len(found) == 1:
        return found[0]
    order = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_tables(found).take(pa.array(order))


@kept(maxsize=1)
def _whole_population(root: str, iteration: int, version: str) -> pa.Table:
    """Returns a population, for generators that show candidates to each other. It is cached by its file's version."""
    return read_population(open_run(root), iteration)


def read_population(run: Run, iteration: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Returns a released population, sorted by candidate_id; `columns` are the columns to read."""
    names = [run.layout.public(iteration, name) for name, _ in population_files(manifest_of(run, iteration))]
    return pa.concat_tables([read_parquet(run.store, name, columns) for name in names])


def read_histogram(run: Run, iteration: int) -> pa.Table:
    """Returns the noisy histogram of an iteration. It is read from the release if `work/` has lost it."""
    own = run.layout.work(iteration, HISTOGRAM_WORK)
    return tables.read_bytes(
        run.store.read_committed(own if run.store.exists(own) else run.layout.public(iteration, HISTOGRAM))
    )


def around(run: Run, journal: str, ids: Sequence[int], iteration: int = 0) -> dict[str, Any]:
    """Returns the argument `chunk` for a `PaidGenerator`, as keyword arguments; no arguments for another generator."""
    if not isinstance(run.generator, PaidGenerator):
        return {}

    def population() -> pa.Table:
        version = run.store.version(run.layout.public(iteration - 1, "manifest.json"))
        return _whole_population(run.root, iteration - 1, version)

    journals = Folder(run.store, journal)
    return {"chunk": Chunk(journal=journals, population=population if iteration else None, ids=ids)}


def step_at(run: Run, iteration: int) -> Step:
    """Returns the step of iteration t, for a generator."""
    return Step(
        iteration=iteration,
        iterations=run.recipe.evolution.iterations,
        degree=run.recipe.evolution.degrees()[iteration - 1],
    )
