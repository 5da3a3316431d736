"""What DoFns and transforms of one run have in common."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import apache_beam as beam

from pe_beam.engine.run import Run, open_run
from pe_beam.transforms.guard import guarded

Hints = Mapping[str, Mapping[str, str]]
"""Stage (ingest, embed, vote, generate) -> Beam's resource hints."""


def start(root: Any) -> beam.PCollection:
    """A PCollection of one start token on a pipeline; one that is there already is the token itself."""
    return root if isinstance(root, beam.PCollection) else root | "Start" >> beam.Create([0])


class RunFn(beam.DoFn):
    """A DoFn of one run."""

    def __init__(self, root: str) -> None:
        """Takes the run directory."""
        self._root = root

    def open(self) -> Run:
        """Not a property: Beam reads all attributes of a DoFn while a graph is built, where no run need be."""
        return open_run(self._root)

    def guarded(self, stage: str) -> AbstractContextManager[None]:
        """Around all that may fail while it holds private content; not around a `yield`."""
        return guarded(self._root, stage)


class RunTransform(beam.PTransform):
    """A transform of one run."""

    def __init__(self, run_dir: str) -> None:
        """Takes the run directory."""
        super().__init__()
        self._root = run_dir
