"""Jobs that are left to themselves: written as a template, or submitted and not waited for.

A launcher of templates (a Flex Template of Dataflow, or `--template_location` by hand) runs a program only to get the
graph of one job. The program ends, and only then does the service run the job.
"""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.runners.dataflow.check import check_outside, check_run_dir, check_shown
from pe_beam.runners.dataflow.runner import check_files, check_key, job_options, target_of
from pe_beam.runners.options import Options, runner_key

FLAGS = ("--template_location", "--no_wait_until_finish")
"""Beam's flags for such jobs."""


def leaves(args: Sequence[str]) -> bool:
    """Returns whether Beam flags say that a job is left to itself."""
    return any(arg.partition("=")[0] in FLAGS for arg in args)


class LeavingRunner(Runner):
    """Hands a graph over by Beam's own runner, and returns without waiting for the job."""

    def check(self, store: Store, args: Sequence[str], *, client_ids: bool) -> None:
        """See Runner. Of Dataflow's flags it refuses what would show private things; launchers set the others."""
        if _is_dataflow(args):
            options = Options(list(args))
            check_run_dir(store.uri)
            target = target_of(store, options)
            check_outside(target)
            check_shown(target, client_ids=client_ids)
            check_key(options)
            check_files(options)

    def run(self, graph: Graph, args: Sequence[str]) -> None:
        """See Runner. Beam's runner in this process has run the graph when this returns."""
        options = job_options(args) if _is_dataflow(args) else Options(list(args))
        # Graphs name classes of the package: of the program's main module nothing may be staged.
        options.view_as(SetupOptions).save_main_session = False
        pipeline = beam.Pipeline(options=options)
        graph.build(pipeline)
        pipeline.run()


def _is_dataflow(args: Sequence[str]) -> bool:
    runner = str(Options(list(args)).view_as(StandardOptions).runner or "")
    return runner_key(runner) == "dataflowrunner"
