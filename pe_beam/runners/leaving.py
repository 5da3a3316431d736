"""Jobs that are left to themselves: written as a template, or submitted and not waited for.

A launcher of templates (a Flex Template of Dataflow, or `--template_location` by hand) runs a program only to get the
graph of one job. The program ends, and only then does the service run the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions

from pe_beam.contracts.runner import Graph, Runner
from pe_beam.contracts.store import Store
from pe_beam.runners.dataflow.check import check_outside, check_package, check_seen, check_shown
from pe_beam.runners.dataflow.runner import check_files, check_key, job_options, target_of
from pe_beam.runners.options import Options, demand_valid, runner_key
from pe_beam.storage import open_store

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
            check_seen("--run-dir", store.uri)
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


def copying_options(args: Sequence[str], to: str) -> Any:
    """Returns Beam's options of a job without an end that copies private elements to a folder.

    Raises:
      InputError: on Dataflow, what would show the elements, or lose them in a folder of a worker's own.
    """
    options = Options(list(args))
    on_dataflow = _is_dataflow(args)
    if on_dataflow:
        check_seen("--to", to)
        target = target_of(open_store(to), options)
        check_shown(target, client_ids=False)
        if "--template_location" not in {arg.partition("=")[0] for arg in args}:
            check_package(target)
        check_files(options)
        options = job_options(args)
    demand_valid(options, on_dataflow=on_dataflow)
    options.view_as(SetupOptions).save_main_session = False
    options.view_as(StandardOptions).streaming = True
    return options


def _is_dataflow(args: Sequence[str]) -> bool:
    runner = str(Options(list(args)).view_as(StandardOptions).runner or "")
    return runner_key(runner) == "dataflowrunner"
