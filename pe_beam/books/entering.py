"""A run enters a book before it spends, and gives back what it will never spend.

`book.json` in its directory, the receipt, says which book it has entered, and as which entry. It is written before the
book is changed: whoever is killed in between enters when it is run again, and finds the same line. From then on the
receipt holds the run to that book, whatever its recipe says later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pydantic import Field, ValidationError

from pe_beam.books.file import change_book, has_data, key_of, mark_of, read_book
from pe_beam.books.lines import Closed, Cost, Entered, Finished, Returned
from pe_beam.books.standing import Book, Entry, refuse_other_kind
from pe_beam.contracts.store import Store
from pe_beam.errors import InputError, PeBeamError, RecipeError
from pe_beam.keyed import encode_fields
from pe_beam.storage import open_store

RECEIPT = "book.json"


class Receipt(Closed):
    """Which book a run has entered.

    Attributes:
      place: where the book lay.
      book: which it is.
      entry: of the run.
    """

    version: Literal[1] = 1
    place: str
    book: str = Field(pattern=r"^[0-9a-f]{32}$")
    entry: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True, kw_only=True)
class Applicant:
    """A run, or a stream, that wants to enter a book, as its recipe says.

    Attributes:
      place: of the book; None: it says none.
      run_id: hash of its resolved recipe.
      name: of its recipe.
      unit: its privacy unit.
      adjacency: its neighbouring relation.
      cost: what it will spend at most.
      starts_from: digest -> mu^2 of each release, maybe over the same data, that it starts from.
    """

    place: str | None
    run_id: str
    name: str
    unit: str
    adjacency: str
    cost: Cost
    starts_from: dict[str, Fraction]


def read_receipt(store: Store) -> Receipt | None:
    """Returns the receipt of a run, or None if it has entered no book. Raises InputError if it is damaged."""
    if not store.exists(RECEIPT):
        return None
    try:
        return Receipt.model_validate(json.loads(store.read(RECEIPT)))
    except (ValueError, ValidationError):
        raise InputError(f"{store.at(RECEIPT)}: damaged; put it back as it was") from None


def enter(
    store: Store, who: Applicant, key: bytes, fingerprint: str | None, *, spent: bool, look: bool = False
) -> list[str]:
    """Reserves all that a run will spend, once; a run that is in the book already stays in it.

    Args:
      store: of the run directory.
      who: the run.
      key: its secret, to which its entry is bound.
      fingerprint: of its frozen data; None: a stream.
      spent: whether its ledger has lines already.
      look: whether to look for these very data in the books beside.

    Returns:
      What its holder should know: books beside that have runs on these data, or cannot be looked at.

    Raises:
      InputError: it does not fit, has given its budget back, has spent outside of the book, is in another book, or
        another run directory has entered with its secret.
    """
    receipt = read_receipt(store)
    place = who.place or (None if receipt is None else receipt.place)
    if place is None:
        return []
    kept = open_store(place)
    book = read_book(kept)
    entry = _entry(key, book.opened.book, who, fingerprint)
    if receipt is not None and (receipt.book, receipt.entry) != (book.opened.book, entry):
        raise InputError(_other_book(store, receipt, book))
    if spent and receipt is not None:
        _known(book, receipt, store)
    if spent and entry not in book.entries:
        raise InputError(
            f"privacy.book: the run in {store.uri} has spent outside of book {book.opened.name!r}, and enters none "
            "now; leave privacy.book away, or use a new run directory"
        )
    mine, new = Receipt(place=kept.uri, book=book.opened.book, entry=entry), receipt is None and not spent
    if new and entry in book.entries:
        raise _entered_before(_entry_of(book, mine, store), book)
    if mine != receipt:
        store.commit(RECEIPT, (mine.model_dump_json(indent=1) + "\n").encode(), replace=True)
    try:
        book = change_book(kept, lambda found: _entering(found, who, mine, store, fingerprint, new=new))
    except InputError:
        if receipt is None:
            store.delete(RECEIPT)
        raise
    return _other_books(book, fingerprint) if look and fingerprint is not None else []


def demand_entered(store: Store) -> bool:
    """Checks, before a spending, that a run's reservation stands. Returns False if the run is in no book.

    Raises:
      InputError: its line is gone, it has given its budget back, or the directory is a copy.
    """
    receipt = read_receipt(store)
    if receipt is None:
        return False
    book = _book_of(receipt)
    _refuse_copy(book, _entry_of(book, receipt, store), store)
    return True


def demand_counted(store: Store, place: str) -> None:
    """Checks that what a complete run has spent counts in the book that its holder names.

    Args:
      store: of the run directory.
      place: of the book.

    Raises:
      InputError: the run has entered no book, or another one.
    """
    receipt, book = read_receipt(store), read_book(open_store(place))
    if receipt is None:
        raise InputError(
            f"privacy.book: the run in {store.uri} is complete and has spent outside of book {book.opened.name!r}, "
            "which does not count it; leave privacy.book away, or use a new run directory"
        )
    if receipt.book != book.opened.book:
        raise InputError(_other_book(store, receipt, book))


def note_finished(store: Store, release: str) -> None:
    """Notes the release of a complete run in its book, if it is in one.

    Args:
      store: of the run directory.
      release: digest of the release.

    Raises:
      InputError: its line is gone, or another release was noted before: that of a copy of the directory.
    """
    receipt = read_receipt(store)
    if receipt is None:
        return

    def change(book: Book) -> Finished | None:
        noted = _entry_of(book, receipt, store).release
        if noted not in (None, release):
            raise InputError(
                f"book {book.opened.name!r}: another release of the run in {store.uri} was noted before, of a copy of "
                "this directory: both have spent, and the book counts one; its total no longer covers both releases"
            )
        return Finished(entry=receipt.entry, release=release) if noted is None else None

    change_book(open_store(receipt.place), change)


def give_back(store: Store, written: Sequence[int]) -> tuple[Book, Entry]:
    """Closes the entry of a run that can never spend again, and frees what it has not spent.

    Args:
      store: of the run directory, under its lock.
      written: iterations that its ledger has lines for.

    Returns:
      The book and the entry afterwards. An entry that was closed before stays as it is.

    Raises:
      InputError: the run is in no book, or its release is complete.
    """
    receipt, _ = find_entry(store)

    def change(book: Book) -> Returned | None:
        if _known(book, receipt, store).written is not None:
            return None
        return Returned(entry=receipt.entry, iterations=sorted(written))

    book = change_book(open_store(receipt.place), change)
    return book, book.entries[receipt.entry]


def demand_return(store: Store) -> None:
    """Makes sure, before the secret of a run is destroyed, that its ledger says all that its entry has spent.

    Raises:
      InputError: the run is in no book, its line is gone, or the directory is a copy, which knows its own lines alone.
    """
    _, book, entry = _found(store)
    if entry.written is None:
        _refuse_copy(book, entry, store)


def find_entry(store: Store) -> tuple[Receipt, Entry]:
    """Returns the receipt of a run and its entry. Raises InputError if it is in no book, or its line is gone."""
    receipt, _, entry = _found(store)
    return receipt, entry


def _found(store: Store) -> tuple[Receipt, Book, Entry]:
    receipt = read_receipt(store)
    if receipt is None:
        raise InputError(f"{store.uri}: has entered no budget book (it has no {RECEIPT})")
    book = _book_of(receipt)
    return receipt, book, _known(book, receipt, store)


def _entry(key: bytes, book: str, who: Applicant, fingerprint: str | None) -> str:
    """The HMAC that binds an entry to book, recipe, data and cost (rule 15), and tells nothing of secret or data."""
    cost = json.dumps(who.cost.model_dump(mode="json"), sort_keys=True)
    fields = encode_fields("pe_beam/book", 1, book, who.run_id, fingerprint or "", cost)
    return hmac.new(key, fields, hashlib.sha256).hexdigest()


def _book_of(receipt: Receipt) -> Book:
    book = read_book(open_store(receipt.place))
    if book.opened.book != receipt.book:
        raise InputError(f"{receipt.place}: not the book that this run has entered; put that one back")
    return book


def _known(book: Book, receipt: Receipt, store: Store) -> Entry:
    """Returns the entry of a run. Raises InputError if there is none."""
    found = book.entries.get(receipt.entry)
    if found is None or book.opened.book != receipt.book:
        raise InputError(
            f"book {book.opened.name!r}: the line of the run in {store.uri} is not there; put the newest book back, "
            "for what an older copy does not know of would be spent twice"
        )
    return found


def _entry_of(book: Book, receipt: Receipt, store: Store) -> Entry:
    """Returns the entry of a run that may still spend. Raises InputError if there is none."""
    found = _known(book, receipt, store)
    if found.written is not None:
        raise InputError(
            f"book {book.opened.name!r}: the run in {store.uri} has given its budget back, and can never spend more; "
            "use a new run directory"
        )
    return found


def _refuse_copy(book: Book, entry: Entry, store: Store) -> None:
    """Refuses a run that goes on, or gives back, in a copy of its directory: the entry pays for one of them.

    A generator that answers otherwise makes other votes there, and so a second noise.

    Raises:
      InputError: the run is complete in another directory, or the one from which it has entered is there still.
    """
    if entry.release is not None:
        raise InputError(
            f"book {book.opened.name!r}: the run in {store.uri} is complete elsewhere, and this is an older copy of "
            "its directory, which would spend again; use the complete one, or a new run directory"
        )
    if _is_elsewhere(entry, store):
        raise InputError(
            f"book {book.opened.name!r}: the run in {store.uri} has entered from {entry.line.directory}, which is "
            "there still: of two copies that go on the book counts one. Go on there, or take that one away"
        )


def _is_elsewhere(entry: Entry, store: Store) -> bool:
    """Returns whether the directory from which a run has entered is another one, and is still there: not moved."""
    if entry.line.directory == store.uri:
        return False
    try:
        first = open_store(entry.line.directory)
        held = read_receipt(first)
        return held is not None and held.entry == entry.line.entry and first.place() != store.place()
    except PeBeamError:
        return False  # it cannot be looked at, as the disk of another machine


def _entering(
    book: Book, who: Applicant, receipt: Receipt, store: Store, fingerprint: str | None, *, new: bool
) -> Entered | None:
    """Returns the line with which a run enters, or None if it is in the book already. `new`: it was not before."""
    if receipt.entry in book.entries:
        found = _entry_of(book, receipt, store)
        # Its own line may be there: a store may answer late and be asked again.
        if new and found.line.directory != store.uri:
            raise _entered_before(found, book)
        _refuse_copy(book, found, store)
        return None
    planned = demand_fit(book, who)
    salt = secrets.token_hex(16)
    return Entered(
        entry=receipt.entry,
        run_id=who.run_id,
        name=who.name,
        directory=store.uri,
        cost=who.cost,
        planned=planned,
        salt=salt,
        mark=None if fingerprint is None else mark_of(key_of(open_store(receipt.place)), salt, fingerprint),
    )


def demand_fit(book: Book, who: Applicant) -> int | None:
    """Returns the planned place that a run would take, or None: it would take from what is left.

    Raises:
      InputError: it does not fit, is of another kind, or starts from a release that is not in the book.
    """
    refuse_other_kind(book.opened, unit=who.unit, adjacency=who.adjacency)
    for digest, spent in who.starts_from.items():
        entry = book.released(digest)
        if entry is None or entry.line.cost.squared() < spent:
            raise RecipeError(
                f"evolution.start: release {digest[:12]} is not of a run in book {book.opened.name!r}, and what it has "
                "spent is not in its total; allowed: a finished run of this book, or one of other data or a public "
                "one, where that is so (disjoint: true, public: true)"
            )
    return book.demand_room(who.run_id, who.cost)


def _other_book(store: Store, receipt: Receipt, book: Book) -> str:
    if receipt.book != book.opened.book:
        return f"privacy.book: the run in {store.uri} has entered another book, {receipt.place}; it stays in it"
    return (
        f"{RECEIPT}: the run in {store.uri} has entered book {book.opened.name!r} with another secret, other data "
        "or another recipe; put them back as they were, or use a new run directory"
    )


def _entered_before(found: Entry, book: Book) -> InputError:
    """Two run directories may draw two noises with one secret, and their entry would pay for one of them."""
    return InputError(
        f"book {book.opened.name!r}: a run with this secret, recipe and data has entered from {found.line.directory}; "
        f"a secret is for one run directory. Leave --secret-file away to enter anew, or put {RECEIPT} of that run back"
    )


def _other_books(book: Book, fingerprint: str) -> list[str]:
    """Returns a sentence for each book beside that has a run on these very data, or cannot be looked at."""
    found = []
    for place in book.beside:
        try:
            other = open_store(place)
            theirs = read_book(other)
            if has_data(other, theirs, fingerprint):
                found.append(
                    f"book {theirs.opened.name!r} ({place}) has a run on these very data too: what it and book "
                    f"{book.opened.name!r} promise adds up. Data that overlap belong to one book"
                )
        except PeBeamError as error:
            found.append(f"book beside, {place}: cannot be looked at ({error})")
    return found
