"""What follows from the lines of a book: who has entered, what is left, and whether another run fits (rule 17)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from pe_beam.books.lines import Beside, Cost, Entered, Finished, Line, Opened, Returned, exact_sum, parse_lines, squared
from pe_beam.books.total import keeps_total
from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy import accounting
from pe_beam.privacy.statement import rounded_up


@dataclass(frozen=True)
class Entry:
    """A run in a book.

    Attributes:
      line: with which it entered.
      release: digest of its complete release, or None.
      written: iterations that its ledger had lines for when it gave the rest back; None: it has not.
    """

    line: Entered
    release: str | None = None
    written: tuple[int, ...] | None = None

    @property
    def state(self) -> str:
        """Returns how far the run is."""
        return "complete" if self.release is not None else "entered" if self.written is None else "returned"

    def counted(self) -> Fraction:
        """Returns mu^2 that counts against what is not planned: all that is reserved, or all that was written."""
        return Fraction(0) if self.line.planned is not None else self.line.cost.squared(self.written)


@dataclass(frozen=True)
class Book:
    """A book as its lines say.

    Attributes:
      opened: its first line.
      entries: entry -> run, in the order of their entering.
      beside: places of other books over other data.
    """

    opened: Opened
    entries: dict[str, Entry]
    beside: tuple[str, ...]

    @property
    def total(self) -> Fraction:
        """Returns mu^2 that all runs which are not planned may spend together."""
        z = self.opened.noise_multiplier
        return Fraction(0) if z is None else squared([z])

    @cached_property
    def left(self) -> Fraction:
        """Returns mu^2 that is free."""
        return exact_sum([self.total, *(-entry.counted() for entry in self.entries.values())])

    def demand_total(self) -> None:
        """Raises InputError if the opening promises more than its noise keeps: somebody edited it."""
        told = self.opened
        planned = [each for place in told.planned for each in place.cost.spendings()]
        if not keeps_total(planned, told.noise_multiplier, epsilon=told.epsilon, delta=told.delta):
            raise InputError(f"book {told.name!r}: its opening was changed; put the book back as it was")

    def free_place(self, run_id: str) -> int | None:
        """Returns the number of a planned place of this recipe that no run has, or None."""
        held = held_places(self.entries.values())
        found = (i for i, place in enumerate(self.opened.planned) if place.run_id == run_id and i not in held)
        return next(found, None)

    def released(self, digest: str) -> Entry | None:
        """Returns the finished run with a release."""
        return next((e for e in self.entries.values() if e.release == digest), None)

    def demand_room(self, run_id: str, cost: Cost) -> int | None:
        """Returns the planned place that a run takes, or None if it takes from what is left.

        Raises:
          InputError: it does not fit. The message says what is left and what the run would take.
        """
        place = self.free_place(run_id)
        if place is not None and cost == self.opened.planned[place].cost:
            return place
        if cost.squared() > self.left:
            raise InputError(self._too_much(cost))
        return None

    def _too_much(self, cost: Cost) -> str:
        told = self.opened
        sampled = " (as if all had voted: no free place of the plan is for it)" * (cost.sampling_rate < 1)
        return (
            f"book {told.name!r}: {told_left(self)}, of a total of epsilon {told.epsilon:g} at delta {told.delta:g}; "
            f"this run would take mu {rounded_up(root(cost.squared()), 4)}, as privacy.epsilon "
            f"{rounded_up(epsilon_of(cost.squared(), told.delta), 4)}{sampled}. Nothing is spent. Allowed: more noise "
            "or fewer iterations, or what a run that ended early gives back (`pe-beam book return`)"
        )


def held_places(entries: Iterable[Entry]) -> set[int | None]:
    """Returns the planned places that are taken. A run that gave its place back unspent leaves it to another."""
    return {entry.line.planned for entry in entries if entry.written != ()}


def told_left(book: Book) -> str:
    """Returns what is left, in words, rounded down."""
    left = book.left
    if left <= 0:
        return "nothing is left"
    epsilon = epsilon_of(left, book.opened.delta)
    return f"mu {_rounded_down(root(left))} is left, enough for one run of privacy.epsilon {_rounded_down(epsilon)}"


def to_json(book: Book) -> dict[str, Any]:
    """Returns a book as plain data, for its holder."""
    told = book.opened
    return {
        "book": told.book,
        "name": told.name,
        "epsilon": told.epsilon,
        "delta": told.delta,
        "unit": told.unit,
        "adjacency": told.adjacency,
        "planned": [place.model_dump(mode="json") for place in told.planned],
        "noise_multiplier": told.noise_multiplier,
        "mu": root(book.total),
        "mu_left": root(book.left),
        "epsilon_of_one_run_more": epsilon_of(book.left, told.delta),
        "beside": list(book.beside),
        "entries": [
            {
                "name": entry.line.name,
                "directory": entry.line.directory,
                "run_id": entry.line.run_id,
                "state": entry.state,
                "planned": entry.line.planned,
                "cost": entry.line.cost.model_dump(mode="json"),
                "lines_written": None if entry.written is None else list(entry.written),
                "mu_counted": root(entry.counted()),
                "release": entry.release,
            }
            for entry in book.entries.values()
        ],
    }


def _rounded_down(value: float) -> str:
    """Returns four digits, rounded down but for what float64 and the root of epsilon lose."""
    value *= 1 + 1e-9
    digits = 3 - math.floor(math.log10(value)) if value else 3
    scaled = math.floor(value * 10**digits) / 10**digits
    return f"{scaled:.4g}"


def root(square: Fraction) -> float:
    """Returns mu of mu^2, to float64."""
    return math.sqrt(max(square, Fraction(0)))


def epsilon_of(square: Fraction, delta: float) -> float:
    """Returns epsilon at delta of a Gaussian mechanism of some mu^2; 0 for none."""
    return accounting.spent_epsilon([1 / root(square)], delta) if square > 0 else 0.0


def parse_book(data: bytes) -> Book:
    """Returns the book that some bytes hold.

    Raises:
      InputError: it is damaged, its runs do not belong together, or they spend more than its total.
    """
    opened, *lines = parse_lines(data)
    assert isinstance(opened, Opened)
    entries: dict[str, Entry] = {}
    beside = list(opened.beside)
    for number, line in enumerate(lines, start=2):
        if not _follows(opened, entries, line):
            raise InputError(f"book {opened.name!r}: line {number} does not fit those before it; put the book back")
        if isinstance(line, Entered):
            entries[line.entry] = Entry(line)
        elif isinstance(line, Finished):
            entries[line.entry] = Entry(entries[line.entry].line, line.release)
        elif isinstance(line, Returned):
            entries[line.entry] = Entry(entries[line.entry].line, written=tuple(line.iterations))
        elif isinstance(line, Beside):
            beside.append(line.place)
    found = Book(opened, entries, tuple(dict.fromkeys(beside)))
    if found.left < 0:
        raise InputError(f"book {opened.name!r}: its runs spend more than its total; put the book back as it was")
    return found


def _follows(opened: Opened, entries: dict[str, Entry], line: Line) -> bool:
    """Returns whether a line can stand after those before it."""
    if isinstance(line, Entered):
        planned = line.planned is None or (
            line.planned < len(opened.planned)
            and (opened.planned[line.planned].run_id, opened.planned[line.planned].cost) == (line.run_id, line.cost)
            and line.planned not in held_places(entries.values())
        )
        return line.entry not in entries and planned
    if isinstance(line, Finished | Returned):
        entry = entries.get(line.entry)
        known = entry is not None and entry.written is None and entry.release is None
        return known and (isinstance(line, Finished) or set(line.iterations) <= {*_iterations(entry)})
    return isinstance(line, Beside)


def _iterations(entry: Entry | None) -> Sequence[int]:
    return [] if entry is None else list(entry.line.cost.by_iteration())


def refuse_other_kind(opened: Opened, *, unit: str, adjacency: str) -> None:
    """Raises RecipeError for a run whose promise is of another kind than a book's."""
    for key, mine, wanted in (("unit", unit, opened.unit), ("adjacency", adjacency, opened.adjacency)):
        if mine != wanted:
            raise RecipeError(
                f"privacy.{key}: {mine}, but book {opened.name!r} adds up runs with {wanted} alone; another promise is "
                "another book"
            )
