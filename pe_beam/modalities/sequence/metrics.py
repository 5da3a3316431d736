"""Metrics of event sequences: total variation distances of transitions, lengths, gaps and kinds. All are private."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.modalities.sequence.events import Sequences, read_payload
from pe_beam.modalities.sequence.schema import GAP, SequenceSchema, as_schema

_RUN = 3
"""Events of a run, the longest of which shares are compared."""


def sequence_distances(comparison: Comparison) -> Measured:
    """Returns total variation distances between samples and held-out sequences, 0 (equal) to 1.

    `tvd_transition` is of all pairs of consecutive events. `tvd_transition_shuffled` is that of the held-out sequences
    with the events of each in random order: what content without order comes to.
    """
    schema = as_schema(comparison.recipe["data"]["schema"])
    made, real = (read_payload(table, schema) for table in (comparison.samples, comparison.held_out))
    shuffled = shuffle(real, np.random.default_rng([comparison.seed, 7]))
    figures = {f"tvd_{name}": tvd(a, b) for name, a, b in _both(shares_of(made, schema), shares_of(real, schema))}
    figures["tvd_transition_shuffled"] = tvd(transitions(shuffled, schema), transitions(real, schema))
    lengths = [np.bincount(each.lengths, minlength=schema.most + 1)[1:] for each in (made, real)]
    chart = Series(
        title="Share of sequences by length",
        x=[float(length) for length in range(1, schema.most + 1)],
        y={
            name: (counts / max(counts.sum(), 1)).tolist()
            for name, counts in zip(("samples", "held-out"), lengths, strict=True)
        },
        x_title="events",
        y_title="share",
    )
    return Measured(figures=figures, series=[chart])


def shares_of(found: Sequences, schema: SequenceSchema) -> dict[str, np.ndarray]:
    """Returns what is compared -> shares: kinds, transitions, runs of three, lengths, gaps, attributes by kind."""
    kinds, owners = len(schema.kinds), found.owners
    made = {"kind": _normed(np.bincount(found.kinds, minlength=kinds)), "transition": transitions(found, schema)}
    whole = owners[2:] == owners[:-2]
    cells = (found.kinds[:-2] * kinds + found.kinds[1:-1]) * kinds + found.kinds[2:]
    made["run"] = _normed(np.bincount(cells[whole], minlength=kinds**_RUN))
    made["length"] = _normed(np.bincount(found.lengths, minlength=schema.most + 1))
    for name, bins in found.bins(schema).items():
        size = schema.attribute_bins()[name]
        there = bins >= 0
        made[name] = _normed(np.bincount(found.kinds[there] * size + bins[there], minlength=kinds * size))
    return made


def transitions(found: Sequences, schema: SequenceSchema) -> np.ndarray:
    """Returns the shares of pairs of consecutive events, float64 (kinds^2,)."""
    kinds, owners = len(schema.kinds), found.owners
    same = owners[1:] == owners[:-1]
    cells = found.kinds[:-1] * kinds + found.kinds[1:]
    return _normed(np.bincount(cells[same], minlength=kinds**2))


def shuffle(found: Sequences, rng: np.random.Generator) -> Sequences:
    """Returns the same sequences with the kinds of each in random order."""
    order = np.lexsort((rng.random(len(found.kinds)), found.owners))
    return Sequences(found.lengths, found.kinds[order], found.gaps, found.codes)


def tvd(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the total variation distance of two distributions, 0 to 1; 1 if one of them has nothing."""
    if not a.sum() or not b.sum():
        return float(bool(a.sum()) != bool(b.sum()))
    return 0.5 * float(np.abs(a - b).sum())


def _normed(counts: np.ndarray) -> np.ndarray:
    found: np.ndarray = counts / max(counts.sum(), 1)
    return found


def _both(made: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Returns names with both sides; attributes are one figure by their mean, under names that figures may have."""
    own = ("kind", "transition", "run", "length", GAP)
    return [(name, made[name], real[name]) for name in own]


METRICS = (sequence_distances,)
