"""Metrics of event sequences: total variation distances of transitions, lengths, gaps and kinds. All are private."""

from __future__ import annotations

import numpy as np

from pe_beam.contracts.metric import Comparison, Measured, Series
from pe_beam.modalities.likened import likened
from pe_beam.modalities.sequence.events import Sequences, read_payload
from pe_beam.modalities.sequence.schema import SequenceSchema, as_schema


def sequence_distances(comparison: Comparison) -> Measured:
    """Returns total variation distances between samples and held-out sequences, 0 (equal) to 1.

    `tvd_transition` is of all pairs of consecutive events. `tvd_transition_shuffled` is that of the held-out sequences
    with the events of each in random order: what content without order comes to. `tvd_run` is of three events in a row,
    `tvd_gap` of gaps by the kind of the later event, and `tvd_attributes` the mean over attributes by kind of event.
    """
    schema = as_schema(comparison.recipe["data"]["schema"])
    made, real = (read_payload(table, schema) for table in (likened(comparison).samples, comparison.held_out))
    shuffled = shuffle(real, np.random.default_rng([comparison.seed, 7]))
    both = shares_of(made, schema), shares_of(real, schema)
    found = {name: tvd(both[0][name], both[1][name]) for name in both[0]}
    figures = {f"tvd_{name}": value for name, value in found.items() if name not in schema.attributes}
    if schema.attributes:
        figures["tvd_attributes"] = float(np.mean([found[name] for name in schema.attributes]))
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
    made["run"] = _normed(np.bincount(cells[whole], minlength=kinds**3))
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


METRICS = (sequence_distances,)
