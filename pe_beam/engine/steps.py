"""Selection and generation as plain functions on a run. Each reads committed files and commits once.

A step may run twice, in two places, or again after a kill. The second attempt finds the bytes of the first and
continues from them. There is no Beam here; `graphs` runs the steps on workers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pe_beam.contracts.generator import checked_rows
from pe_beam.contracts.record import POPULATION
from pe_beam.contracts.steps import SELECTION
from pe_beam.engine import tables
from pe_beam.engine.choose import choose
from pe_beam.engine.counting import noisy_label_shares
from pe_beam.engine.indexes import recall_note
from pe_beam.engine.makers import with_counts
from pe_beam.engine.manifests import manifest_of
from pe_beam.engine.measurements import generator
from pe_beam.engine.populations import FILE_ROWS, around, chunk_ranges, population_rows, step_at
from pe_beam.engine.queries import query_of, spending_iterations
from pe_beam.engine.repeats import commit_redrawn, keeps_count, repeats_note, with_redrawn
from pe_beam.engine.run import Run
from pe_beam.engine.settling import commit_settled, settled_note, settles, with_settled
from pe_beam.engine.start import plan_start, taken_rows
from pe_beam.errors import InputError
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.bounds import votes_bound
from pe_beam.selection.quotas import largest_remainder
from pe_beam.storage.json_file import parse_json
from pe_beam.storage.parquet import read_parquet

_KEPT_AT_A_TIME = 4096


def plan_random(run: Run) -> pa.Table:
    """Returns the rows of population 0: ids from 0, ordered by label."""
    quotas = _first_quotas(run)
    labels = [label for label, q in zip(run.recipe.label_list, quotas, strict=True) for _ in range(q)]
    count = len(labels)
    return pa.table(
        [
            pa.array(range(count), pa.int64()),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.int64()),
            pa.array(labels, pa.string()),
            pa.array([False] * count),
        ],
        schema=SELECTION,
    )


def _first_quotas(run: Run) -> list[int]:
    """Returns the number of candidates of each label in population 0."""
    return largest_remainder(noisy_label_shares(run), run.recipe.evolution.populations()[0])


def _plan_first(run: Run) -> tuple[pa.Table, dict[str, Any]]:
    """Returns the rows of population 0, random or from an earlier release, and notes for its manifest."""
    if run.recipe.evolution.start is None:
        return plan_random(run), {}
    return plan_start(run, _first_quotas(run))


def commit_selection(run: Run, iteration: int) -> None:
    """Commits the rows of the next population, which are post-processing of noisy votes."""
    name = run.layout.work(iteration, "selection.parquet")
    if run.store.exists(name):
        return
    table, notes = choose(run, iteration) if iteration else _plan_first(run)
    run.store.commit(run.layout.work(iteration, "selection.json"), _json(notes))
    run.store.commit(name, tables.working_bytes(table, SELECTION))


def new_chunks(run: Run, iteration: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of the committed selection that a generator has to make, in chunks of its size.

    If all rows are kept, it yields one batch without rows, because the commit needs an input.
    """
    rows = new_rows(run, iteration)
    for start, stop in chunk_ranges(run, rows.num_rows) or [(0, 0)]:
        yield pa.RecordBatch.from_pydict(rows.slice(start, stop - start).to_pydict(), SELECTION)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def new_rows(run: Run, iteration: int) -> pa.Table:
    """Returns the rows of an iteration's selection that a generator has to make, in order of id."""
    selected = tables.read_working(run.store, run.layout.work(iteration, "selection.parquet"))
    return selected.filter(pc.invert(selected["kept"]))


def generate_chunk(run: Run, iteration: int, rows: pa.Table) -> int:
    """Makes and commits one chunk of new candidates. A committed chunk is never made again.

    Args:
      run: a run that has the previous population.
      iteration: 0 or more.
      rows: consecutive rows of the selection that have to be made, at least one.

    Returns:
      The number of candidates that the generator made.
    """
    ids = rows["candidate_id"].to_pylist()
    start = ids[0] - _first_new(run, iteration)
    name = run.layout.work(iteration, f"chunks/{start:09d}.parquet")
    if run.store.exists(name):
        return 0
    seed = run.recipe.seed
    journal = run.layout.work(iteration, f"journal/{start:09d}")
    if iteration == 0:
        rngs = [keyed_rng(seed, 0, i, "random") for i in ids]
        made = generator(run).random(rows["label"].to_pylist(), rngs, **around(run, journal, ids))
    else:
        rngs = [keyed_rng(seed, iteration, i, "vary") for i in ids]
        parents = population_rows(run, iteration - 1, rows["parent_row"].to_numpy())
        made = generator(run).vary(parents, step_at(run, iteration), rngs, **around(run, journal, ids, iteration))
    made = checked_rows(made, rows.num_rows, run.modality.payload.names)
    origin = "random" if iteration == 0 else "varied"
    chunk = _population(run, rows, origin, made)
    schema = tables.population_schema(run.modality.payload)
    run.store.commit(name, tables.working_bytes(chunk, schema, notice=run.recipe.notice))
    run.store.remove(journal)
    return rows.num_rows


def _first_new(run: Run, iteration: int) -> int:
    """Returns the smallest id of an iteration's new candidates."""
    if iteration:
        return int(manifest_of(run, iteration - 1)["next_candidate_id"])
    return sum(_notes(run, 0).get("start", {"taken": {}})["taken"].values())


def _notes(run: Run, iteration: int) -> dict[str, Any]:
    """Returns the notes of a committed selection."""
    name = run.layout.work(iteration, "selection.json")
    return parse_json(run.store.read_committed(name), name, dict)


def _population(run: Run, rows: pa.Table, origin: str, content: pa.Table) -> pa.Table:
    columns = {
        "candidate_id": rows["candidate_id"],
        "parent_id": rows["parent_id"],
        "label": rows["label"],
        "origin": pa.array([origin] * rows.num_rows, pa.string()),
        "state": content["state"],
    }
    columns |= {name: content[name] for name in run.modality.payload.names}
    return pa.table(columns)


def _kept_rows(run: Run, iteration: int, kept: pa.Table) -> pa.Table:
    places = kept["parent_row"].to_numpy()
    parents = population_rows(run, iteration - 1, places) if iteration else taken_rows(run, kept)
    schema = tables.population_schema(run.modality.payload)
    index = schema.get_field_index("origin")
    return parents.set_column(index, "origin", pa.array(["kept"] * kept.num_rows, pa.string()))


def _rows_of(run: Run, iteration: int, start: int, stop: int) -> Iterator[pa.Table]:
    """Yields the rows of the next population in order. Kept ids are older, and so smaller, than all new ids."""
    selected = tables.read_working(run.store, run.layout.work(iteration, "selection.parquet"))
    kept = selected.filter(selected["kept"])
    for first in range(start, min(stop, kept.num_rows), _KEPT_AT_A_TIME):
        last = min(first + _KEPT_AT_A_TIME, stop, kept.num_rows)
        yield _kept_rows(run, iteration, kept.slice(first, last - first))
    low, high = max(start - kept.num_rows, 0), stop - kept.num_rows
    for first, last in chunk_ranges(run, selected.num_rows - kept.num_rows):
        if first < high and last > low:
            chunk = tables.read_working(run.store, run.layout.work(iteration, f"chunks/{first:09d}.parquet"))
            yield chunk.slice(max(low - first, 0), min(high, last) - max(low, first))


def commit_iteration(run: Run, iteration: int) -> None:
    """Commits population and manifest in `work/`, then copies them to the release, the manifest last."""
    names = _commit_files(run, iteration)
    for each in spending_iterations(run):
        if each == iteration or (each < 0 and not iteration):
            names |= query_of(run, each).files()
    manifest = _manifest(run, iteration, names)
    refuse_too_many(run, iteration, manifest["candidates"])
    run.store.commit(run.layout.work(iteration, "manifest.json"), _json(manifest))
    for target, source in names.items():
        run.store.copy(source, run.layout.public(iteration, target))
    run.store.remove(run.layout.work(iteration, "journal"))  # of a worker killed right after its commit
    run.store.copy(run.layout.work(iteration, "manifest.json"), run.layout.public(iteration, "manifest.json"))


def _commit_files(run: Run, iteration: int) -> dict[str, str]:
    """Writes the population in parts of at most FILE_ROWS rows. Returns released name -> working name."""
    selected = run.store.read_committed(run.layout.work(iteration, "selection.parquet"))
    rows = pq.ParquetFile(pa.BufferReader(selected)).metadata.num_rows
    counted = keeps_count(run, iteration)
    moved = settles(run, iteration)

    def settled(start: int, stop: int) -> Iterator[pa.Table]:
        made = _rows_of(run, iteration, start, stop)
        return with_settled(run, iteration, made) if moved else made

    if moved:
        commit_settled(run, iteration, lambda: _rows_of(run, iteration, 0, rows))
    if counted:
        commit_redrawn(run, iteration, settled(0, rows), _notes(run, iteration)["modelled_repeats"])
    schema = tables.population_schema(run.modality.payload)
    names = {}
    for part, start in enumerate(range(0, rows, FILE_ROWS)):

        def write(file: BinaryIO, start: int = start) -> None:
            content = settled(start, min(start + FILE_ROWS, rows))
            content = with_redrawn(run, iteration, content) if counted else content
            tables.write_table(file, content, schema, notice=run.recipe.notice)

        own = run.layout.work(iteration, f"population-{part:05d}.parquet" if part else "population.parquet")
        run.store.commit(own, write)
        names[POPULATION.format(part)] = own
    return names


def refuse_too_many(run: Run, iteration: int, candidates: Mapping[str, int]) -> None:
    """Raises InputError if a label has more candidates, and a record thus more votes, than noise is for (rule 15)."""
    bound = votes_bound(run.recipe)
    voted_on = iteration < run.recipe.evolution.iterations and run.recipe.vote_unit == "record"
    if voted_on and bound < run.recipe.evolution.votes_per_record and max(candidates.values()) > bound:
        raise InputError(
            f"population of iteration {iteration}: a label has more than {bound} candidates, on which the noise of "
            "this run relies; it is not committed"
        )


def _manifest(run: Run, iteration: int, names: dict[str, str]) -> dict[str, Any]:
    parts = [source for name, source in names.items() if name.startswith("population/")]
    columns = ["candidate_id", "label", "origin", "state"]
    tables_of = [read_parquet(run.store, source, columns=columns) for source in parts]
    table = pa.concat_tables(tables_of)
    files: dict[str, dict[str, Any]] = {name: {"sha256": run.store.digest(source)} for name, source in names.items()}
    if len(parts) > 1:  # the index; a population of one part has none
        for place, part in enumerate(tables_of):
            files[POPULATION.format(place)]["rows"] = part.num_rows
    codes = run.recipe.codes(table["label"].to_pylist())
    last = int(table["candidate_id"].to_numpy().max()) + 1
    before = manifest_of(run, iteration - 1)["next_candidate_id"] if iteration else 0
    manifest: dict[str, Any] = {
        "version": tables.FORMAT_VERSION,
        "iteration": iteration,
        "private": run.recipe.private,
        "candidates": {
            str(label) if label is not None else "": int((codes == code).sum())
            for label, code in run.recipe.label_codes.items()
        },
        "next_candidate_id": max(last, before),
        "files": files,
    }
    made = run.generator.summary(table.filter(pc.not_equal(table["origin"], "kept")))
    if run.recipe.generators is not None:
        made = with_counts(run, iteration, table["state"], made)
    if made:
        manifest["generation"] = made
    if run.recipe.notice is not None:
        manifest["notice"] = run.recipe.notice
    return manifest | (_came_about(run, iteration) if iteration else _notes(run, 0))


def _came_about(run: Run, iteration: int) -> dict[str, Any]:
    """Returns what a manifest says of how a later population came about."""
    found: dict[str, Any] = {"degree": run.recipe.evolution.degrees()[iteration - 1]}
    searched = recall_note(run, iteration)
    if searched is not None:
        found["search"] = searched
    found["selection"] = _notes(run, iteration)
    if settles(run, iteration):
        found["settled"] = settled_note(run, iteration)
    if keeps_count(run, iteration):
        found["repeats"] = repeats_note(run, iteration)
    return found
