"""A stream and its budget book: it reserves once, before its first window, what all of its windows cost one unit.

Also what is asked of any entry of a book, be it a run or a stream: to give back, and to be compared with its ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

from pe_beam.books import entering
from pe_beam.books.file import read_book
from pe_beam.books.standing import Book, Entry
from pe_beam.contracts.store import Store
from pe_beam.driver import booking, returning
from pe_beam.errors import InputError, PeBeamError
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.windows import registry_key
from pe_beam.storage import open_store
from pe_beam.streams.ledger import read_lines
from pe_beam.streams.promise import stored_recipe
from pe_beam.streams.status import is_stream


def enter(recipe: Recipe, store: Store) -> None:
    """Reserves a stream's mu in its book, if it has one. Its entry is bound to the key of its registry.

    Raises:
      InputError: as `entering.enter`. No window is closed and nothing is spent.
    """
    if recipe.privacy.book is None and entering.read_receipt(store) is None:
        return
    who = booking.applicant(recipe)
    entering.enter(store, who, registry_key(store.uri), None, spent=bool(read_lines(store)))


def give_back(place: str) -> tuple[Book, Entry]:
    """Ends a run for good, or a stream without a ledger line, and frees in its book what it has not spent.

    Returns:
      The book and the entry afterwards.

    Raises:
      InputError: as `returning.give_back`, or a window of the stream has spent.
    """
    store = open_store(place)
    if not is_stream(store):
        return returning.give_back(place)
    with store.lock():
        if read_lines(store):
            raise InputError(
                f"{place}: a window of this stream has spent, and with that the stream its whole mu: nothing is left "
                "to give back"
            )
        entering.demand_return(store)
        return entering.give_back(store, [])


@dataclass(frozen=True)
class Checked:
    """An entry of a book, compared with its directory.

    Attributes:
      entry: as the book has it.
      found: whether its directory is there; if not, all that is reserved counts on.
      faults: a sentence for each.
    """

    entry: Entry
    found: bool
    faults: list[str]


def check(place: str) -> list[Checked]:
    """Compares all runs and streams of a book with what they have reserved.

    Raises:
      InputError: there is no book, it is damaged, or its runs spend more than its total.
    """
    book = read_book(open_store(place))
    book.demand_total()
    return [_checked(book, entry) for entry in book.entries.values()]


def _checked(book: Book, entry: Entry) -> Checked:
    try:
        store = open_store(entry.line.directory)
        if not store.exists("recipe.yaml"):
            return Checked(entry, False, [])
        streams = is_stream(store)
        return Checked(entry, True, (_stream_faults if streams else returning.check_entry)(book, entry, store))
    except PeBeamError as error:
        return Checked(entry, True, [str(error)])


def _stream_faults(book: Book, entry: Entry, store: Store) -> list[str]:
    receipt, reserved = entering.read_receipt(store), entry.line.cost.by_iteration()
    if receipt is None or (receipt.book, receipt.entry) != (book.opened.book, entry.line.entry):
        return [f"{entering.RECEIPT}: does not name this entry; another stream lies there, or it was changed"]
    if run_id(stored_recipe(store)) != entry.line.run_id:
        return ["recipe.yaml: another recipe than the one that entered"]
    lines = read_lines(store)
    faults = [
        f"stream-ledger.jsonl: window {line['window']} was spent otherwise than it was reserved"
        for line in lines
        if line["noise_multiplier"] != reserved.get(line["iteration"])
    ]
    if entry.written is not None and lines:
        faults.append("stream-ledger.jsonl: has lines, although all was given back")
    return faults
