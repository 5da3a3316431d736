"""Records of a Beam pipeline of one's own: here, the lines of text files, which Beam itself reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.fileio import MatchFiles, ReadableFile


class ReadNotes(beam.PTransform):
    """A pipeline's root -> Arrow batches with the columns source, row and text."""

    def __init__(self, pattern: str) -> None:
        """Takes a glob of files."""
        super().__init__()
        self._pattern = pattern

    def expand(self, root: beam.Pipeline) -> beam.PCollection:
        """Any transforms may come here: joins, filters, a database. `source` and `row` have to stay what they are."""
        return root | MatchFiles(self._pattern) | beam.Reshuffle() | beam.FlatMap(_batches)


def _batches(found: ReadableFile) -> Iterator[pa.RecordBatch]:
    path = Path(found.path)
    lines = path.read_text(encoding="utf-8").splitlines()
    for start in range(0, len(lines), 1000):
        some = lines[start : start + 1000]
        rows = pa.array(range(start, start + len(some)), pa.int64())
        yield pa.record_batch({"source": [path.name] * len(some), "row": rows, "text": some})


def notes(pattern: str) -> ReadNotes:
    """What the recipe names: `data: {source: python, path: "own_records:notes", options: {arguments: ...}}`."""
    return ReadNotes(pattern)
