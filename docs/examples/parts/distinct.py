"""A metric of one's own, for any kind of record: the share of samples that are no other sample again."""

from __future__ import annotations

from pe_beam.contracts.metric import Comparison, Measured


def distinct(comparison: Comparison) -> Measured:
    """How many different records there are among the samples, by their content, over their number."""
    content = comparison.samples.drop_columns(["label"])
    different = {repr(row) for row in content.to_pylist()}
    return Measured(figures={"distinct_share": len(different) / len(content)})
