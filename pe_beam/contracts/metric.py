"""The contract of a modality's own metric for `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The input of a modality's own metrics: candidates and real records. All of it is private.

    Tables have the column `label` (string, null without labels) and then the modality's payload columns. Each table has
    all rows, or a bounded subsample (`pe_beam.subsamples`) that is the same on every machine.

    Attributes:
      iteration: the population that is measured, 0 to iterations; None: real training records take the place of the
        samples, which gives the ceiling that samples can reach. Iteration 0 gives the floor.
      samples: the population, or these training records.
      held_out: real records that no iteration has seen, at least 2.
      training: real records that voted, at least 1; None if they no longer exist (purged, moved), and for the ceiling.
      labels: the declared labels; None without labels.
      recipe: the resolved recipe as plain data, with schema, bounds and options.
      seed: the seed of a metric's random draws; the same for all populations of a run.
      sample_count: number of rows of the last population, at most `metric_rows`. A metric whose figure depends on the
        number of rows uses no more rows for the ceiling. None: not known.
      options: the values of `evaluate --set NAME=VALUE`, with names from `Modality.metric_options`.
      sample_vectors, held_out_vectors: float32 (n, d), the recipe's embeddings of the rows of `samples` and `held_out`;
        None: not available.
    """

    iteration: int | None
    samples: pa.Table
    held_out: pa.Table
    training: pa.Table | None
    labels: Sequence[str] | None
    recipe: Mapping[str, Any]
    seed: int
    sample_count: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    sample_vectors: np.ndarray | None = None
    held_out_vectors: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Curves for one chart of `private/evaluation/evaluation.html`, drawn for the last population.

    Attributes:
      title: title of the chart, with the unit.
      x: positions along the x axis: numbers (a line) or names (bars), the same for all curves.
      y: curve ("samples", "held-out", ...) -> one finite number for each x.
      x_title: title of the x axis.
      y_title: title of the y axis.
    """

    title: str
    x: Sequence[float] | Sequence[str]
    y: Mapping[str, Sequence[float]]
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of a metric.

    Attributes:
      figures: name ("mauve", "tvd_1way": lower case, digits, underscores) -> a finite number. A name belongs to one
        metric only. A figure that cannot be computed for a population is left out there, and `notes` say why.
      series: charts.
      notes: what a reader has to know, such as a limit. They are shown under the figures.
    """

    figures: Mapping[str, float]
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()


Metric = Callable[[Comparison], Measured]
"""A modality's own metric, called once for each population that is evaluated and once for the ceiling.

It may run on any worker, more than once, and in any order. It draws only from `Comparison.seed`, writes nothing and
logs nothing. If it raises MissingExtraError, it is left out and the evaluation says so. Other errors stop the
evaluation.
"""


def only_with(option: str) -> Callable[[Metric], Metric]:
    """Decorates a metric that measures nothing unless `Comparison.options` has this option: it is not called then."""

    def mark(metric: Metric) -> Metric:
        metric.only_with = option  # type: ignore[attr-defined]  # as `modality` and `options` are attributes
        return metric

    return mark
