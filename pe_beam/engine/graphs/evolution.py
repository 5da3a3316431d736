"""Evolution: all iterations that are still to be made, in one graph (for services that start slowly, and small T)."""

from __future__ import annotations

import apache_beam as beam

from pe_beam.engine.graphs.iteration import Hints, Iteration, LabelShares, RandomPopulation


class Evolution(beam.PTransform):
    """Start token -> name of the last manifest; each iteration begins when the one before is committed.

    Args:
      run_dir: with frozen embeddings, and a ledger line for every iteration that spends.
      first: the first iteration to be made, 0 to last.
      last: T.
      unit: record or client.
      label_shares: whether iteration 0 buys label shares.
      hints: resource hints by stage.
    """

    def __init__(
        self, run_dir: str, *, first: int, last: int, unit: str, label_shares: bool, hints: Hints | None = None
    ) -> None:
        super().__init__()
        self._root = run_dir
        self._span = range(first, last + 1)
        self._unit = unit
        self._label_shares = label_shares
        self._hints = hints

    def expand(self, start: beam.PCollection) -> beam.PCollection:  # noqa: D102
        token = start  # one element: what is done so far
        for iteration in self._span:
            if iteration == 0:
                if self._label_shares:
                    token = token | "LabelShares" >> LabelShares(self._root, unit=self._unit)
                token = token | "Iteration 00" >> RandomPopulation(self._root, hints=self._hints)
            else:
                label = f"Iteration {iteration:02d}"
                token = token | label >> Iteration(self._root, iteration, unit=self._unit, hints=self._hints)
        return token
