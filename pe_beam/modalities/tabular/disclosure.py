"""Metrics of what samples may give away: rows that repeat, copies of training rows, inferred attributes. Private."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pe_beam.contracts.metric import Comparison, Measured
from pe_beam.modalities.likened import likened
from pe_beam.modalities.tabular.columns import Column
from pe_beam.modalities.tabular.comparing import binned, coded, some

ATTACKED_ROWS, KNOWN_ROWS, TARGETS = 1000, 5000, 10
SIGNS = 64
"""Number of coordinates of a column of more choices than that."""


def repetitions(comparison: Comparison) -> Measured:
    """Returns shares of distinct rows, and of rows that are equal to a training row, label included.

    How many rows are distinct depends on how many there are, so the shares of distinct rows are of the same number of
    samples, held-out records and training records. Held-out records cannot be copies: their share of rows that are
    equal to a training row is what chance gives.
    """
    real = [comparison.held_out, *([comparison.training] if comparison.training is not None else [])]
    _, codes = coded(comparison, [likened(comparison).samples, *real])
    codes = [np.where(np.isnan(each), -np.inf, each) for each in codes]  # a missing value is equal to another
    rng = np.random.default_rng([comparison.seed, 3])
    least = min(len(each) for each in codes)
    names = ("distinct_share", "distinct_held_out_share", "distinct_training_share")
    figures = {
        name: len(np.unique(some(each, least, rng), axis=0)) / least for name, each in zip(names, codes, strict=False)
    }
    if comparison.training is not None:
        made, held_out, training = codes
        figures["copied_share"] = _copied(made, training)
        figures["copied_held_out_share"] = _copied(held_out, training)
    return Measured(figures=figures)


def _copied(rows: np.ndarray, training: np.ndarray) -> float:
    """Returns the share of rows that are equal to a training row."""
    _, number = np.unique(np.concatenate([training, rows]), axis=0, return_inverse=True)
    number = number.reshape(-1)
    return float(np.isin(number[len(training) :], number[: len(training)]).mean())


def attribute_inference(comparison: Comparison) -> Measured:
    """Returns how often one column of a record is inferred from its other columns and the samples.

    The attacker takes the value of the sample that is nearest in the other columns; an inferred number is right if it
    is in the same bin. Samples know nothing of a held-out record, so that its share is the floor: what columns say of
    each other. The figures are means over columns (`TARGETS` random ones at most).
    """
    if comparison.training is None:
        return Measured(figures={})
    tables = [comparison.samples, comparison.training, comparison.held_out]
    columns, _ = coded(comparison, tables)
    if len(columns) < 2:
        return Measured(figures={}, notes=["attribute inference: the table has one column"])
    rng = np.random.default_rng([comparison.seed, 4])
    count = min(ATTACKED_ROWS, comparison.training.num_rows, comparison.held_out.num_rows)
    tables = [_drawn(table, most, rng) for table, most in zip(tables, (KNOWN_ROWS, count, count), strict=True)]
    _, bins, sizes = binned(comparison, tables)
    _, codes = coded(comparison, tables)
    parts = [_places(own, each, columns, sizes) for own, each in zip(bins, codes, strict=True)]
    targets = np.sort(rng.permutation(len(columns))[:TARGETS]).tolist()
    training, held_out = (
        [(bins[0][at, target] == own[:, target]).mean() for target, at in _nearest(parts[0], each, targets)]
        for each, own in zip(parts[1:], bins[1:], strict=True)
    )
    return Measured(
        figures={
            "inferred_training_share": float(np.mean(training)),
            "inferred_held_out_share": float(np.mean(held_out)),
        },
        notes=[f"inferred shares: of {count} records each, and of {len(targets)} columns"],
    )


def _nearest(
    known: Sequence[np.ndarray], attacked: Sequence[np.ndarray], targets: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each target, and for every attacked row the known row that is nearest in all columns but the target."""
    whole = _squared(np.hstack(attacked), np.hstack(known))
    for target in targets:
        others = whole - _squared(attacked[target], known[target])
        yield target, others.round(9).argmin(axis=1)  # equals are equal, so that the first counts on every machine


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T)


def _drawn(table: pa.Table, most: int, rng: np.random.Generator) -> pa.Table:
    return table.take(pa.array(some(np.arange(len(table)), most, rng)))


def _places(
    bins: np.ndarray, codes: np.ndarray, columns: Sequence[Column | None], sizes: Sequence[int]
) -> list[np.ndarray]:
    """Returns each column's coordinates, float64 (n, k). Two choices are at distance 1, and so are two declared bounds.

    Choices of a column of many have random signs, at distance 1 on average, instead of a coordinate each. A missing
    value is a choice of its own, or has a coordinate of its own, in the middle of the bounds.
    """
    found = []
    for i, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        if column is not None and column.moves:
            missing = np.isnan(codes[:, i])
            scaled = column.scaled(codes[:, i])
            own = np.column_stack([np.where(missing, 0.5, scaled), missing])
        elif size <= SIGNS:
            own = np.eye(size)[bins[:, i]] / np.sqrt(2)
        else:
            own = np.random.default_rng(i).choice([-1.0, 1.0], (size, SIGNS))[bins[:, i]] / np.sqrt(2 * SIGNS)
        found.append(own)
    return found
