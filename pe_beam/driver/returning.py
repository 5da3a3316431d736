"""A run gives back to its book what it will never spend, and is compared with what it has reserved (rule 17)."""

from __future__ import annotations

from collections.abc import Iterator

from pe_beam.books import entering
from pe_beam.books.standing import Book, Entry
from pe_beam.contracts.store import Store
from pe_beam.custody import keeping
from pe_beam.driver import booking
from pe_beam.driver.budget import check_ledger, ledger_lines
from pe_beam.driver.finalize import is_complete
from pe_beam.engine.frozen import read_index
from pe_beam.engine.queries import spending_iterations
from pe_beam.engine.run import Run, open_run
from pe_beam.engine.spending import refuse_unless_paid
from pe_beam.errors import InputError, PeBeamError
from pe_beam.privacy import ledger
from pe_beam.privacy.secret import SECRET, read_secret


def give_back(run_dir: str) -> tuple[Book, Entry]:
    """Ends a run for good, and frees in its book what its ledger has no line for.

    The secret is destroyed first, and its tombstone stays, so that nothing can be drawn for this run any more; then the
    entry is closed. Whoever is killed in between calls it again.

    Returns:
      The book and the run's entry afterwards.

    Raises:
      InputError: the run is in no book, has nothing to give back, or its ledger does not agree with what it has made;
        or the directory is a copy.
      SecretError, ServiceError: the secret is not known to be gone; nothing is given back.
      LockedError: a process is at work there.
    """
    run = open_run(run_dir)
    with run.store.lock():
        entering.find_entry(run.store)
        if is_complete(run):
            raise InputError(f"{run_dir}: the run is complete; it has spent all, and nothing is left to give back")
        entering.demand_return(run.store)
        ledger.repair_ledger(run.store)
        check_ledger(run)
        written = [line.iteration for line in ledger_lines(run)]
        if sorted(written) == spending_iterations(run):
            raise InputError(
                f"{run_dir}: its ledger has all of its lines, so nothing is left to give back; `pe-beam run` goes on"
            )
        keeping.forget_secret(run.store)
        return entering.give_back(run.store, written)


def holds_budget(run_dir: str) -> bool:
    """Returns whether a book may have reserved for a run what it never spends."""
    run = open_run(run_dir)
    if entering.read_receipt(run.store) is None or is_complete(run):
        return False
    try:
        return entering.find_entry(run.store)[1].written is None
    except PeBeamError:
        return True  # the book cannot be looked at now


def check_entry(book: Book, entry: Entry, store: Store) -> list[str]:
    """Compares the ledger and the release of a run with its entry.

    A complete release that was not noted yet, as of a run whose last job nobody waited for, is noted.

    Args:
      book: that it has entered.
      entry: its entry.
      store: of its directory.

    Returns:
      A sentence for each fault; none if all is well.
    """
    try:
        run = open_run(store.uri)
        faults = list(_faults(run, book, entry))
        if not faults and is_complete(run) and entry.release is None:
            booking.note_finished(run)
        return faults
    except PeBeamError as error:
        return [str(error)]


def _faults(run: Run, book: Book, entry: Entry) -> Iterator[str]:
    receipt, reserved = entering.read_receipt(run.store), entry.line.cost.by_iteration()
    if receipt is None or (receipt.book, receipt.entry) != (book.opened.book, entry.line.entry):
        yield f"{entering.RECEIPT}: does not name this entry; another run lies there, or it was changed"
        return
    if run.run_id != entry.line.run_id:
        yield "recipe.yaml: another recipe than the one that entered"
        return
    check_ledger(run)
    lines = ledger_lines(run)
    for line in lines:
        if line.noise_multiplier != reserved.get(line.iteration):
            yield f"ledger.jsonl: iteration {line.iteration} was spent otherwise than it was reserved"
    if entry.written is not None and {line.iteration for line in lines} != {*entry.written}:
        yield "ledger.jsonl: has other lines than when the rest was given back"
    if run.store.exists(SECRET) and read_index(run) is not None:
        for line in lines:
            refuse_unless_paid(run, line, read_secret(run.store))
    if entry.release is not None and is_complete(run) and booking.released(run) != entry.release:
        yield "the release is not the one that was noted when it was complete"
