"""Takes the first population from an earlier release (`evolution.start`): checks it, keeps it, and deals it out.

The driver checks the whole release and commits its last population in `work/`, before data are read and budget is
spent. From then on the run needs its own directory alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.contracts.filter import without_filters
from pe_beam.contracts.generator import PaidGenerator
from pe_beam.contracts.makers import with_states, without_maker
from pe_beam.contracts.steps import SELECTION
from pe_beam.engine import tables
from pe_beam.engine.manifests import read_manifest
from pe_beam.engine.populations import step_at
from pe_beam.engine.run import Run
from pe_beam.errors import PeBeamError, RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.filtered import unfiltered
from pe_beam.recipe.mixed import Mixed
from pe_beam.recipe.sections.start import Start
from pe_beam.recipe.start import KEY, find_start, named
from pe_beam.releases.reading import open_release
from pe_beam.voting.nearest import normalise_rows


def taken_name(run: Run) -> str:
    """Returns the file of the release's population, as it was checked, with the states that the run may use.

    The name has the id of the run. What another run has left in the directory is not taken for it.
    """
    return f"work/start/{run.run_id}.parquet"


def bring_start(run: Run) -> int | None:
    """Checks the release that a run starts from, and commits its last population in the run directory.

    Returns:
      The number of its candidates, or None if there is nothing to do: the run starts at random, or has them already.

    Raises:
      RecipeError: the release is not the one that the recipe found, a file of it is missing or damaged, or this run
        cannot use one of its candidates. The message names the key and what is allowed.
    """
    start = run.recipe.evolution.start
    if start is None or read_manifest(run, 0) is not None or run.store.exists(taken_name(run)):
        return None
    with named(start):
        release = open_release(start.release)
        manifest, table = release.manifest(release.iteration), release.population(release.iteration)
    if find_start(run.recipe) != start.found:  # after it was read: somebody else may write there
        raise RecipeError(
            f"{KEY} {start.release}: not the release that this recipe was read with; put that one back, or read the "
            "recipe again for a run of its own"
        )
    table = _checked(run, start, manifest["candidates"], table)
    schema = tables.population_schema(run.modality.payload)
    run.store.commit(taken_name(run), tables.working_bytes(table, schema, notice=run.recipe.notice))
    return int(table.num_rows)


def _checked(run: Run, start: Start, counts: Mapping[str, int], table: pa.Table) -> pa.Table:
    """Returns the population of a release as this run can use it. Raises RecipeError for the first fault."""
    schema = tables.population_schema(run.modality.payload)
    if [(field.name, field.type) for field in table.schema] != [(field.name, field.type) for field in schema]:
        raise _refused(start, f"its columns are {_columns(table.schema)}; wanted: {_columns(schema)}")
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        raise _refused(start, "a text of its population is not UTF-8") from None
    ids = table["candidate_id"]
    if ids.null_count or len(ids.unique()) != len(ids):
        raise _refused(start, "candidate_id: null, or twice; one of its own for each candidate is wanted")
    labels = table["label"].to_pylist()
    _check_labels(run, start, counts, labels)
    _check_content(run, start, table)
    kept = _keeps_states(start)  # what the release's filters rejected is no matter of this run's
    states = [without_filters(state) if kept else None for state in table["state"].to_pylist()]
    _check_states(run, start, states)
    table = with_states(table, states)
    _check_vectors(run, start, table)
    _check_variations(run, start, table)
    return table


def _keeps_states(start: Start) -> bool:
    """Returns whether a run may use what the release's generator remembers of its candidates."""
    return start.found is not None and start.found.states == "kept"


def _refused(start: Start, said: str) -> RecipeError:
    return RecipeError(f"{KEY} {start.release}: {said}")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _check_labels(run: Run, start: Start, counts: Mapping[str, int], labels: Sequence[str | None]) -> None:
    """Checks that labels are declared, and that there are as many of each as the manifest says."""
    declared = run.recipe.label_codes
    for label in dict.fromkeys(labels):
        if label not in declared:
            allowed = "none, for data.labels is null" if declared == {None: 0} else "those of data.labels"
            raise _refused(start, f"label: {label!r} of a candidate is not allowed here; allowed: {allowed}")
    found = {label: labels.count(label) for label in declared}
    if {label: count for label, count in counts.items() if count} != {
        label or "": count for label, count in found.items() if count
    }:
        raise _refused(start, "its manifest counts other candidates than its population has; restore it")


def _check_content(run: Run, start: Start, table: pa.Table) -> None:
    """Checks the payload as that of a private record is checked: no nulls, and within what data.schema declares."""
    _, faults = run.modality.reader().convert(table.select(run.modality.payload.names))
    for row, fault in sorted(faults.items()):
        raise _refused(start, f"{_candidate(table, row)} is no record of data as they are declared ({fault.kind})")


def _candidate(table: pa.Table, row: int) -> str:
    return f"candidate {table['candidate_id'][row].as_py()}"


def _check_states(run: Run, start: Start, states: Sequence[str | None]) -> None:
    """Checks that each state is JSON or null and, with several generators, names one of them."""
    makers = {maker.name for maker in run.recipe.generators or ()}
    try:
        for state in states:
            if state is not None:
                json.loads(state)
            if makers and without_maker(state)[0] not in makers:
                raise StageError("an unknown maker")
    except (ValueError, RecursionError, StageError):
        raise _refused(
            start, "state: not what a generator of this recipe remembers of a candidate; restore it"
        ) from None


def _check_vectors(run: Run, start: Start, table: pa.Table) -> None:
    """Embeds the candidates, which will be voted on. A remote service is not asked twice for each of them."""
    if run.embedder.remote:
        return
    size = run.embedder.batch_size
    for first in range(0, table.num_rows, size):
        batch = table.slice(first, size)
        embedded = run.embedder.embed(batch)
        for row, fault in sorted(embedded.faults.items()):
            raise _refused(start, f"{_candidate(batch, row)} cannot be embedded ({fault.kind})")
        vectors = embedded.vectors
        if vectors.shape != (batch.num_rows, run.embedder.dimension) or not np.isfinite(vectors).all():
            raise _refused(start, "a candidate has an embedding that is not finite, or of another length")
        if run.recipe.evolution.distance == "cosine" and normalise_rows(vectors)[1].any():
            raise _refused(start, "a candidate's embedding has length zero; evolution.distance: cosine allows none")


def _check_variations(run: Run, start: Start, table: pa.Table) -> None:
    """Varies each candidate once, as iteration 1 would, where the generator does so by what it remembers of them."""
    whole = run.generator
    parts = [unfiltered(part) for part in (whole.parts if isinstance(whole, Mixed) else [whole])]
    if any(part.varies_any or isinstance(part, PaidGenerator) for part in parts):
        return
    for first in range(0, table.num_rows, whole.chunk_size):
        rows = table.slice(first, whole.chunk_size)
        rngs = [keyed_rng(run.recipe.seed, 0, first + row, "start/trial") for row in range(rows.num_rows)]
        try:
            made = whole.vary(rows, step_at(run, 1), rngs)
        except PeBeamError:
            raise
        except Exception as error:  # a generator may raise anything over a state that it did not write
            said = f"state: the generator cannot vary a candidate by it ({type(error).__name__}); restore it"
            raise _refused(start, said) from None
        if made.num_rows != rows.num_rows:
            raise _refused(start, "state: the generator does not vary each candidate by it; restore it")


def plan_start(run: Run, quotas: Sequence[int]) -> tuple[pa.Table, dict[str, Any]]:
    """Returns the rows of population 0 of a run that starts from a release, and what its manifest says of them.

    Of each label a share `fresh` is left to the generator. The others are candidates of the release, drawn without
    replacement; where it has fewer, the generator makes the rest. All get new ids, in order of label: first those that
    are taken, then those that are made.

    Args:
      run: a run to which `bring_start` has brought the release.
      quotas: number of candidates of each label, in declared order.
    """
    start = run.recipe.evolution.start
    assert start is not None
    codes = run.recipe.codes(tables.read_working(run.store, taken_name(run))["label"].to_pylist())
    taken: list[np.ndarray] = []
    for code, quota in enumerate(quotas):
        there = np.flatnonzero(codes == code)
        fresh = int(np.floor(quota * start.fresh + 0.5))
        rng = keyed_rng(run.recipe.seed, 0, -1, f"start/{code}")
        taken.append(np.sort(rng.choice(there, min(quota - fresh, len(there)), replace=False)))
    made = [quota - len(rows) for quota, rows in zip(quotas, taken, strict=True)]
    labels = run.recipe.label_list
    kept = int(sum(map(len, taken)))
    count = kept + sum(made)
    table = pa.table(
        [
            pa.array(range(count), pa.int64()),
            pa.nulls(count, pa.int64()),
            pa.array([*np.concatenate(taken).tolist(), *[None] * (count - kept)], pa.int64()),
            pa.array(
                [label for label, rows in zip(labels, taken, strict=True) for _ in rows]
                + [label for label, new in zip(labels, made, strict=True) for _ in range(new)],
                pa.string(),
            ),
            pa.array(np.arange(count) < kept),
        ],
        schema=SELECTION,
    )
    return table, {"start": _told(start, labels, [len(rows) for rows in taken], made)}


def _told(start: Start, labels: Sequence[str | None], taken: Sequence[int], made: Sequence[int]) -> dict[str, Any]:
    assert start.found is not None
    names = [label or "" for label in labels]
    return {
        "release": start.found.digest,
        "taken": dict(zip(names, taken, strict=True)),
        "fresh": dict(zip(names, made, strict=True)),
        "states": start.found.states,
    }


def taken_rows(run: Run, kept: pa.Table) -> pa.Table:
    """Returns candidates of the release as members of population 0: with the ids of these rows of a selection.

    Args:
      run: a run to which `bring_start` has brought the release.
      kept: rows of population 0's selection that are taken from the release.
    """
    rows = tables.take_working_rows(run.store, taken_name(run), kept["parent_row"].to_numpy())
    for name in ("candidate_id", "parent_id"):
        rows = rows.set_column(rows.schema.get_field_index(name), name, kept[name])
    return rows
