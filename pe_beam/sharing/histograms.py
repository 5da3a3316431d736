"""The noisy counts of a release as CSV: the votes of each iteration, or what was measured before the first one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from pe_beam.errors import InputError
from pe_beam.names import JOINT
from pe_beam.releases.reading import Release


def write(release: Release, path: Path, iteration: int | None) -> None:
    """Writes iteration, candidate_id, label, noisy_votes: of iteration t the noisy votes on population t-1.

    Of iteration 0: the file of the release (`measurement`), the cells, and noisy_count.

    Args:
      release: a complete one.
      path: of the file, which is written anew.
      iteration: 0 to T; None: 1 to T, one after the other.

    Raises:
      InputError: there is no such histogram, or its file is damaged or missing.
      OSError: the file cannot be written.
    """
    if iteration == 0:
        pyarrow.csv.write_csv(_measured(release), str(path))
        return
    wanted = [t for t in release.iterations if t > 0] if iteration is None else [iteration]
    first = _numbered(release, wanted[0])
    with pyarrow.csv.CSVWriter(str(path), first.schema) as writer:
        writer.write_table(first)
        for each in wanted[1:]:
            writer.write_table(_numbered(release, each))


def _numbered(release: Release, iteration: int) -> pa.Table:
    votes = release.histogram(iteration).select(["candidate_id", "label", "noisy_votes"]).replace_schema_metadata(None)
    return votes.add_column(0, "iteration", pa.array([iteration] * len(votes), pa.int64()))


def _measured(release: Release) -> pa.Table:
    tables = []
    for name, counts in release.measurements().items():
        flat = {key: _flat(counts[key]) for key in counts.column_names}
        tables.append(pa.table({"measurement": pa.array([name] * len(counts), pa.string()), **flat}))
    if not tables:
        raise InputError("--iteration 0: nothing was measured before the first iteration; 1 to T are votes")
    return pa.concat_tables(tables, promote_options="default")


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Returns a column that CSV can hold: lists become texts."""
    if not pa.types.is_list(column.type):
        return column
    return pa.array([None if each is None else JOINT.join(map(str, each)) for each in column.to_pylist()], pa.string())
