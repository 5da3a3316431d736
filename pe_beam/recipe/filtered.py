"""A generator whose candidates have to pass filters. What fails is made again, with other random numbers."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pe_beam.contracts.filter import Filter, with_filters, without_filters
from pe_beam.contracts.generator import (
    Chunk,
    Exchange,
    Generator,
    Marginals,
    PaidGenerator,
    Step,
    checked_rows,
)
from pe_beam.contracts.makers import with_states
from pe_beam.contracts.options import Options
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import StageError, UnusableError

_STREAM = 1 << 62
UNUSABLE = "(unusable)"
"""What the count of rejected attempts names those of which the generator made nothing. No filter has this name."""
_JUDGING = 1 << 32
"""Attempts below it count those of the generator; those from it on the streams of filters."""


@dataclass(frozen=True)
class Filters:
    """The filters of a recipe, in order, and how often a candidate is made again.

    Attributes:
      named: (name in the manifest, filter).
      attempts: 0 or more.
    """

    named: Sequence[tuple[str, Filter]]
    attempts: int


class Filtered(PaidGenerator):
    """A generator and filters: a candidate that fails is made again, `attempts` times at most.

    Then its parent stands in for a variation, and another candidate that has passed for a new one. The state says which
    filters rejected how many attempts: it is {"filtered": names, "stand_in": whether, "state": the generator's own}, or
    the generator's own alone if the first attempt has passed.

    Random numbers of attempt 0 are those that the generator alone would get; a candidate that passes is the same with
    and without filters.
    """

    Options: ClassVar[type[Options]] = Options

    def __init__(self, inner: Generator, filters: Filters) -> None:
        """Takes the generator, which stays as it is, and the filters."""
        self.inner, self.filters = inner, filters
        self._asked: Sequence[int] = ()
        self.chunk_size = inner.chunk_size  # type: ignore[misc]  # here it depends on the recipe
        self.remote = inner.remote or any(each.remote for _, each in filters.named)  # type: ignore[misc]
        self.modality = inner.modality  # type: ignore[misc]
        self.varies_any = inner.varies_any  # type: ignore[misc]

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator. The filters are attached by whoever made them: several generators share them."""
        self.inner.attach(surroundings)

    def ready(self) -> None:
        """See Generator."""
        self.inner.ready()
        for _, each in self.filters.named:
            each.ready()

    def ready_here(self) -> None:
        """See Generator."""
        self.inner.ready_here()

    def seeded(self, marginals: Marginals) -> Generator:
        """See Generator."""
        return Filtered(self.inner.seeded(marginals), self.filters)

    def listen(self, heard: Callable[[Exchange], None]) -> None:
        """See Generator."""
        self.inner.listen(lambda told: heard(dataclasses.replace(told, row=self._asked[told.row])))

    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See Generator. Raises StageError if no candidate of the chunk passes."""

        def make(rows: list[int], own: Sequence[np.random.Generator], about: dict[str, Any]) -> pa.Table:
            return self.inner.random([labels[row] for row in rows], own, **about)

        return self._made(labels, None, rngs, chunk, make)

    def vary(
        self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See Generator."""
        seen = with_states(parents, [without_filters(state) for state in parents["state"].to_pylist()])

        def make(rows: list[int], own: Sequence[np.random.Generator], about: dict[str, Any]) -> pa.Table:
            return self.inner.vary(seen.take(pa.array(rows, pa.int64())), step, own, **about)

        return self._made(parents["label"].to_pylist(), seen, rngs, chunk, make)

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """Returns the generator's summary, and under `filters` the rejected attempts by filter and the stand-ins."""
        rejected: Counter[str] = Counter()
        stand_ins, own = 0, []
        for state in made["state"].to_pylist():
            kinds, stood_in = _marks(state)
            rejected.update(kinds)
            stand_ins += stood_in
            own.append(without_filters(state))
        told = {"rejected_answers": dict(sorted(rejected.items())), "stand_ins": stand_ins}
        return {**self.inner.summary(with_states(made, own)), "filters": told}

    def _made(
        self,
        labels: Sequence[str | None],
        parents: pa.Table | None,
        rngs: Sequence[np.random.Generator],
        chunk: Chunk | None,
        make: Callable[[list[int], Sequence[np.random.Generator], dict[str, Any]], pa.Table],
    ) -> pa.Table:
        keys = [int(copy.deepcopy(rng).integers(_STREAM)) for rng in rngs]
        attempts = _Attempts(labels, keys)
        for attempt in range(self.filters.attempts + 1):
            wanted = attempts.missing() if attempt else list(range(len(labels)))
            if attempt and not wanted:
                break
            own = [_stream(keys[row], attempt) for row in wanted] if attempt else rngs
            self._asked = wanted
            try:
                made = make(wanted, own, self._about(self.inner, chunk, f"attempt-{attempt}", wanted))
            except UnusableError:
                if not attempt:
                    raise
                attempts.reject(wanted, UNUSABLE)  # of the few that are made again; others of the chunk can stand in
                continue
            made = checked_rows(made, len(wanted))
            attempts.add(made, wanted, self._failing(made, attempts, wanted, chunk, attempt))
        return attempts.put_together(parents)

    def _about(self, part: Any, chunk: Chunk | None, name: str, rows: Sequence[int]) -> dict[str, Any]:
        """Returns the chunk for one attempt, with a journal of its own, as a keyword argument."""
        if chunk is None or not (isinstance(part, PaidGenerator | Filter)):
            return {}
        ids = None if chunk.ids is None else [chunk.ids[row] for row in rows]
        journal = None if chunk.journal is None else chunk.journal / name
        return {"chunk": dataclasses.replace(chunk, journal=journal, ids=ids)}

    def _failing(
        self, made: pa.Table, attempts: _Attempts, wanted: Sequence[int], chunk: Chunk | None, attempt: int
    ) -> dict[int, str]:
        """Returns row of `made` -> the first filter that it fails. Later filters do not see what is rejected."""
        labels = pa.array([attempts.labels[row] for row in wanted], pa.string())
        content = made.drop_columns(["state"]).append_column("label", labels)
        failing: dict[int, str] = {}
        for place, (name, each) in enumerate(self.filters.named):
            left = [row for row in range(made.num_rows) if row not in failing]
            if not left:
                break
            streams = [_stream(attempts.keys[wanted[row]], _JUDGING * (place + 1) + attempt) for row in left]
            about = self._about(each, chunk, f"{name}-{attempt}", [wanted[row] for row in left])
            passes = each.passing(content.take(pa.array(left, pa.int64())), streams, **about)
            if len(passes) != len(left):
                raise StageError(f"evolution.filters, {name}: {len(passes)} answers for {len(left)} candidates")
            failing |= {row: name for row, passed in zip(left, passes, strict=True) if not passed}
        return failing


class _Attempts:
    """The attempts at the rows of one chunk: what was made, which attempt of a row has passed, and what rejected it."""

    def __init__(self, labels: Sequence[str | None], keys: Sequence[int]) -> None:
        self.labels, self.keys = labels, keys
        self.tables: list[pa.Table] = []
        self._rows = 0
        self._taken: list[int | None] = [None] * len(labels)  # a row of all tables, one below the other
        self._rejected: list[list[str]] = [[] for _ in labels]

    def missing(self) -> list[int]:
        """Returns the rows of which no attempt has passed."""
        return [row for row, taken in enumerate(self._taken) if taken is None]

    def add(self, made: pa.Table, wanted: Sequence[int], failing: Mapping[int, str]) -> None:
        """Adds the next attempt at the rows `wanted`; `failing` is by row of `made`."""
        self.tables.append(made if not self.tables else made.select(self._columns()).cast(self.tables[0].schema))
        for place, row in enumerate(wanted):
            if place in failing:
                self._rejected[row].append(failing[place])
            else:
                self._taken[row] = self._rows + place
        self._rows += made.num_rows

    def reject(self, rows: Sequence[int], kind: str) -> None:
        """Notes an attempt at some rows of which nothing came."""
        for row in rows:
            self._rejected[row].append(kind)

    def put_together(self, parents: pa.Table | None) -> pa.Table:
        """Returns what has passed, in order. For the rest the parents stand in, or, if there are none, other rows."""
        missing = self.missing()
        taken = self._taken if not missing else self._with_stand_ins(parents)
        tables = self.tables
        if missing and parents is not None:
            tables = [*tables, parents.select(self._columns()).cast(tables[0].schema)]
        found = pa.concat_tables(tables).take(pa.array(taken, pa.int64())).combine_chunks()
        pairs = enumerate(zip(found["state"].to_pylist(), self._rejected, strict=True))
        stand_ins = set(missing)
        return with_states(found, [with_filters(kinds, s, stand_in=row in stand_ins) for row, (s, kinds) in pairs])

    def _with_stand_ins(self, parents: pa.Table | None) -> list[int]:
        """Returns a row of all tables for each row of the chunk; those of the parents come last."""
        if parents is not None:
            return [self._rows + row if taken is None else taken for row, taken in enumerate(self._taken)]
        good = [row for row, taken in enumerate(self._taken) if taken is not None]
        if not good:
            kinds = Counter(kind for kinds in self._rejected for kind in kinds)
            said = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
            raise StageError(
                f"evolution.filters: none of {len(self.labels)} candidates passes ({said}); look at `pe-beam preview`, "
                "at the filters and at the generator"
            )
        found = []
        for row, taken in enumerate(self._taken):
            others = [other for other in good if self.labels[other] == self.labels[row]] or good
            stand_in = self._taken[others[self.keys[row] % len(others)]]
            assert stand_in is not None
            found.append(stand_in if taken is None else taken)
        return found

    def _columns(self) -> list[str]:
        names: list[str] = self.tables[0].column_names
        return names


def unfiltered(generator: Generator) -> Generator:
    """Returns the generator behind filters, or itself."""
    return generator.inner if isinstance(generator, Filtered) else generator


def _stream(key: int, attempt: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 1, attempt]))


def _marks(state: str | None) -> tuple[list[str], bool]:
    """Returns what `with_filters` has put into a state: the filters, and whether it is a stand-in's."""
    if without_filters(state) == state:
        return [], False
    found = json.loads(state or "{}")
    return found["filtered"], found["stand_in"]
