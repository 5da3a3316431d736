"""Runners that need only Beam: in this process, or with a service that Beam supports."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.runners.options import Options
from pe_beam.runners.staging import let_go


class PlainRunner(Runner):
    """Runs graphs with Beam alone, without checks."""

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        with beam.Pipeline(options=Options(list(args))) as pipeline:
            graph.build(pipeline)
        let_go(pipeline.result)


class DirectRunner(PlainRunner):
    """The runners FnApiRunner and DirectRunner: workers are threads of this process."""

    parallelism_flag = "--direct_num_workers"
    on_this_machine = True

    @classmethod
    def parallelism(cls, workers: int) -> list[str]:
        """See Runner."""
        return [*super().parallelism(workers), "--direct_running_mode=multi_threading"]
