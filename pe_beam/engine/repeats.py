"""Rows of the last population that repeat: as often as the measured marginals have it, and no more by accident.

All of this is post-processing of the release (`evolution.repeats: modelled`). The model's own draw of as many rows says
how many may be the second of their kind, the third, and so on. Selected rows beyond that are not kept but varied, when
the last population is selected; variations beyond it are changed, row by row, before the population is committed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pe_beam.engine import tables
from pe_beam.engine.measurements import generator
from pe_beam.engine.populations import population_rows
from pe_beam.engine.run import Run
from pe_beam.keyed import keyed_rng

_TRIES = 20
_REDRAWN, _COUNTED = "redrawn.parquet", "repeats.json"


def keeps_count(run: Run, iteration: int) -> bool:
    """Returns whether rows of this population may repeat only as the model has it."""
    return run.recipe.evolution.repeats == "modelled" and iteration == run.recipe.evolution.iterations


class _Rows:
    """Rows that have been taken, each with the number of its equals before it."""

    def __init__(self, allowed: Sequence[int] = ()) -> None:
        """Takes the numbers of rows that may be the second of their kind, the third, and so on."""
        self._allowed = allowed
        self.counts: Counter[bytes] = Counter()
        self._used: Counter[int] = Counter()

    def take(self, row: bytes, *, whatever: bool = False) -> bool:
        """Takes a row if it may repeat so often, or in any case. Returns whether it did."""
        before = self.counts[row]
        if before:
            most = self._allowed[before - 1] if before <= len(self._allowed) else 0
            if self._used[before] >= most and not whatever:
                return False
            self._used[before] += 1
        self.counts[row] = before + 1
        return True

    def profile(self) -> list[int]:
        """Returns how many rows are the second of their kind, the third, and so on."""
        most = max(self.counts.values(), default=0)
        by_count = Counter(self.counts.values())
        return [sum(count for times, count in by_count.items() if times >= each) for each in range(2, most + 1)]


def modelled_repeats(run: Run, iteration: int, labels: Sequence[str | None]) -> list[int]:
    """Returns how many of as many rows that the seeded generator draws are the second of their kind, the third, ..."""
    rows, size = _Rows(), run.generator.chunk_size
    for start in range(0, len(labels), size):
        own = labels[start : start + size]
        rngs = [keyed_rng(run.recipe.seed, iteration, start + i, "modelled") for i in range(len(own))]
        drawn = generator(run).random(own, rngs).append_column("label", pa.array(own, pa.string()))
        for row in _digests(run, drawn):
            rows.take(row, whatever=True)
    return rows.profile()


def kept_once(run: Run, iteration: int, places: np.ndarray, allowed: Sequence[int]) -> np.ndarray:
    """Returns which selected rows of the population before may be kept, bool (n,); others repeat too often.

    Args:
      run: a run that has the population.
      iteration: the last one.
      places: int64 (n,), rows of the population before, in order.
      allowed: as `modelled_repeats` returns it.
    """
    rows = _Rows(allowed)
    return np.array([rows.take(row) for row in _digests(run, population_rows(run, iteration - 1, places))], dtype=bool)


def commit_redrawn(run: Run, iteration: int, made: Iterable[pa.Table], allowed: Sequence[int]) -> None:
    """Commits what takes the place of rows that repeat too often, and how many rows repeat then.

    Args:
      run: a run whose last population is made, but not committed.
      iteration: the last one.
      made: its rows in order: those that are kept, and then variations.
      allowed: as `modelled_repeats` returns it.
    """
    counted = run.layout.work(iteration, _COUNTED)
    if run.store.exists(counted):
        return
    schema = tables.population_schema(run.modality.payload)
    rows, redrawn = _Rows(allowed), [schema.empty_table()]
    for table in made:
        redrawn.append(_redrawn(run, iteration, table, rows))
    changed = pa.concat_tables(redrawn)
    run.store.commit(
        run.layout.work(iteration, _REDRAWN), tables.table_bytes(changed, schema, notice=run.recipe.notice)
    )
    found = {
        "rows": sum(rows.counts.values()),
        "distinct": len(rows.counts),
        "most_equal": max(rows.counts.values()),
        "modelled_distinct": sum(rows.counts.values()) - sum(allowed),
        "redrawn": changed.num_rows,
    }
    run.store.commit(counted, (json.dumps(found, indent=1) + "\n").encode())


def _redrawn(run: Run, iteration: int, table: pa.Table, rows: _Rows) -> pa.Table:
    """Returns those variations of a table that had to be changed, as they are now. All rows of the table are taken."""
    origins = table["origin"].to_pylist()
    again = [
        place
        for place, row in enumerate(_digests(run, table))
        if not rows.take(row, whatever=origins[place] == "kept")
    ]  # fmt: skip
    now, done = table.take(pa.array(again, pa.int64())), np.zeros(len(again), dtype=bool)
    for attempt in range(_TRIES):
        left = np.flatnonzero(~done)
        if not len(left):
            break
        old = now.take(pa.array(left))
        purpose = f"redraw/{attempt}"
        rngs = [keyed_rng(run.recipe.seed, iteration, i, purpose) for i in old["candidate_id"].to_pylist()]
        new = generator(run).redraw(old, rngs)
        now = _with_payload(run, now, left, new)
        last = attempt == _TRIES - 1  # then it repeats: there may be no other row
        done[left] = [rows.take(row, whatever=last) for row in _digests(run, now.take(pa.array(left)))]
    return now


def _with_payload(run: Run, table: pa.Table, places: np.ndarray, new: pa.Table) -> pa.Table:
    """Returns a table with state and payload of some of its rows replaced."""
    order = np.arange(table.num_rows)
    order[places] = table.num_rows + np.arange(len(places))
    columns = {name: table[name] for name in table.column_names}
    for name in ("state", *run.modality.payload.names):
        columns[name] = pa.chunked_array([*table[name].chunks, *new[name].chunks], table[name].type).take(
            pa.array(order)
        )
    return pa.table(columns)


def with_redrawn(run: Run, iteration: int, made: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yields the rows of the last population with those that were redrawn in their places."""
    new = tables.read_bytes(run.store.read_committed(run.layout.work(iteration, _REDRAWN)))
    ids = new["candidate_id"].to_numpy()  # rising, as in the population
    for table in made:
        own = table["candidate_id"].to_numpy()
        places = np.flatnonzero(np.isin(own, ids))
        yield _with_payload(run, table, places, new.take(pa.array(np.searchsorted(ids, own[places]))))


def repeats_note(run: Run, iteration: int) -> dict[str, Any]:
    """Returns what the manifest says of rows that repeat in the last population."""
    found: dict[str, Any] = json.loads(run.store.read_committed(run.layout.work(iteration, _COUNTED)))
    return found


def _digests(run: Run, table: pa.Table) -> Iterator[bytes]:
    """Yields a digest of each row's label and payload. A missing value equals a missing value."""
    columns = [table[name].to_pylist() for name in ("label", *run.modality.payload.names)]
    for values in zip(*columns, strict=True):
        yield hashlib.blake2b(repr(values).encode(), digest_size=16).digest()
