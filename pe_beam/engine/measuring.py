"""The steps of `privacy.measure`: what each counts, and what comes of the counts.

Steps are numbered as iterations from 1 - steps to 0, so that ledger, counts and noise treat them as what they are: one
query each, one after the other. What a step counts follows from the recipe and from released noisy counts of the steps
before it, never from a true count (rule 5). It is committed before it is counted, as JSON, and released beside the
counts: who reads a release can choose again and compare.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Joint, Marginals
from pe_beam.engine import tables
from pe_beam.engine.cells import CliqueCells, columns_in_slices
from pe_beam.engine.run import Run
from pe_beam.engine.spending import sigma_of
from pe_beam.errors import InputError
from pe_beam.measuring.cliques import Clique, norm_squared
from pe_beam.measuring.known import Answer, Interaction, Known, one_way
from pe_beam.measuring.slices import clique_of
from pe_beam.recipe.measured import PAIR_WEIGHT, Step, measured_steps
from pe_beam.storage.json_file import read_json

ASKED = "asked.json"
COUNTED = "counted.parquet"


def steps_of(run: Run) -> dict[int, Step]:
    """Returns iteration -> step, in order: 1 - steps to 0; empty without `privacy.measure`."""
    if run.recipe.privacy.measure is None:
        return {}
    found = measured_steps(run.recipe, len(run.embedder.marginal_sizes()))
    return dict(enumerate(found, start=1 - len(found)))


def is_counted(run: Run, iteration: int) -> bool:
    """Returns whether a step is done: its noisy counts are committed."""
    return run.store.exists(run.layout.work(iteration, COUNTED))


def released_name(run: Run, iteration: int, ending: str) -> str:
    """Returns the name of a step's file in the release, relative to the folder of iteration 0."""
    steps = steps_of(run)
    return f"measured/{iteration + len(steps)}-{steps[iteration].name}.{ending}"


def file_of(run: Run, iteration: int, name: str) -> str:
    """Returns where `ASKED` or `COUNTED` of a step is: in the release if `work/` has lost it."""
    own = run.layout.work(iteration, name)
    ending = name.rpartition(".")[2]
    return own if run.store.exists(own) else run.layout.public(0, released_name(run, iteration, ending))


def commit_asked(run: Run, iteration: int) -> None:
    """Commits what a step counts. A later attempt changes nothing."""
    name = run.layout.work(iteration, ASKED)
    if run.store.exists(name):
        return
    columns, places = (
        list(run.embedder.marginal_sizes()),
        {each.place: each for each in columns_in_slices(run.embedder)},
    )
    said: list[dict[str, Any]] = []
    for each in _chosen(run, iteration):
        own = places.get(each.columns[0])
        told = {"groups": [groups.tolist() for groups in each.groups]} if own is None else own.told(each)
        named = [columns[place if own is None else own.column] for place in each.columns]
        said.append({"columns": named, **told, "by_label": each.by_label, "weight": each.weight})
    run.store.commit(name, (json.dumps(said) + "\n").encode())


def _chosen(run: Run, iteration: int) -> list[Clique]:
    """Returns what a step counts, by the recipe and by the released counts of the steps before it."""
    told, step = run.recipe.privacy.measure, steps_of(run)[iteration]
    assert told is not None
    sizes = run.embedder.marginal_sizes()
    if step.name == "one_way":
        kinds = [True, False] if told.one_way.overall else [True]
        return [each for own in kinds for each in one_way(list(sizes.values()), [1] * len(sizes), by_label=own)]
    before, known = _before(run, iteration), _known(run, iteration)
    if step.name == "cliques":
        assert told.cliques is not None
        return [known.together(each, told.cliques.groups, by_label=told.cliques.by_label) for each in _declared(run)]
    if step.name == "halves":
        assert told.halves is not None
        return known.halves(told.halves.columns)
    sigma = sigma_of(run, iteration) * _scale(run, iteration)
    if step.name == "slices":
        return known.slices(columns_in_slices(run.embedder), sigma=sigma, bound=step.norm_squared)
    assert told.coarse is not None and told.tree is not None
    if step.name == "coarse":
        return known.all_pairs(told.coarse.groups)
    return known.tree(
        answers(run, before["coarse"]),
        sigma=sigma,
        bound=step.norm_squared,
        weight=PAIR_WEIGHT,
        most=told.tree.groups,
        by_label=told.tree.by_label,
        joined=_declared(run),
        more=interactions(run, before["halves"]) if "halves" in before else [],
    )


def _before(run: Run, iteration: int) -> dict[str, int]:
    """Returns the name of each step before one -> its iteration."""
    return {each.name: t for t, each in steps_of(run).items() if t < iteration}


def _known(run: Run, iteration: int) -> Known:
    """Returns what the steps before one have released, and declared facts."""
    marginals = read_measured(run, _before(run, iteration).values())
    ordered = [run.embedder.marginal_ordered()[column] for column in marginals.counts]
    return Known(list(marginals.counts.values()), marginals.totals(), ordered)


def _declared(run: Run) -> list[list[int]]:
    """Returns the positions of the columns of each declared clique."""
    told, names = run.recipe.privacy.measure, list(run.embedder.marginal_sizes())
    cliques = None if told is None else told.cliques
    return [] if cliques is None else [[names.index(name) for name in each] for each in cliques.columns]


def interactions(run: Run, iteration: int) -> list[Interaction]:
    """Returns the columns that go together by more than pairs, by the step `halves` at an iteration.

    They follow from that step and those before it, so that all who ask later are told the same.
    """
    return _known(run, iteration).interactions(answers(run, iteration), _declared(run))


def _scale(run: Run, iteration: int) -> float:
    """Returns how much smaller a client's counts are than in the first step, if it has one record; 1 for records."""
    if run.recipe.vote_unit == "record":
        return 1.0
    steps = steps_of(run)
    return math.sqrt(steps[iteration].norm_squared / steps[min(steps)].norm_squared)


def asked(run: Run, iteration: int) -> list[Clique]:
    """Returns what a step counts, as it is committed."""
    places = {name: place for place, name in enumerate(run.embedder.marginal_sizes())}
    in_slices = {each.column: each for each in columns_in_slices(run.embedder)}
    return [
        clique_of(in_slices[places[each["columns"][0]]], np.array(each["sliced"]), each["weight"])
        if "sliced" in each
        else Clique(
            tuple(places[name] for name in each["columns"]),
            tuple(np.array(own, dtype=np.int64) for own in each["groups"]),
            each["by_label"],
            each["weight"],
        )
        for each in read_json(run.store, file_of(run, iteration, ASKED), list)
    ]


def asked_digest(run: Run, iteration: int) -> str:
    """Returns SHA-256 (hex) of what a step counts. Counts of other cells are never added to its own."""
    return hashlib.sha256(run.store.read(file_of(run, iteration, ASKED))).hexdigest()


def cell_labels(run: Run, iteration: int) -> list[str | None]:
    """Returns the label of each cell of a step, in order; None: over all labels."""
    found: list[str | None] = []
    for each in asked(run, iteration):
        own = run.recipe.label_list if each.by_label else [None]
        found += [label for label in own for _ in range(each.cell_count(1))]
    return found


def counted_table(run: Run, iteration: int, noisy: np.ndarray) -> pa.Table:
    """Returns a step's noisy counts in records, by label, columns and groups. `noisy`: float64 (cells,), in votes."""
    names, found, start = list(run.embedder.marginal_sizes()), [], 0
    names += run.embedder.marginal_slices()
    for each in asked(run, iteration):
        labels = run.recipe.label_list if each.by_label else [None]
        count, size = each.cell_count(len(labels)), each.cell_count(1)
        groups = np.stack(np.unravel_index(np.arange(size), each.shape), axis=1).tolist()
        found.append(
            pa.table(
                [
                    pa.array([label for label in labels for _ in range(size)], pa.string()),
                    pa.array([[names[place] for place in each.columns]] * count, pa.list_(pa.string())),
                    pa.array(groups * len(labels), pa.list_(pa.int64())),
                    pa.array(noisy[start : start + count] / each.weight, pa.float64()),
                ],
                schema=tables.COUNTED,
            )
        )
        start += count
    return pa.concat_tables(found)


def answers(run: Run, iteration: int) -> list[Answer]:
    """Returns what a step has released, in records.

    A client's counts are divided by their norm, which is another one in each step. So counts of later steps are brought
    to the scale of the first: each table has as many records as one-way counts have, on average.
    """
    found, first = _released(run, iteration), min(steps_of(run))
    if run.recipe.vote_unit == "record" or iteration == first:
        return found
    wanted = float(read_measured(run, [first]).totals().sum())
    mean = float(np.mean([each.counts.sum() for each in found]))
    if wanted <= 0 or mean <= 0:  # noise is all there is
        return found
    scale = wanted / mean
    return [Answer(each.clique, each.counts * scale, each.sigma * scale) for each in found]


def _released(run: Run, iteration: int) -> list[Answer]:
    table = tables.read_bytes(run.store.read(file_of(run, iteration, COUNTED)))
    noisy, sigma = table["noisy_count"].to_numpy(), sigma_of(run, iteration)
    found, start = [], 0
    for each in asked(run, iteration):
        count = each.cell_count(run.recipe.label_count)
        counts = noisy[start : start + count].reshape(-1, *each.shape)
        found.append(Answer(each, counts, sigma / each.weight))
        start += count
    return found


def read_measured(run: Run, steps: Iterable[int] | None = None) -> Marginals:
    """Returns what some steps have released, or all of them.

    A column that was counted twice has the mean of both, weighted by precision. Coarse counts are for choices alone. Of
    the halves of all columns those interactions are taken that were found in them, unless they are counted again.
    """
    names = list(run.embedder.marginal_sizes())
    singles: dict[str, list[Answer]] = {name: [] for name in names}
    joints: dict[tuple[str, ...], Joint] = {}
    for iteration in steps_of(run) if steps is None else steps:
        name = steps_of(run)[iteration].name
        if name == "coarse":
            continue
        halves = name == "halves"
        found = [each.answer for each in interactions(run, iteration)] if halves else answers(run, iteration)
        for each in found:
            if each.clique.columns[0] >= len(names):  # slices say nothing of other bins
                continue
            columns = tuple(names[place] for place in each.clique.columns)
            if len(columns) > 1:
                joints[columns] = Joint(columns, each.clique.groups, each.counts, each.sigma)
            elif each.clique.by_label:  # those over all labels are for estimates
                singles[columns[0]].append(each)
    counts = {name: _mean(found) for name, found in singles.items()}
    return Marginals(run.recipe.label_list, counts, singles[names[0]][0].sigma, joints=list(joints.values()))


def _mean(found: Sequence[Answer]) -> np.ndarray:
    if len(found) == 1 or not found[0].sigma:
        return found[0].counts
    mean: np.ndarray = np.average(
        np.stack([each.counts for each in found]), axis=0, weights=[1 / each.sigma**2 for each in found]
    )
    return mean


class StepCells(CliqueCells):
    """The cells in which a record counts in a step, as `Ballots`."""

    def __init__(self, run: Run, iteration: int) -> None:
        """Takes a step whose cells are committed. Raises InputError if a record adds more to them than noise is for."""
        cliques, columns = asked(run, iteration), len(run.embedder.marginal_sizes())
        step = steps_of(run)[iteration]
        if norm_squared(cliques) > step.norm_squared:
            raise InputError(
                f"privacy.measure.{step.name}: a record would count oftener in what was chosen than noise is for; it "
                "is not counted"
            )
        super().__init__(
            run.embedder,
            cliques,
            run.recipe.label_count,
            digest=asked_digest(run, iteration),
            votes_per_record=step.norm_squared,
            sliced=any(each.columns[0] >= columns for each in cliques),
        )
