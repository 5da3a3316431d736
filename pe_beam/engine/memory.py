"""The noisy votes of earlier windows of a stream, and the vectors of the candidates voted on (`stream.memory`).

All of it is released, or follows from what is: it costs no budget. A window leaves one file for those after it, so that
no candidate is embedded twice.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pe_beam.engine.matrices import make_matrix
from pe_beam.engine.populations import read_histogram
from pe_beam.engine.run import Run
from pe_beam.engine.spending import sigma_of
from pe_beam.errors import InputError
from pe_beam.recipe.windows import memory_name, stream_root, window_name
from pe_beam.selection.smoothing import Round
from pe_beam.storage import open_store
from pe_beam.storage.parquet import parse_committed


def remember(run: Run) -> bytes:
    """Returns the file that a window leaves: iteration, label (position), vector, noisy votes, sigma."""
    parts = []
    for t in range(1, run.recipe.evolution.iterations + 1):
        matrix, noisy = make_matrix(run, t), read_histogram(run, t)["noisy_votes"]
        rows, dimension = matrix.vectors.shape
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.vectors.ravel(), pa.float32()), dimension)
        columns = [pa.array(np.full(rows, t), pa.int32()), pa.array(matrix.labels, pa.int32()), vectors]
        columns += [noisy.combine_chunks(), pa.array(np.full(rows, sigma_of(run, t)))]
        parts.append(pa.table(columns, names=["iteration", "label", "vector", "noisy_votes", "sigma"]))
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(parts), sink, compression="none", use_dictionary=False, write_statistics=False)
    return sink.getvalue()


def remembered(run: Run) -> list[list[Round]]:
    """Returns by label the rounds of the windows before a run's, the oldest first; none if it is of no such stream.

    A vote of a window that is a windows older weighs 2^(-a / half_life).

    Raises:
      InputError: the file of a window is missing or damaged.
    """
    rounds: list[list[Round]] = [[] for _ in run.recipe.label_list]
    for table, weight in _left_by(run):
        _add(rounds, table, weight)
    return rounds


def demand_memory(run: Run) -> None:
    """Raises InputError as `remembered`: before a window is paid for that could not be run to its end."""
    for _ in _left_by(run):
        pass


def _left_by(run: Run) -> Iterator[tuple[pa.Table, float]]:
    """Yields the files of the windows before a run's, the oldest first, and the weight of their votes."""
    stream = run.recipe.stream
    if stream is None or stream.at is None or stream.memory is None:
        return
    store = open_store(stream_root(run.recipe.data.path))
    for index in range(max(0, stream.index - stream.memory.windows), stream.index):
        name = memory_name(window_name(run.recipe, index))
        data = store.find_committed(name)
        if data is None:
            raise InputError(f"{name}: the file of an earlier window is missing; put it back as it was")
        yield parse_committed(data, name), 2.0 ** ((index - stream.index) / stream.memory.half_life)


def _add(rounds: list[list[Round]], table: pa.Table, weight: float) -> None:
    labels, iterations = table["label"].to_numpy(), table["iteration"].to_numpy()
    noisy, sigmas = table["noisy_votes"].to_numpy(), table["sigma"].to_numpy()
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    vectors = flat.reshape(table.num_rows, -1)
    for t in np.unique(iterations):
        for code, own in enumerate(rounds):
            rows = np.flatnonzero((iterations == t) & (labels == code))
            if len(rows):
                own.append(Round(vectors[rows], noisy[rows], float(sigmas[rows[0]]), weight))
