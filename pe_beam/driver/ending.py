"""The end of a run as a step of its last job, for jobs that no driver waits for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pe_beam.driver.finalize import finalize, is_complete, restore
from pe_beam.engine.graphs.base import RunFn, RunTransform, start
from pe_beam.transforms.spread import Spread


class _FinishFn(RunFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("Finish"):
            run = self.open()
            if is_complete(run):
                restore(run)
            else:
                finalize(run)
        yield f"{run.layout.release}/privacy.json"


class _ConfirmFn(RunFn):
    def process(self, _: Any) -> Iterator[str]:
        with self.guarded("Confirm"):
            self.open()
        yield "recipe.yaml"


class Finish(RunTransform):
    """The name of the last manifest -> the name of privacy.json, after the release is complete and the secret is gone.

    The shuffle before it is a barrier: no step that needs the secret is tried again after it.
    """

    def expand(self, manifests: beam.PCollection) -> beam.PCollection:  # noqa: D102
        return manifests | "AfterAll" >> Spread() | "Finish" >> beam.ParDo(_FinishFn(self._root)).with_output_types(str)


def build_confirmation(root: Any, run_dir: str) -> beam.PCollection:
    """Builds the graph of a job that has nothing to make: a launcher has to give its service a job in any case."""
    return start(root) | "Confirm" >> beam.ParDo(_ConfirmFn(run_dir)).with_output_types(str)
