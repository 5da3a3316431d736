"""Rows of the last population that repeat: as often as the measured marginals have it, and no more by accident.

All of this is post-processing of the release (`evolution.repeats: modelled`). Rows that are equal though they come
from different candidates of population 0 have met, as real rows do, and stay. Those that come from one are copies.
The model's own draw of as many rows says how many copies there may be: so many the second of their kind, the third,
and so on, and so many repeats in all. Selected rows beyond that are not kept but varied, when the last population is
selected; variations beyond it are changed a little, row by row, before the population is committed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pe_beam.engine import tables
from pe_beam.engine.measurements import generator
from pe_beam.engine.populations import population_rows, read_population
from pe_beam.engine.run import Run
from pe_beam.keyed import keyed_rng
from pe_beam.storage.json_file import parse_json

_TRIES = 20
_AT_A_TIME = 4096
_REDRAWN, _COUNTED = "redrawn.parquet", "repeats.json"


def keeps_count(run: Run, iteration: int) -> bool:
    """Returns whether rows of this population may repeat only as the model has it."""
    return run.recipe.evolution.repeats == "modelled" and iteration == run.recipe.evolution.iterations


class _Rows:
    """Rows that have been taken. A row is a copy if an equal one comes from the same candidate of population 0."""

    def __init__(self, allowed: Sequence[int] = ()) -> None:
        """Takes the numbers of rows that may be the second of their kind, the third, and so on."""
        self._allowed, self._most = allowed, sum(allowed)
        self._seen: set[tuple[bytes, int]] = set()
        self._copies: Counter[bytes] = Counter()
        self._used: Counter[int] = Counter()
        self.counts: Counter[bytes] = Counter()

    @property
    def repeats(self) -> int:
        """The number of rows that are equal to one before them."""
        return self.counts.total() - len(self.counts)

    def take(self, row: bytes, root: int) -> bool:
        """Takes a row unless it is a copy too many. Returns whether it did."""
        return self._take(row, root, copy=(row, root) in self._seen)

    def take_new(self, row: bytes, root: int) -> bool:
        """Takes a row that was redrawn, which is a copy of any that it equals. Returns whether it did."""
        return self._take(row, root, copy=row in self.counts)

    def add(self, row: bytes, root: int) -> None:
        """Takes a row in any case."""
        self._seen.add((row, root))
        self.counts[row] += 1

    def _take(self, row: bytes, root: int, *, copy: bool) -> bool:
        if copy:
            place = self._copies[row]
            most = self._allowed[place] if place < len(self._allowed) else 0
            if self._used[place] >= most or self.repeats >= self._most:
                return False
            self._used[place] += 1
            self._copies[row] += 1
        self.add(row, root)
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
            rows.add(row, 0)
    return rows.profile()


def kept_once(run: Run, iteration: int, places: np.ndarray, allowed: Sequence[int]) -> np.ndarray:
    """Returns which selected rows of the population before may be kept, bool (n,); others are copies too many.

    Args:
      run: a run that has the population.
      iteration: the last one.
      places: int64 (n,), rows of the population before, in order.
      allowed: as `modelled_repeats` returns it.
    """
    rows, found = _Rows(allowed), []
    ids, roots = _roots(run, iteration - 1)
    for start in range(0, len(places), _AT_A_TIME):
        own = population_rows(run, iteration - 1, places[start : start + _AT_A_TIME])
        at = np.searchsorted(ids, own["candidate_id"].to_numpy())
        found += [rows.take(row, root) for row, root in zip(_digests(run, own), roots[at].tolist(), strict=True)]
    return np.array(found, dtype=bool)


def commit_redrawn(run: Run, iteration: int, made: Iterable[pa.Table], allowed: Sequence[int]) -> None:
    """Commits what takes the place of variations that are copies too many, and how many rows repeat then.

    Args:
      run: a run whose last population is made, but not committed.
      iteration: the last one.
      made: its rows in order: those that are kept, and then variations.
      allowed: as `modelled_repeats` returns it.
    """
    counted, replaced = run.layout.work(iteration, _COUNTED), run.layout.work(iteration, _REDRAWN)
    if run.store.exists(counted) and run.store.exists(replaced):
        return
    schema = tables.population_schema(run.modality.payload)
    rows, redrawn = _Rows(allowed), [schema.empty_table()]
    ids, roots = _roots(run, iteration - 1)
    for table in made:
        redrawn.append(_redrawn(run, iteration, table, roots[np.searchsorted(ids, _before(table))], rows))
    changed = pa.concat_tables(redrawn)
    content = tables.working_bytes(changed, schema, notice=run.recipe.notice)
    run.store.commit(replaced, content)
    count = rows.counts.total()
    found = {
        "rows": count,
        "distinct": len(rows.counts),
        "most_equal": max(rows.counts.values()),
        "modelled_distinct": count - sum(allowed),
        "redrawn": changed.num_rows,
    }
    run.store.commit(counted, (json.dumps(found, indent=1) + "\n").encode())


def _roots(run: Run, iteration: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of a population, rising, and the candidates of population 0 that they come from: int64 (n,)."""
    ids = roots = read_population(run, 0, ["candidate_id"])["candidate_id"].to_numpy()
    for t in range(1, iteration + 1):
        table = read_population(run, t, ["candidate_id", "parent_id", "origin"])
        before = _before(table)
        ids, roots = table["candidate_id"].to_numpy(), roots[np.searchsorted(ids, before)]
    return ids, roots


def _before(table: pa.Table) -> np.ndarray:
    """Returns the id of each row in the population before: its own if it was kept, or its parent's."""
    kept = pc.equal(table["origin"], "kept")
    found: np.ndarray = pc.if_else(kept, table["candidate_id"], table["parent_id"]).to_numpy()
    return found


def _redrawn(run: Run, iteration: int, table: pa.Table, roots: np.ndarray, rows: _Rows) -> pa.Table:
    """Takes all rows of a table. Returns those that are changed, as they are now; one that finds no other row stays."""
    kept, again, own = pc.equal(table["origin"], "kept").to_pylist(), [], list(_digests(run, table))
    for place, (row, root) in enumerate(zip(own, roots.tolist(), strict=True)):
        if rows.take(row, root):
            continue
        if kept[place]:  # it was looked at when it was selected
            rows.add(row, root)
        else:
            again.append(place)
    now, left = table.take(pa.array(again, pa.int64())), np.arange(len(again))
    for attempt in range(_TRIES):
        if not len(left):
            break
        old = now.take(pa.array(left))
        purpose = f"redraw/{attempt}"
        rngs = [keyed_rng(run.recipe.seed, iteration, i, purpose) for i in old["candidate_id"].to_pylist()]
        now = _with_payload(run, now, left, generator(run).redraw(old, rngs))
        new = zip(_digests(run, now.take(pa.array(left))), roots[again][left].tolist(), strict=True)
        left = left[[not rows.take_new(row, root) for row, root in new]]
    for place in np.array(again, dtype=int)[left].tolist():
        rows.add(own[place], int(roots[place]))
    return now.take(pa.array(np.delete(np.arange(len(again)), left)))


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
    return tables.replaced(tables.read_working(run.store, run.layout.work(iteration, _REDRAWN)), made)


def repeats_note(run: Run, iteration: int) -> dict[str, Any]:
    """Returns what the manifest says of rows that repeat in the last population."""
    name = run.layout.work(iteration, _COUNTED)
    return parse_json(run.store.read_committed(name), name, dict)


def _digests(run: Run, table: pa.Table) -> Iterator[bytes]:
    """Yields a digest of each row's label and payload. A missing value equals a missing value."""
    columns = [table[name].to_pylist() for name in ("label", *run.modality.payload.names)]
    for values in zip(*columns, strict=True):
        yield hashlib.blake2b(repr(values).encode(), digest_size=16).digest()
