"""Commits exact counts once, and adds their noise once."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa

from pe_beam.engine import tables
from pe_beam.engine.frozen import fingerprint
from pe_beam.engine.measurements import read_marginals, read_measurements
from pe_beam.engine.queries import query_of
from pe_beam.engine.run import Run
from pe_beam.engine.spending import grid_bits, ledger_line, refuse_unless_paid, secret_of
from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields
from pe_beam.privacy import noise
from pe_beam.privacy.pledge import pledge
from pe_beam.recipe.bounds import declared_shares

_MATRIX = "pe_beam.matrix"


def noisy_label_shares(run: Run) -> list[float]:
    """Returns the shares of the labels: declared, or measured in iteration 0 and released."""
    if run.recipe.privacy.counts_columns:
        return [float(x) for x in read_marginals(run).totals()]
    shares = declared_shares(run.recipe)
    return [float(x) for x in read_measurements(run)["noisy_count"].to_pylist()] if shares is None else shares


def commit_counts(run: Run, iteration: int, counts: np.ndarray, matrix: str) -> None:
    """Commits the exact counts of an iteration once. A later attempt changes nothing (rule 3).

    Args:
      run: a run whose embeddings are frozen.
      iteration: 0 (initial measurement) or more; below 0 earlier ones.
      counts: int64 (m,), in units of the iteration's grid.
      matrix: digest of what was voted on, candidates or chosen cells; empty if the cells are declared.

    Raises:
      InputError: counts over another candidate matrix are committed already.
    """
    bins = query_of(run, iteration).bins()
    columns = [bins["candidate_id"], bins["label"], pa.array(counts, pa.int64())]
    table = pa.table(columns, schema=tables.COUNTS)
    schema = tables.COUNTS.with_metadata(_belonging(run, iteration) | {_MATRIX: matrix})
    won = run.store.commit(counts_name(iteration), tables.table_bytes(table, schema))
    if not won and (read_counts(run, iteration).schema.metadata or {}).get(_MATRIX.encode()) != matrix.encode():
        raise InputError(
            f"private/counts: iteration {iteration} was counted over another candidate matrix before; restore work/ as "
            "it was, or start a new run directory (its budget adds up with what is spent here)"
        )


def _belonging(run: Run, iteration: int) -> dict[str, str]:
    """Returns metadata of exact counts: the run, the data and the grid to which they belong."""
    return {
        "pe_beam.run_id": run.run_id,
        "pe_beam.fingerprint": fingerprint(run),
        "pe_beam.grid_bits": str(grid_bits(run, iteration)),
    }


def read_counts(run: Run, iteration: int) -> pa.Table:
    """Returns the committed exact counts of an iteration.

    Raises:
      InputError: the counts belong to another run, other data or another grid.
    """
    table = tables.read_bytes(run.store.read(counts_name(iteration)))
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if any(found.get(key) != value for key, value in _belonging(run, iteration).items()):
        raise InputError("private/counts: counts of another run or of other data lie there; restore this run's own")
    return table


def counts_name(iteration: int) -> str:
    """Returns the file name of the committed exact counts of an iteration (private)."""
    return f"private/counts/iteration={iteration:04d}.parquet"


def counts_digest(table: pa.Table) -> bytes:
    """Returns SHA-256 of all counts of an iteration. The key of its noise depends on it."""
    ids = table["candidate_id"].to_numpy().astype(">i8").tobytes()
    labels = json.dumps(table["label"].to_pylist()).encode()
    counts = table["count"].to_numpy().astype(">i8").tobytes()
    return hashlib.sha256(encode_fields(ids, labels, counts)).digest()


def _noisy(run: Run, iteration: int, codes: np.ndarray, table: pa.Table) -> np.ndarray:
    """Returns the committed counts of an iteration with their noise, in votes.

    Raises:
      InputError: other counts of this iteration were given noise before.
    """
    counts = table["count"].to_numpy()
    line, bits = ledger_line(run, iteration), grid_bits(run, iteration)
    sigma, key = line.sigma, b""
    if sigma:
        held = secret_of(run)
        refuse_unless_paid(run, line, held)
        key = noise.noise_key(
            secret=held,
            run_id=run.run_id,
            fingerprint=fingerprint(run),
            iteration=iteration,
            sigma=sigma,
            grid_bits=bits,
            counts_digest=counts_digest(table),
        )
        _pledge(run, iteration, key)
    return noise.add_noise(counts=counts, labels=codes, sigma=sigma, grid_bits=bits, key=key)


def _pledge(run: Run, iteration: int, key: bytes) -> None:
    """Records which counts of an iteration get noise, before they get it. Different counts then never get noise."""
    if not pledge(run.store, f"private/noised/iteration={iteration:04d}", key):
        raise InputError(
            f"private/counts: iteration {iteration} was noised with other counts before; a second noise would cost "
            "budget again. Restore private/ and work/ as they were, or start a new run directory"
        )


def commit_histogram(run: Run, iteration: int) -> None:
    """Adds noise once to each bin of the committed counts of an iteration, and commits the result in `work/`."""
    query = query_of(run, iteration)
    name = run.layout.work(iteration, query.work)
    if run.store.exists(name):
        return
    counts = read_counts(run, iteration)
    noisy = _noisy(run, iteration, query.blocks(counts["label"].to_pylist()), counts)
    run.store.commit(name, tables.table_bytes(*query.answer(counts, noisy), notice=run.recipe.notice))
