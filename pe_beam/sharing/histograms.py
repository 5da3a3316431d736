"""The noisy votes of each iteration as one CSV file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from pe_beam.releases.reading import Release


def write(release: Release, path: Path, iteration: int | None) -> None:
    """Writes iteration, candidate_id, label, noisy_votes: of iteration t the noisy votes on population t-1.

    Args:
      release: a complete one.
      path: of the file, which is written anew.
      iteration: 1 to T; None: all of them, one after the other.

    Raises:
      InputError: there is no such histogram, or its file is damaged or missing.
      OSError: the file cannot be written.
    """
    wanted = [t for t in release.iterations if t > 0] if iteration is None else [iteration]
    first = _numbered(release, wanted[0])
    with pyarrow.csv.CSVWriter(str(path), first.schema) as writer:
        writer.write_table(first)
        for each in wanted[1:]:
            writer.write_table(_numbered(release, each))


def _numbered(release: Release, iteration: int) -> pa.Table:
    votes = release.histogram(iteration).select(["candidate_id", "label", "noisy_votes"]).replace_schema_metadata(None)
    return votes.add_column(0, "iteration", pa.array([iteration] * len(votes), pa.int64()))
