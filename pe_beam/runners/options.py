"""Beam's options, with views that are made once."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from pe_beam.errors import InputError


class Options(PipelineOptions):
    """Beam's options. A view is made when it is first asked for, and kept.

    Beam asks for views some 150 times a graph, and makes each anew: an argument parser, and a reading of all flags.
    That was a third of the time of a small run. Views share one dictionary of values, so a kept one never grows old.
    """

    def view_as(self, cls: type[Any]) -> Any:
        """Returns the options of `cls`; see Beam's class."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the views out: a copy has values of its own, and makes views on them."""
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}


def demand_valid(options: Any, *, on_dataflow: bool = False) -> None:
    """Refuses what Beam refuses when it makes a pipeline, which is after a launch has spent. Raises InputError.

    What Beam asks of a job's environment and of Google's locations is left out: runners say it better, and without
    asking a bucket.
    """
    validator = PipelineOptionsValidator(options, None)
    kinds = [kind for kind in validator.OPTIONS if kind not in (GoogleCloudOptions, PortableOptions)]
    faults = [
        fault for kind in kinds if "validate" in vars(kind) for fault in options.view_as(kind).validate(validator)
    ]
    if on_dataflow:
        workers = options.view_as(WorkerOptions)
        faults += validator.validate_num_workers(workers) + validator.validate_worker_region_zone(workers)
    if faults:
        raise InputError(f"Beam flags (after --): {faults[0]}")


def runner_key(name: str) -> str:
    """Returns a runner's name as runners are registered.

    Beam takes `Flink` and `flink` for FlinkRunner, and its TestDataflowRunner runs on Dataflow.

    >>> runner_key("Flink"), runner_key("TestDataflowRunner"), runner_key("apache_beam.runners.direct.DirectRunner")
    ('flinkrunner', 'dataflowrunner', 'directrunner')
    """
    key = name.rpartition(".")[2].lower().removeprefix("test")
    return key if "." in name or key.endswith("runner") else f"{key}runner"
