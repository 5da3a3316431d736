"""A modality's own metric for `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a modality's own metrics may look at: candidates beside real records. All of it is private.

    Tables have the column `label` (string, null without labels) and then the modality's payload columns. Each is the
    whole of what there is, or a bounded subsample (`pe_beam.evaluation.sampling`) that is the same on every machine.

    Attributes:
      iteration: the population that is measured, 0 to iterations; None: real training records stand in for the
        samples, which gives the ceiling that samples can reach. Iteration 0 gives the floor.
      samples: the population, or those training records.
      held_out: real records that no iteration has seen, at least 2.
      training: real records that voted, at least 1; None where they are gone (purged, moved), and for the ceiling.
      labels: the declared labels; None without labels.
      recipe: the resolved recipe as plain data: schema, bounds and options are there.
      seed: for what a metric draws; the same for all populations of a run.
      sample_count: rows of the last population, as far as `metric_rows` goes: a metric whose figure depends on how
        much it learns from takes no more of the ceiling's. None: not known.
      options: what `evaluate --set NAME=VALUE` said; names are of `Modality.metric_options`.
      sample_vectors, held_out_vectors: float32 (n, d), the recipe's embeddings of the rows of `samples` and `held_out`;
        None: not at hand.
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
      title: what is shown, with its unit.
      x: positions along the x axis: numbers (a line) or names (bars), the same for all curves.
      y: curve ("samples", "held-out", ...) -> one finite number for each x.
      x_title: what x is.
      y_title: what y is.
    """

    title: str
    x: Sequence[float] | Sequence[str]
    y: Mapping[str, Sequence[float]]
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a metric has found.

    Attributes:
      figures: name ("mauve", "tvd_1way": lower case, digits, underscores) -> a finite number. A name is of one metric
        only; a figure that cannot be had for a population is left away there, and `notes` say why.
      series: charts.
      notes: what a reader has to know, such as a cap; shown under the figures.
    """

    figures: Mapping[str, float]
    series: Sequence[Series] = ()
    notes: Sequence[str] = ()


Metric = Callable[[Comparison], Measured]
"""A modality's own metric, called once for each population that is evaluated and once for the ceiling.

It may run on any worker, twice, in any order; it draws only from `Comparison.seed`, writes nothing and logs nothing.
MissingExtraError leaves the metric out, and the evaluation says so; any other error stops the evaluation.
"""
