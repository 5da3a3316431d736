"""A book in a store: a folder with `book.jsonl`, which changes by compare and swap, and `private/key`.

The key is for marks of data alone. A bare digest of the data is private (rule 7), and so is whether two runs had the
same data: so each mark is an HMAC under the key with a salt of its own, and without the key no mark says anything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence

from pe_beam.books.lines import BOOK, NAME, Adjacency, Beside, Line, Opened, Place, Unit, line_bytes
from pe_beam.books.standing import Book, parse_book, refuse_other_kind
from pe_beam.books.total import room_beside
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError
from pe_beam.keyed import encode_fields
from pe_beam.storage import open_store

KEY = "private/key"
KEY_BYTES = 32


def create_book(
    place: str,
    *,
    name: str,
    epsilon: float,
    delta: float,
    unit: Unit = "record",
    adjacency: Adjacency = "add-or-remove-one",
    planned: Sequence[Place] = (),
    beside: Sequence[str] = (),
) -> Book:
    """Creates the files of a new book. What it promises is fixed from now on.

    Args:
      place: a folder, or the URL of a store, that holds no book yet.
      name: as its holder calls it.
      epsilon: of all its runs together, 0.001 to 1000.
      delta: of all its runs together, above 0 and below 1.
      unit: that of every run.
      adjacency: that of every run.
      planned: runs on samples whose parameters are fixed here; of recipes, `driver.booking.planned_places`.
      beside: places of books over other data; each gets a line that names this one.

    Raises:
      InputError: there is a book, a value is out of its range, the planned runs take too much, or a book beside it is
        none.
    """
    store = open_store(place)
    if store.exists(BOOK):
        raise InputError(f"{store.uri}: holds a book; its total was fixed when it was opened. A new place is wanted")
    others = [open_store(each) for each in beside]
    for other in others:
        read_book(other)
    if not (1e-3 <= epsilon <= 1000 and 0 < delta < 1):
        raise InputError("book: an epsilon of 0.001 to 1000 and a delta above 0 and below 1 are wanted")
    if not re.fullmatch(NAME, name):
        raise InputError("book: a name of at most 64 letters, digits, spaces and ._- is wanted")
    room = room_beside([s for each in planned for s in each.cost.spendings()], epsilon=epsilon, delta=delta)
    line = Opened(
        book=secrets.token_hex(16),
        name=name,
        epsilon=epsilon,
        delta=delta,
        unit=unit,
        adjacency=adjacency,
        planned=list(planned),
        noise_multiplier=room,
        beside=[other.uri for other in others],
    )
    for each in planned:
        refuse_other_kind(line, unit=each.unit, adjacency=each.adjacency)
    store.protect("private")
    store.commit(KEY, secrets.token_bytes(KEY_BYTES))
    if not store.commit(BOOK, line_bytes(line, b"")):
        raise InputError(f"{store.uri}: somebody else has opened a book there just now; a new place is wanted")
    for other in others:
        change_book(other, lambda _: Beside(place=store.uri))
    return read_book(store)


def read_book(store: Store) -> Book:
    """Returns the book in a store. Raises InputError if there is none or it is damaged."""
    if not store.exists(BOOK):
        raise _no_book(store)
    try:
        return parse_book(store.read(BOOK))
    except InputError as error:
        raise InputError(f"{store.uri}: {error}") from None


def _no_book(store: Store) -> InputError:
    return InputError(f"{store.uri}: not a budget book (it has no {BOOK}); `pe-beam book open` makes one")


def change_book(store: Store, change: Callable[[Book], Line | None]) -> Book:
    """Adds a line to a book by compare and swap.

    Args:
      store: of the book.
      change: the book as it is -> the line to add, or None to leave it. It may be called several times; what it raises
        leaves the book as it was.

    Returns:
      The book with that line.

    Raises:
      InputError: there is no book, or it is damaged.
    """
    found: Book | None = None

    def write(before: bytes | None) -> bytes:
        nonlocal found
        if before is None:
            raise _no_book(store)
        found = parse_book(before)
        line = change(found)
        if line is None:
            return before
        after = before + line_bytes(line, before)
        found = parse_book(after)
        return after

    store.update(BOOK, write)
    assert found is not None
    return found


def mark_of(key: bytes, salt: str, fingerprint: str) -> str:
    """Returns what a book holds in place of the fingerprint of a run's data."""
    return hmac.new(key, encode_fields("pe_beam/book-mark", 1, salt, fingerprint), hashlib.sha256).hexdigest()


def key_of(store: Store) -> bytes:
    """Returns the key of a book. Raises InputError if it is missing or damaged."""
    key = store.read_range(KEY, 0, KEY_BYTES + 1) if store.exists(KEY) else b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{store.at(KEY)}: missing or damaged; without it no run enters the book. Put it back")
    return key


def has_data(store: Store, book: Book, fingerprint: str) -> bool:
    """Returns whether a run of a book had data of this fingerprint. Raises as `key_of`."""
    key = key_of(store)
    marks = [(entry.line.mark, entry.line.salt) for entry in book.entries.values() if entry.line.mark is not None]
    return any(hmac.compare_digest(mark, mark_of(key, salt, fingerprint)) for mark, salt in marks)
