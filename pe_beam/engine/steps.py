"""The steps of one iteration as plain functions on a run: each reads what is committed and commits once.

A step may run twice, in two places, or after a kill: whoever comes second finds the first bytes and goes on
from those. No Beam here; `pe_beam.transforms` carries the calls to workers.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.contracts.generator import Chunk, PaidGenerator, Step
from pe_beam.contracts.steps import SELECTION
from pe_beam.contracts.store import Folder
from pe_beam.engine import tables
from pe_beam.engine.bought import LABELS, bought_cells, generator, read_bought, read_marginals
from pe_beam.engine.choose import choose
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError, PeBeamError, StageError
from pe_beam.keyed import encode_fields, keyed_rng
from pe_beam.privacy import noise, secret
from pe_beam.recipe.plan import declared_shares, votes_bound
from pe_beam.selection.quotas import largest_remainder
from pe_beam.storage.parquet import read_parquet
from pe_beam.voting.nearest import normalise_rows
from pe_beam.voting.votes import CandidateMatrix, Voter

POPULATION = "population/part-00000.parquet"
HISTOGRAM = "histogram/part-00000.parquet"


def chunk_ranges(run: Run, rows: int) -> list[tuple[int, int]]:
    """Row ranges in which candidates are generated, embedded and committed."""
    size = run.generator.chunk_size
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def population_rows(run: Run, iteration: int, rows: np.ndarray) -> pa.Table:
    """Some rows of a released population, in the order given: what is read does not grow with the population."""
    with run.store.open(run.public(iteration, POPULATION)) as file:
        return tables.take_rows(file, rows)


@functools.lru_cache(maxsize=1)
def _whole_population(root: str, iteration: int, version: str) -> pa.Table:
    """Once a process, for generators that show candidates to each other. Cached by the very file."""
    return read_population(open_run(root), iteration)


def read_population(run: Run, iteration: int) -> pa.Table:
    """A released population, sorted by candidate_id."""
    return tables.read_bytes(run.store.read(run.public(iteration, POPULATION)))


# --- the first population ----------------------------------------------------------------------------------


def noisy_label_shares(run: Run) -> list[float]:
    """Shares by label, as declared, or as bought in iteration 0 and released."""
    if run.recipe.privacy.marginals:
        return [float(x) for x in read_marginals(run).totals()]
    shares = declared_shares(run.recipe)
    return [float(x) for x in read_bought(run)["noisy_count"].to_pylist()] if shares is None else shares


def plan_random(run: Run) -> pa.Table:
    """Which candidates population 0 holds: ids from 0, by label."""
    quotas = largest_remainder(noisy_label_shares(run), run.populations[0])
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


# --- candidate matrix --------------------------------------------------------------------------------------


def embed_candidates(run: Run, iteration: int, start: int, stop: int) -> int:
    """Embeds rows of population t-1 as iteration t votes on them: each alone, or its lookahead mean.

    Returns how many variations the generator was asked for.
    """
    name = run.work(iteration, f"matrix/{start:09d}.npy")
    if run.store.exists(name):
        return 0
    rows = population_rows(run, iteration - 1, np.arange(start, stop))
    ahead = run.recipe.evolution.lookahead
    if ahead == 0:
        vectors = _embed(run, rows)
    else:
        step = _step(run, iteration)
        ids = rows["candidate_id"].to_pylist()
        total = np.zeros((rows.num_rows, run.embedder.dimension), dtype=np.float64)
        journal = run.work(iteration, f"journal/lookahead-{start:09d}")
        around = _around(run, journal, iteration)
        for turn in range(ahead):
            rngs = [keyed_rng(run.recipe.seed, iteration, i, f"lookahead/{turn}") for i in ids]
            total += _embed(run, generator(run).vary(rows, step, rngs, **around))
        vectors = (total / ahead).astype(np.float32)
    if run.recipe.evolution.distance == "cosine":
        vectors, zero = normalise_rows(vectors)
        if zero.any():
            raise StageError("embedder: a candidate's embedding has length zero; cosine needs another embedder")
    run.store.commit(name, tables.save_array(vectors))
    if ahead:
        run.store.remove(journal)
    return ahead * rows.num_rows


def _around(run: Run, journal: str, iteration: int = 0) -> dict[str, Any]:
    """What a generator whose answers are paid for is told besides: nothing for any other."""
    if not isinstance(run.generator, PaidGenerator):
        return {}

    def population() -> pa.Table:
        version = run.store.version(run.public(iteration - 1, POPULATION))
        return _whole_population(run.root, iteration - 1, version)

    journals = Folder(run.store, journal)
    return {"chunk": Chunk(journal=journals, population=population if iteration else None)}


def _embed(run: Run, rows: pa.Table) -> np.ndarray:
    embedded = run.embedder.embed(rows)
    if embedded.faults:
        kind = next(iter(embedded.faults.values())).kind
        raise StageError(f"embedder: a generated candidate cannot be embedded ({kind})")
    if not np.isfinite(embedded.vectors).all():
        raise StageError("embedder: a generated candidate has an embedding that is not finite")
    return embedded.vectors


def _step(run: Run, iteration: int) -> Step:
    return Step(
        iteration=iteration,
        iterations=run.recipe.evolution.iterations,
        degree=run.degrees[iteration - 1],
    )


def commit_matrix(run: Run, iteration: int) -> list[str]:
    """Commits the candidate matrix as one file; returns the shards that vote on it."""
    index = run.index()
    if index is None:
        raise PeBeamError("private/embeddings: not frozen yet; the embed pipeline comes first")
    spans = chunk_ranges(run, run.candidate_count(iteration - 1))
    parts = [run.store.read(run.work(iteration, f"matrix/{start:09d}.npy")) for start, _ in spans]
    joined = np.concatenate([tables.load_array(part) for part in parts])
    run.store.commit(run.work(iteration, "matrix.npy"), tables.save_array(joined))
    return [shard["shard"] for shard in index["shards"]]


def make_matrix(run: Run, iteration: int) -> CandidateMatrix:
    """The candidate matrix of an iteration, embedded again where `work/` has lost it: candidates are public."""
    if not run.store.exists(run.work(iteration, "matrix.npy")):
        for span in chunk_ranges(run, run.candidate_count(iteration - 1)):
            embed_candidates(run, iteration, *span)
        commit_matrix(run, iteration)
    return load_matrix(run, iteration)


def load_matrix(run: Run, iteration: int) -> CandidateMatrix:
    """The committed candidate matrix that iteration t votes on."""
    population = read_population(run, iteration - 1).select(["candidate_id", "label"])
    data = run.store.read(run.work(iteration, "matrix.npy"))
    return CandidateMatrix(
        ids=population["candidate_id"].to_numpy(),
        labels=run.codes(population["label"].to_pylist()),
        vectors=tables.load_array(data),
        digest=hashlib.sha256(data).hexdigest(),
    )


def load_voter(run: Run, iteration: int) -> Voter:
    """The voter of an iteration: matrix and search index are loaded once a process and shared by its threads."""
    names = (run.work(iteration, "matrix.npy"), run.public(iteration - 1, POPULATION))
    return _loaded_voter(run.root, iteration, tuple(run.store.version(name) for name in names))


@functools.lru_cache(maxsize=2)
def _loaded_voter(root: str, iteration: int, versions: tuple[str, ...]) -> Voter:
    """Cached by the very files: another run may begin in a directory of the same name."""
    run = open_run(root)
    evolution = run.recipe.evolution
    return Voter(
        load_matrix(run, iteration),
        distance=evolution.distance,
        votes_per_record=votes_bound(run.recipe),  # where it is below k no label has more candidates
        engine=run.recipe.execution.search_engine,
    )


# --- counts, noise -----------------------------------------------------------------------------------------


def commit_counts(run: Run, iteration: int, counts: np.ndarray, matrix: str) -> None:
    """Commits the exact counts of an iteration once; a later attempt changes nothing (rule 3).

    Args:
      run: whose embeddings are frozen.
      iteration: 0 (what is bought) or more.
      counts: int64 (m,), on the iteration's grid.
      matrix: digest of the candidate matrix that was voted on; empty in iteration 0.

    Raises:
      InputError: counts over another candidate matrix are committed already.
    """
    if iteration == 0:
        ids = np.arange(len(counts))
        labels = bought_cells(run)["label"].to_pylist()
    else:
        population = read_population(run, iteration - 1)
        ids, labels = population["candidate_id"].to_numpy(), population["label"].to_pylist()
    table = pa.table(
        [pa.array(ids, pa.int64()), pa.array(labels, pa.string()), pa.array(counts, pa.int64())],
        schema=tables.COUNTS,
    )
    schema = tables.COUNTS.with_metadata(_belonging(run, iteration) | {_MATRIX: matrix})
    won = run.store.commit(counts_name(iteration), tables.table_bytes(table, schema))
    if not won and (read_counts(run, iteration).schema.metadata or {}).get(_MATRIX.encode()) != matrix.encode():
        raise InputError(
            f"private/counts: iteration {iteration} was counted over another candidate matrix before; restore work/ as "
            "it was, or start a new run directory (its budget adds up with what is spent here)"
        )


_MATRIX = "pe_beam.matrix"


def _belonging(run: Run, iteration: int) -> dict[str, str]:
    """What exact counts belong to, and the grid that they are on."""
    return {
        "pe_beam.run_id": run.run_id,
        "pe_beam.fingerprint": run.fingerprint(),
        "pe_beam.grid_bits": str(run.grid_bits(iteration)),
    }


def read_counts(run: Run, iteration: int) -> pa.Table:
    """The committed exact counts of an iteration.

    Raises:
      InputError: they are of another run, of other data or on another grid.
    """
    table = tables.read_bytes(run.store.read(counts_name(iteration)))
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if any(found.get(key) != value for key, value in _belonging(run, iteration).items()):
        raise InputError("private/counts: counts of another run or of other data lie there; restore this run's own")
    return table


def counts_name(iteration: int) -> str:
    """Where the one committed exact count of an iteration lies (private)."""
    return f"private/counts/iteration={iteration:04d}.parquet"


def _counts_digest(table: pa.Table) -> bytes:
    ids = table["candidate_id"].to_numpy().astype(">i8").tobytes()
    labels = json.dumps(table["label"].to_pylist()).encode()
    counts = table["count"].to_numpy().astype(">i8").tobytes()
    return hashlib.sha256(encode_fields(ids, labels, counts)).digest()


def _noisy(run: Run, iteration: int, codes: np.ndarray, table: pa.Table) -> np.ndarray:
    """Adds the one noise of an iteration to its committed counts; in votes.

    Raises:
      InputError: other counts of this iteration were given noise before.
    """
    counts = table["count"].to_numpy()
    line, bits = run.ledger_line(iteration), run.grid_bits(iteration)
    sigma, key = line.sigma, b""
    if sigma:
        held = secret.read_secret(run.store)
        run.refuse_unless_paid(line, held)
        key = noise.noise_key(
            secret=held,
            run_id=run.run_id,
            fingerprint=run.fingerprint(),
            iteration=iteration,
            sigma=sigma,
            grid_bits=bits,
            counts_digest=_counts_digest(table),
        )
        _pledge(run, iteration, key)
    return noise.add_noise(counts=counts, labels=codes, sigma=sigma, grid_bits=bits, key=key)


def _pledge(run: Run, iteration: int, key: bytes) -> None:
    """Notes which counts an iteration was noised with before it is: a recount that differs is not noised again."""
    name = f"private/noised/iteration={iteration:04d}"
    mine = hashlib.sha256(b"pe_beam/noised/1" + key).hexdigest().encode()
    if not run.store.commit(name, mine) and not hmac.compare_digest(run.store.read(name), mine):
        raise InputError(
            f"private/counts: iteration {iteration} was noised with other counts before; a second noise would cost "
            "budget again. Restore private/ and work/ as they were, or start a new run directory"
        )


def commit_label_shares(run: Run) -> None:
    """Noises the bought counts of labels or marginals, once."""
    table = read_counts(run, 0)
    codes = np.zeros(table.num_rows, dtype=np.int32)
    noisy = _noisy(run, 0, codes, table)
    cells = bought_cells(run)
    shares = cells.append_column("noisy_count", pa.array(noisy, pa.float64()))
    schema = tables.MARGINALS if run.recipe.privacy.marginals else tables.LABELS
    data = tables.table_bytes(shares, schema, private=run.recipe.private)
    run.store.commit(run.work(0, "labels.parquet"), data)


def commit_histogram(run: Run, iteration: int) -> None:
    """Noise once per candidate on the committed counts; the noisy histogram is committed in `work/`."""
    name = run.work(iteration, "histogram.parquet")
    if run.store.exists(name):
        return
    table = read_counts(run, iteration)
    codes = run.codes(table["label"].to_pylist())
    noisy = _noisy(run, iteration, codes, table)
    histogram = pa.table(
        [table["candidate_id"], table["label"], pa.array(noisy, pa.float64())], schema=tables.HISTOGRAM
    )
    data = tables.table_bytes(histogram, tables.HISTOGRAM, private=run.recipe.private)
    run.store.commit(name, data)


def read_histogram(run: Run, iteration: int) -> pa.Table:
    """The noisy histogram of an iteration, out of the release where `work/` has lost it."""
    own = run.work(iteration, "histogram.parquet")
    return tables.read_bytes(run.store.read(own if run.store.exists(own) else run.public(iteration, HISTOGRAM)))


# --- selection ---------------------------------------------------------------------------------------------


def commit_selection(run: Run, iteration: int) -> None:
    """Post-processing of noisy votes into the rows of the next population."""
    name = run.work(iteration, "selection.parquet")
    if run.store.exists(name):
        return
    table, notes = choose(run, iteration) if iteration else (plan_random(run), {})
    run.store.commit(run.work(iteration, "selection.json"), _json(notes))
    run.store.commit(name, tables.table_bytes(table, SELECTION))


def new_chunks(run: Run, iteration: int) -> Iterator[pa.RecordBatch]:
    """Rows of the committed selection that a generator has to make, as many at a time as it makes.

    A selection of kept rows alone gives one batch without rows: it still has to reach the commit.
    """
    rows = new_rows(run, iteration)
    for start, stop in chunk_ranges(run, rows.num_rows) or [(0, 0)]:
        yield pa.RecordBatch.from_pydict(rows.slice(start, stop - start).to_pydict(), SELECTION)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


# --- generation --------------------------------------------------------------------------------------------


def new_rows(run: Run, iteration: int) -> pa.Table:
    """Rows of an iteration's selection that a generator has to make, in order of id."""
    selected = tables.read_bytes(run.store.read(run.work(iteration, "selection.parquet")))
    return selected.filter(pc.invert(selected["kept"]))


def generate_chunk(run: Run, iteration: int, rows: pa.Table) -> int:
    """Makes and commits one chunk of new candidates; a committed chunk is never made again.

    Args:
      run: it has the population before.
      iteration: 0 or more.
      rows: consecutive rows of the selection that are to be made, one or more.

    Returns:
      How many candidates the generator was asked for.
    """
    ids = rows["candidate_id"].to_pylist()
    start = ids[0] - (run.manifest_of(iteration - 1)["next_candidate_id"] if iteration else 0)
    name = run.work(iteration, f"chunks/{start:09d}.parquet")
    if run.store.exists(name):
        return 0
    seed = run.recipe.seed
    journal = run.work(iteration, f"journal/{start:09d}")
    if iteration == 0:
        rngs = [keyed_rng(seed, 0, i, "random") for i in ids]
        made = generator(run).random(rows["label"].to_pylist(), rngs, **_around(run, journal))
    else:
        rngs = [keyed_rng(seed, iteration, i, "vary") for i in ids]
        parents = population_rows(run, iteration - 1, rows["parent_row"].to_numpy())
        made = generator(run).vary(parents, _step(run, iteration), rngs, **_around(run, journal, iteration))
    if made.num_rows != rows.num_rows:
        raise StageError(f"generator: {made.num_rows} rows came back where {rows.num_rows} were asked for")
    origin = "random" if iteration == 0 else "varied"
    chunk = _population(run, rows, origin, made)
    schema = tables.population_schema(run.modality.payload)
    run.store.commit(name, tables.table_bytes(chunk, schema, private=run.recipe.private))
    run.store.remove(journal)
    return rows.num_rows


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


def _kept_rows(run: Run, iteration: int) -> pa.Table | None:
    selected = tables.read_bytes(run.store.read(run.work(iteration, "selection.parquet")))
    kept = selected.filter(selected["kept"])
    if not kept.num_rows:
        return None
    parents = population_rows(run, iteration - 1, kept["parent_row"].to_numpy())
    schema = tables.population_schema(run.modality.payload)
    index = schema.get_field_index("origin")
    return parents.set_column(index, "origin", pa.array(["kept"] * kept.num_rows, pa.string()))


def _chunk_tables(run: Run, iteration: int) -> Iterator[pa.Table]:
    kept = _kept_rows(run, iteration)
    if kept is not None:  # kept ids are older, so smaller, than any new one
        yield kept
    for start, _ in chunk_ranges(run, new_rows(run, iteration).num_rows):
        yield tables.read_bytes(run.store.read(run.work(iteration, f"chunks/{start:09d}.parquet")))


def commit_iteration(run: Run, iteration: int) -> None:
    """Commits population and manifest in `work/`, then copies to the release, the manifest last."""
    population = run.work(iteration, "population.parquet")
    schema = tables.population_schema(run.modality.payload)

    def write(file: BinaryIO) -> None:
        tables.write_table(file, _chunk_tables(run, iteration), schema, private=run.recipe.private)

    run.store.commit(population, write)
    names = {POPULATION: population}
    if iteration:
        names[HISTOGRAM] = run.work(iteration, "histogram.parquet")
    elif run.recipe.privacy.label_budget():
        names[LABELS] = run.work(0, "labels.parquet")
    manifest = _manifest(run, iteration, names)
    refuse_too_many(run, iteration, manifest["candidates"])
    run.store.commit(run.work(iteration, "manifest.json"), _json(manifest))
    for target, source in names.items():
        run.store.copy(source, run.public(iteration, target))
    run.store.remove(run.work(iteration, "journal"))  # of a chunk whose worker was killed right after its commit
    run.store.copy(run.work(iteration, "manifest.json"), run.public(iteration, "manifest.json"))


def refuse_too_many(run: Run, iteration: int, candidates: Mapping[str, int]) -> None:
    """Raises InputError where a label has more candidates, and so a record more votes, than noise is for (rule 15)."""
    bound = votes_bound(run.recipe)
    voted_on = iteration < run.recipe.evolution.iterations and run.recipe.privacy.unit == "record"
    if voted_on and bound < run.recipe.evolution.votes_per_record and max(candidates.values()) > bound:
        raise InputError(
            f"population of iteration {iteration}: a label has more than {bound} candidates, on which the noise of "
            "this run relies; it is not committed"
        )


def _manifest(run: Run, iteration: int, names: dict[str, str]) -> dict[str, Any]:
    table = read_parquet(run.store, names[POPULATION], columns=["candidate_id", "label", "origin", "state"])
    labels = table["label"].to_pylist()
    codes = run.codes(labels)
    last = int(table["candidate_id"].to_numpy().max()) + 1
    before = run.manifest_of(iteration - 1)["next_candidate_id"] if iteration else 0
    manifest: dict[str, Any] = {
        "version": tables.FORMAT_VERSION,
        "iteration": iteration,
        "private": run.recipe.private,
        "candidates": {
            str(label) if label is not None else "": int((codes == code).sum())
            for label, code in run.label_codes.items()
        },
        "next_candidate_id": max(last, before),
        "files": {
            name: {"sha256": hashlib.sha256(run.store.read(source)).hexdigest()} for name, source in names.items()
        },
    }
    made = run.generator.summary(table.filter(pc.not_equal(table["origin"], "kept")))
    if made:
        manifest["generation"] = made
    if not run.recipe.private:
        manifest["notice"] = tables.NOT_PRIVATE
    if iteration:
        manifest["degree"] = run.degrees[iteration - 1]
        manifest["selection"] = json.loads(run.store.read(run.work(iteration, "selection.json")))
    return manifest
