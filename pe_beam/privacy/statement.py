"""What is promised, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pe_beam.errors import InputError
from pe_beam.privacy.accounting import spent_epsilon

_RELATION = {
    "add-or-remove-one": "one {unit} more or fewer",
    "replace-one": "one {unit} exchanged for another",
}


def compose_runs(runs: Sequence[tuple[str, str, float, Sequence[float]]]) -> tuple[float, float]:
    """Epsilon and delta of several runs on the same data: Gaussians add up, at the largest delta.

    Args:
      runs: (unit, adjacency, delta, noise multipliers spent) of each.

    Raises:
      InputError: runs of different unit or adjacency, which cannot be added.
    """
    for position, name in ((0, "unit"), (1, "adjacency")):
        values = sorted({str(run[position]) for run in runs})
        if len(values) > 1:
            raise InputError(f"privacy: runs of different {name} cannot be added up ({', '.join(values)})")
    delta = max(run[2] for run in runs)
    return spent_epsilon([value for run in runs for value in run[3]], delta), delta


def statement(*, epsilon: float, delta: float, adjacency: str, unit: str, iterations: int) -> str:
    """The privacy statement of a release as one paragraph."""
    if epsilon == math.inf:
        return (
            "NOT PRIVATE. No noise was added (epsilon = inf): the samples may reveal any private record and "
            "must be treated as the private data themselves."
        )
    relation = _RELATION[adjacency].format(unit=unit)
    return (
        f"The release is ({epsilon:.6g}, {delta:g})-differentially private for {relation} in the private data "
        f"({adjacency}, unit: {unit}), over all of its {iterations} noisy histograms together. The noise is "
        "Gaussian, exactly rounded, from a keyed cryptographic stream: the guarantee is computational, and it "
        "covers one release per secret. Runs on the same data add up, and publishing the best of several spends "
        "them all. What the generator or the embedder was trained on is not covered, nor are recipe, labels and "
        "delta, which are declared in public."
    )
