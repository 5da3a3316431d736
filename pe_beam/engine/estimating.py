"""What all steps of `privacy.measure` together say of single columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from pe_beam.contracts.generator import Marginals, Within
from pe_beam.engine.cells import columns_in_slices
from pe_beam.engine.measuring import answers, read_measured, steps_of
from pe_beam.engine.run import Run
from pe_beam.measuring.estimates import Sums, agreeing, estimate
from pe_beam.measuring.known import Answer
from pe_beam.measuring.slices import within


def read_estimated(run: Run) -> Marginals:
    """Returns what `privacy.measure` has released, with estimated counts of columns in place of counted ones.

    A column's counts are combined with the sums of pairs and cliques that have it, and levelled along its order
    (`measuring.estimates`). Choices of what to count are made by counts as they were released.
    """
    marginals, ordered = read_measured(run), run.embedder.marginal_ordered()
    alone: list[list[float]] = [[] for _ in ordered]
    sums: list[list[Sums]] = [[] for _ in ordered]
    for each in _answers(run):
        single = len(each.clique.columns) == 1
        if single and each.clique.by_label:
            alone[each.clique.columns[0]].append(each.sigma)
        elif single or run.recipe.vote_unit == "record":  # a client's counts are scaled anew in each step
            for axis, place in enumerate(each.clique.columns):
                sums[place].append(_sums(each, axis))
    counts = {
        name: estimate(own, _together(alone[place]), sums[place], ordered[name])
        for place, (name, own) in enumerate(marginals.counts.items())
    }
    told = run.recipe.privacy.measure
    if told is not None and told.one_way.overall:
        counts = {name: agreeing(own, marginals.totals()) for name, own in counts.items()}
    return dataclasses.replace(marginals, counts=counts, estimated=True, within=_within(run, counts))


def _within(run: Run, counts: Mapping[str, np.ndarray]) -> dict[str, Within]:
    """Returns where in their bins the records of columns lie, for those whose slices were counted."""
    found, names, columns = {}, list(counts), {each.place: each for each in columns_in_slices(run.embedder)}
    for each in (each for t, step in steps_of(run).items() if step.name == "slices" for each in answers(run, t)):
        own = columns.get(each.clique.columns[0])
        if own is not None:
            name = names[own.column]
            totals = counts[name].sum(axis=0)
            found[name] = Within(*within(own, each.clique.groups[0], each.counts[0], each.sigma, totals))
    return found


def _answers(run: Run) -> list[Answer]:
    """Returns the answers about bins, of all steps but halves, whose sums over all other columns are noise."""
    columns = len(run.embedder.marginal_sizes())
    steps = (t for t, step in steps_of(run).items() if step.name != "halves")
    return [each for t in steps for each in answers(run, t) if each.clique.columns[0] < columns]


def _sums(answer: Answer, axis: int) -> Sums:
    """Returns the counts of one of the columns of a clique: all others summed out."""
    others = tuple(other + 1 for other in range(len(answer.clique.columns)) if other != axis)
    cells = math.prod(answer.counts.shape[other] for other in others)
    return Sums(answer.clique.groups[axis], answer.counts.sum(axis=others), cells * answer.sigma**2)


def _together(sigmas: Sequence[float]) -> float:
    """Returns the standard deviation of a mean weighted by precision."""
    return 0.0 if not sigmas[0] else 1 / math.sqrt(math.fsum(1 / each**2 for each in sigmas))
