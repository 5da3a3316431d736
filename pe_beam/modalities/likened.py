"""Cuts what is measured in the samples' place to as many records as there are samples."""

from __future__ import annotations

from dataclasses import replace

from pe_beam.contracts.metric import Comparison
from pe_beam.subsamples import chosen_rows


def likened(comparison: Comparison) -> Comparison:
    """Returns the comparison of a ceiling with no more training records than there are samples; others as they are.

    A distance falls with the number of records that are compared, so more of them would be no ceiling for samples. What
    learns from records takes all.
    """
    rows = chosen_rows(comparison.samples.num_rows, comparison.sample_count or comparison.samples.num_rows, "ceiling")
    if comparison.iteration is not None or len(rows) == comparison.samples.num_rows:
        return comparison
    vectors = comparison.sample_vectors
    return replace(
        comparison,
        samples=comparison.samples.take(rows),
        sample_vectors=None if vectors is None else vectors[rows],
    )
