"""Evolution: all remaining iterations in one graph (for services that start slowly, and small T)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from pe_beam.engine.graphs import iteration
from pe_beam.engine.graphs.base import Hints, start


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the unrolled graph. Everything else is in the run directory.

    Attributes:
      run_dir: run directory with frozen embeddings, and a ledger line for every iteration that spends.
      first: the first iteration to make, up to last; below 0 initial measurements before that of iteration 0.
      last: the last iteration, T.
      unit: the privacy unit, record or client.
      label_shares: whether iteration 0 makes an initial measurement.
      hints: resource hints by stage.
    """

    run_dir: str
    first: int
    last: int
    unit: str
    label_shares: bool = False
    hints: Hints = field(default_factory=dict)


def build(root: Any, config: Config) -> beam.PCollection:
    """Builds the graph of iterations `first` to `last`, for any runner. It gives the name of the last manifest.

    Each iteration starts when the previous one is committed.
    """
    token = start(root)  # one element, which exists when all earlier iterations are done
    for t in range(config.first, config.last + 1):
        of = iteration.Config(
            run_dir=config.run_dir,
            iteration=t,
            unit=config.unit,
            label_shares=config.label_shares,
            hints=config.hints,
        )
        token = token | f"Iteration {t:02d}" >> iteration.Iteration(of)
    return token
