"""Beam's options, with views that are made once."""

from __future__ import annotations

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


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


def runner_key(name: str) -> str:
    """Returns a runner's name as runners are registered.

    Beam takes `Flink` and `flink` for FlinkRunner, and its TestDataflowRunner runs on Dataflow.

    >>> runner_key("Flink"), runner_key("TestDataflowRunner"), runner_key("apache_beam.runners.direct.DirectRunner")
    ('flinkrunner', 'dataflowrunner', 'directrunner')
    """
    key = name.rpartition(".")[2].lower().removeprefix("test")
    return key if "." in name or key.endswith("runner") else f"{key}runner"
