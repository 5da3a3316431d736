"""Combines several generators into one. Each row goes to one of them, which gets the same input as it would alone."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pe_beam.contracts.generator import Chunk, Exchange, Generator, PaidGenerator, Step, checked_rows
from pe_beam.contracts.makers import with_maker, with_states, without_maker
from pe_beam.contracts.options import Options
from pe_beam.contracts.service import Surroundings
from pe_beam.errors import RecipeError, StageError
from pe_beam.keyed import keyed_rng
from pe_beam.recipe.makers import openers, receivers, shares_of
from pe_beam.recipe.sections.part import Maker

_STEP = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio. Any number of consecutive multiples are spread evenly over 64 bits."""
_WORD = 1 << 64


@contextlib.contextmanager
def of_maker(name: str) -> Iterator[None]:
    """Puts a maker's name before the message of its generator's error. That message has only "generator.key: ..."."""
    try:
        yield
    except (RecipeError, StageError) as error:
        if type(error) not in (RecipeError, StageError):
            raise
        raise type(error)(f"generators, {name}: {error}") from error


class Mixed(PaidGenerator):
    """A generator that is made of several generators. One of them makes each row of a chunk.

    `random` chooses an open maker by share. A candidate's own maker varies it. If the phase of this maker is over, an
    open maker that varies any candidate is chosen, also by share. The choice is a function of seed, iteration, label
    and candidate id. Candidates of a label, ordered by id, take even steps from a start that is drawn once. So of n
    consecutive candidates each maker with a share of 2/n or more gets at least one.

    `state` is {"maker": name of the maker, "state": the maker's own state}.
    """

    Options: ClassVar[type[Options]] = Options

    def __init__(
        self, makers: Sequence[Maker], parts: Sequence[Generator], *, labels: Sequence[str | None], seed: int
    ) -> None:
        """Takes the recipe's makers, their generators in the same order, the declared labels and the seed."""
        self._makers, self._parts, self._seed = list(makers), list(parts), seed
        self._codes = {label: code for code, label in enumerate(labels)}
        self._places = {maker.name: place for place, maker in enumerate(makers)}
        self._takes = [part.varies_any for part in parts]
        self._population: tuple[pa.Table | None, dict[int, pa.Table]] = (None, {})
        self._asked: list[int] = []
        self.chunk_size = min(part.chunk_size for part in parts)  # type: ignore[misc]  # here it depends on the recipe
        self.remote = any(part.remote for part in parts)  # type: ignore[misc]
        self.modality = parts[0].modality  # type: ignore[misc]

    @property
    def parts(self) -> list[Generator]:
        """Returns the generators, in the recipe's order."""
        return list(self._parts)

    def attach(self, surroundings: Surroundings) -> None:
        """See Generator."""
        for maker, part in zip(self._makers, self._parts, strict=True):
            with of_maker(maker.name):
                part.attach(surroundings)

    def ready(self) -> None:
        """See Generator."""
        for maker, part in zip(self._makers, self._parts, strict=True):
            with of_maker(maker.name):
                part.ready()

    def ready_here(self) -> None:
        """See Generator."""
        for maker, part in zip(self._makers, self._parts, strict=True):
            with of_maker(maker.name):
                part.ready_here()

    def listen(self, heard: Callable[[Exchange], None]) -> None:
        """See Generator."""

        def told(exchange: Exchange) -> None:
            heard(dataclasses.replace(exchange, row=self._asked[exchange.row]))

        for part in self._parts:
            part.listen(told)

    def random(
        self, labels: Sequence[str | None], rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See Generator."""
        draws = self._draws(0, labels, rngs, chunk)
        owners = _chosen(draws, shares_of(self._makers, openers(self._makers, 0)))

        def make(place: int, rows: list[int]) -> pa.Table:
            about = self._about(place, chunk)
            return self._parts[place].random([labels[row] for row in rows], [rngs[row] for row in rows], **about)

        return self._put_together(owners, make)

    def vary(
        self, parents: pa.Table, step: Step, rngs: Sequence[np.random.Generator], *, chunk: Chunk | None = None
    ) -> pa.Table:
        """See Generator."""
        before, states = self._split(parents["state"])
        draws = self._draws(step.iteration, parents["label"].to_pylist(), rngs, chunk)
        going = np.array([maker.open_at(step.iteration) for maker in self._makers])
        stays = going[before]
        owners = before.copy()
        if not stays.all():
            taking = receivers(self._makers, self._takes, step.iteration)
            if not taking:
                raise StageError(f"generators: none takes over candidates in iteration {step.iteration}")
            owners[~stays] = _chosen(draws[~stays], shares_of(self._makers, taking))
        own = [state if stay else None for state, stay in zip(states, stays.tolist(), strict=True)]
        seen = with_states(parents, own)

        def make(place: int, rows: list[int]) -> pa.Table:
            about = self._about(place, chunk)
            return self._parts[place].vary(
                seen.take(pa.array(rows, pa.int64())), step, [rngs[row] for row in rows], **about
            )

        return self._put_together(owners, make)

    def summary(self, made: pa.Table) -> dict[str, Any]:
        """Returns for each maker the number of new candidates and the maker's own summary of them."""
        owners, states = self._split(made["state"])
        own = with_states(made, states)
        told: dict[str, Any] = {}
        for place, (maker, part) in enumerate(zip(self._makers, self._parts, strict=True)):
            rows = own.filter(pa.array(owners == place))
            said = part.summary(rows)
            told[maker.name] = {"new": rows.num_rows, **({"summary": said} if said else {})}
        return {"makers": told}

    def _split(self, states: pa.ChunkedArray) -> tuple[np.ndarray, list[str | None]]:
        """Returns the places of the makers (int64) and the makers' own states."""
        pairs = [without_maker(state) for state in states.to_pylist()]
        unknown = {name for name, _ in pairs} - set(self._places)
        if unknown:
            raise StageError("population: a candidate names a maker that the recipe does not know; restore the release")
        return np.array([self._places[name] for name, _ in pairs], dtype=np.int64), [state for _, state in pairs]

    def _draws(
        self,
        iteration: int,
        labels: Sequence[str | None],
        rngs: Sequence[np.random.Generator],
        chunk: Chunk | None,
    ) -> np.ndarray:
        """Returns a number for each row, uint64. Without ids it comes from a copy of the row's own stream."""
        if chunk is None or chunk.ids is None:
            keys = [int(copy.deepcopy(rng).integers(_WORD >> 1)) for rng in rngs]
            return np.array([_word(keyed_rng(key, 0, -1, "makers")) for key in keys], dtype=np.uint64)
        starts = {
            label: _word(keyed_rng(self._seed, iteration, -1, f"makers/{self._codes[label]}")) for label in set(labels)
        }
        pairs = zip(labels, chunk.ids, strict=True)
        return np.array([(starts[label] + int(i) * _STEP) % _WORD for label, i in pairs], dtype=np.uint64)

    def _about(self, place: int, chunk: Chunk | None) -> dict[str, Any]:
        """Returns the chunk for a paid generator, with its own journal and its own states, as a keyword argument."""
        if chunk is None or not isinstance(self._parts[place], PaidGenerator):
            return {}
        journal = None if chunk.journal is None else chunk.journal / self._makers[place].name
        population = chunk.population

        def own() -> pa.Table:
            assert population is not None
            return self._seen_by(place, population())

        return {"chunk": Chunk(journal=journal, population=None if population is None else own)}

    def _seen_by(self, place: int, population: pa.Table) -> pa.Table:
        """Returns the population with a maker's own states, null for candidates of others.

        A later call with the same population returns the same object.
        """
        found = self._population
        if found[0] is not population:
            self._population = found = population, {}
        kept = found[1]
        if place not in kept:
            owners, states = self._split(population["state"])
            mine = (owners == place).tolist()
            own = [state if is_mine else None for state, is_mine in zip(states, mine, strict=True)]
            kept[place] = with_states(population, own)
        return kept[place]

    def _put_together(self, owners: np.ndarray, make: Callable[[int, list[int]], pa.Table]) -> pa.Table:
        """Makes each maker's rows and puts them into the order of the request."""
        asked = np.unique(owners).tolist() or [0]
        tables: list[pa.Table] = []
        places = []
        for place in asked:
            rows = np.flatnonzero(owners == place)
            self._asked = rows.tolist()
            with of_maker(self._makers[place].name):
                made = checked_rows(make(place, rows.tolist()), len(rows))
            named = [with_maker(self._makers[place].name, state) for state in made["state"].to_pylist()]
            made = with_states(made, named)
            tables.append(made if not tables else made.select(tables[0].column_names).cast(tables[0].schema))
            places.append(rows)
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(tables).take(pa.array(order, pa.int64())).combine_chunks()


def _word(rng: np.random.Generator) -> int:
    return int(rng.integers(_WORD, dtype=np.uint64))


def _chosen(draws: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Maps 64-bit numbers to places by shares; int64."""
    edges = np.cumsum(shares)
    able = np.flatnonzero(shares)
    # Half-open intervals of [0, 1). The last maker with a share also gets the remainder of rounding.
    places = np.searchsorted(edges, draws.astype(np.float64) / _WORD, side="right")
    chosen: np.ndarray = np.minimum(places, able[-1]).astype(np.int64)
    return chosen
