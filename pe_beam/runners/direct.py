"""Runners that need only Beam: in this process, or with a service that Beam supports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PrismRunnerOptions

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError
from pe_beam.runners.options import Options
from pe_beam.runners.staging import let_go


class PlainRunner(Runner):
    """Runs graphs with Beam alone."""

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:
        """See Runner."""
        place = Options(list(args)).view_as(PrismRunnerOptions).prism_location or ""
        if place and "://" not in place and not Path(place).is_file():
            raise InputError(f"--prism_location={place}: there is no such file")

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner."""
        try:
            with beam.Pipeline(options=Options(list(args))) as pipeline:
                graph.build(pipeline)
        except (RuntimeError, ValueError) as error:
            if re.match("Unable to (fetch remote|parse|install a local of) prism", str(error), re.IGNORECASE):
                raise InputError(
                    "--prism_location: Beam cannot fetch Prism's program; docs/runners.md says how to get it"
                ) from None
            raise
        let_go(pipeline.result)


class DirectRunner(PlainRunner):
    """The runners FnApiRunner and DirectRunner: workers are threads of this process."""

    parallelism_flag = "--direct_num_workers"
    on_this_machine = True

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:
        """See Runner."""
        workers = Options(list(args)).view_as(DirectOptions).direct_num_workers
        if workers < 0:
            raise InputError(f"--direct_num_workers={workers}: at least 1 is wanted, or 0, as many as there are cores")

    @classmethod
    def parallelism(cls, workers: int) -> list[str]:
        """See Runner."""
        return [*super().parallelism(workers), "--direct_running_mode=multi_threading"]
