"""Settles columns of the last population: a few values of variations move, so that columns count as was measured.

Draws are balanced among candidates that are there, and variations have their own chance. What is left over by both is
settled in rows that are variations; rows that are kept stay what was voted on. All of it is post-processing of the
release (`evolution.draws: balanced` with `privacy.measure`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.engine import tables
from pe_beam.engine.balancing import balances
from pe_beam.engine.matrices import embed_rows
from pe_beam.engine.measurements import generator, read_marginals
from pe_beam.engine.run import Run
from pe_beam.keyed import keyed_rng
from pe_beam.measuring.shares import shares_of
from pe_beam.storage.json_file import parse_json

_SETTLED, _TOLD = "settled.parquet", "settled.json"
_CLEAR = 1.0  # standard deviations of the noise on a one-way count that an estimate is above, if rows move there
_FREE = 0.2  # of the rows at least are variations, whose values may move


def settles(run: Run, iteration: int) -> bool:
    """Returns whether columns of this population are settled."""
    return balances(run, iteration) and run.recipe.privacy.measure is not None and run.generator.settles


def freed(run: Run, iteration: int, kept: np.ndarray, rows: int) -> np.ndarray:
    """Returns the candidates that are kept, int64 (n,): fewer, drawn by the seed, where too few rows are variations."""
    most = int(rows * (1 - _FREE))
    if not settles(run, iteration) or len(kept) <= most:
        return kept
    found: np.ndarray = np.sort(keyed_rng(run.recipe.seed, iteration, -1, "freed").choice(kept, most, replace=False))
    return found


def commit_settled(run: Run, iteration: int, made: Callable[[], Iterable[pa.Table]]) -> None:
    """Commits variations whose values have moved, and how far columns were off before and after.

    Args:
      run: a run whose last population is made, but not committed.
      iteration: the last one.
      made: gives its rows in order, each time.
    """
    told, settled = run.layout.work(iteration, _TOLD), run.layout.work(iteration, _SETTLED)
    if run.store.exists(told) and run.store.exists(settled):
        return
    beyond = _beyond(run, made())
    before = _share_beyond(beyond)
    schema = tables.population_schema(run.modality.payload)
    rng, moved, rows = keyed_rng(run.recipe.seed, iteration, -1, "settle"), [schema.empty_table()], 0
    for table in made():
        rows += table.num_rows
        free = table.filter(pc.not_equal(table["origin"], "kept"))
        if free.num_rows:
            moved.append(_moved(free, generator(run).settled(free, beyond, rng), run.modality.payload.names))
    changed = pa.concat_tables(moved)
    run.store.commit(settled, tables.working_bytes(changed, schema, notice=run.recipe.notice))
    found = {"rows": changed.num_rows, "beyond": [round(x / max(rows, 1), 6) for x in (before, _share_beyond(beyond))]}
    run.store.commit(told, (json.dumps(found) + "\n").encode())


def _beyond(run: Run, made: Iterable[pa.Table]) -> dict[str, np.ndarray]:
    """Returns by how many rows counts are above what is wanted: column -> float64 (labels, bins).

    Of a bin whose estimate is within its noise none is wanted, but what is there may stay: noise that is left in the
    many bins of a long tail adds up.
    """
    marginals = read_marginals(run)
    found = {name: np.zeros(counts.shape) for name, counts in marginals.counts.items()}
    totals = np.zeros(len(marginals.labels))
    for table in made:
        codes = run.recipe.codes(table["label"].to_pylist())
        totals += np.bincount(codes, minlength=len(totals))
        for own, bins in zip(found.values(), run.embedder.marginal_bins(embed_rows(run, table)).T, strict=True):
            np.add.at(own, (codes, bins), 1)
    for name, counts in marginals.counts.items():
        for label, (own, records) in enumerate(zip(counts, marginals.totals().tolist(), strict=True)):
            off, clear = found[name][label] - shares_of(own, records) * totals[label], own > _CLEAR * marginals.sigma
            found[name][label] = np.where(clear, off, np.maximum(off, 0.0))
    return found


def _share_beyond(beyond: Mapping[str, np.ndarray]) -> float:
    """Returns by how many rows a column is off over all labels: half of the sum over bins, as a mean over columns."""
    return float(np.mean([np.abs(own.sum(axis=0)).sum() / 2 for own in beyond.values()]))


def _moved(before: pa.Table, made: pa.Table, payload: list[str]) -> pa.Table:
    """Returns the rows that have changed, with their new state and payload."""
    changed = np.zeros(before.num_rows, dtype=bool)
    for name in payload:
        differ = pc.not_equal(before[name], made[name]).fill_null(False).to_numpy(zero_copy_only=False)
        changed |= differ | (np.array(before[name].is_null()) != np.array(made[name].is_null()))
    for name in ("state", *payload):
        before = before.set_column(before.schema.get_field_index(name), before.schema.field(name), made[name])
    return before.filter(pa.array(changed))


def with_settled(run: Run, iteration: int, made: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yields the rows of the last population with those whose values have moved in their places."""
    return tables.replaced(tables.read_working(run.store, run.layout.work(iteration, _SETTLED)), made)


def settled_note(run: Run, iteration: int) -> dict[str, Any]:
    """Returns what the manifest says of it.

    `rows`: how many have changed. `beyond`: how far columns were from what was measured, before and after, as a share.
    """
    name = run.layout.work(iteration, _TOLD)
    return parse_json(run.store.read_committed(name), name, dict)
