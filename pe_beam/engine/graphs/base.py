"""Base classes of the DoFns and transforms of one run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import apache_beam as beam

from pe_beam.engine.run import Run, open_run
from pe_beam.transforms.guard import guarded
from pe_beam.transforms.plain import PlainFn

Hints = Mapping[str, Mapping[str, str]]
"""Stage (ingest, embed, vote, generate) -> Beam's resource hints."""


def start(root: Any) -> beam.PCollection:
    """Returns a PCollection of one start token: the root itself if it is a PCollection, else a new one."""
    return root if isinstance(root, beam.PCollection) else root | "Start" >> beam.Create([0])


class RunFn(PlainFn):
    """A DoFn of one run."""

    def __init__(self, root: str) -> None:
        """Takes the run directory."""
        self._root = root
        self._run: Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_run": None}

    def open(self) -> Run:
        """Returns the run. It is no property, because Beam reads all attributes of a DoFn when it builds a graph.

        The run may not exist then. While a job runs its recipe stays as it is, so each worker reads it once.
        """
        if self._run is None:
            self._run = open_run(self._root)
        return self._run

    def guarded(self, stage: str) -> AbstractContextManager[None]:
        """Returns the guard for code that may fail while it holds private content. The code must not `yield`."""
        return guarded(self._root, stage)


class RunTransform(beam.PTransform):
    """A transform of one run."""

    def __init__(self, run_dir: str) -> None:
        """Takes the run directory."""
        super().__init__()
        self._root = run_dir
