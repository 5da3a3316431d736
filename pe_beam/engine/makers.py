"""Describes each of several generators for the manifest, by post-processing of released populations and votes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.makers import without_maker
from pe_beam.engine.populations import read_histogram, read_population
from pe_beam.engine.run import Run


def with_counts(run: Run, iteration: int, states: pa.ChunkedArray, made: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to a summary by maker how many candidates each maker has, and the noisy votes of its earlier candidates.

    Args:
      run: a run whose recipe has several generators.
      iteration: 0 or more.
      states: of all candidates of population t.
      made: the summary of new candidates (`Mixed.summary`).

    Returns:
      The summary. Each maker also has `candidates` (in population t, kept ones included) and, from iteration 1 on,
      `noisy_votes`: the sum of the noisy votes on its candidates of population t-1.
    """
    counts = Counter(_makers(states))
    told: dict[str, Any] = {name: {"candidates": counts[name], **own} for name, own in made["makers"].items()}
    if iteration:
        before = np.array(_makers(read_population(run, iteration - 1, ["state"])["state"]), dtype=object)
        noisy = read_histogram(run, iteration)["noisy_votes"].to_numpy()
        for name, own in told.items():
            own["noisy_votes"] = math.fsum(noisy[before == name].tolist())  # exact, so the same on any machine
    return {**made, "makers": told}


def _makers(states: pa.ChunkedArray) -> list[str]:
    return [without_maker(state)[0] for state in states.to_pylist()]
