"""`pe-beam book`: opens, shows and checks a budget over runs, and gives back what a run did not spend."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pe_beam.cli.terminal import print_json, printable
from pe_beam.errors import InputError


def add_book(command: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    commands = command.add_subparsers(required=True, metavar="WHAT")

    def add(name: str, function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(command=function)
        found.add_argument("--json", action="store_true", help="print one JSON object")
        return found

    opened = add("open", _open, "opens a book; what it promises is fixed from then on")
    opened.add_argument("book", metavar="BOOK", help="a new folder, or the URL of a store")
    opened.add_argument("--name", required=True, metavar="NAME", help="as its holder calls it")
    opened.add_argument("--epsilon", required=True, type=float, metavar="E", help="of all its runs together")
    opened.add_argument("--delta", required=True, type=float, metavar="D", help="of all its runs together")
    opened.add_argument("--unit", default="record", choices=("record", "client"), help="that of every run")
    opened.add_argument(
        "--adjacency",
        default="add-or-remove-one",
        choices=("add-or-remove-one", "replace-one"),
        help="that of every run",
    )
    opened.add_argument(
        "--plan", action="append", default=[], metavar="RECIPE", help="of a run on samples, whose sampling then counts"
    )
    opened.add_argument("--beside", action="append", default=[], metavar="BOOK", help="a book over other data")
    show = add("show", _show, "what a book promises, who has entered, and what is left")
    show.add_argument("book", metavar="BOOK", help="its folder, or the URL of a store")
    check = add("check", _check, "compares each run's ledger with what it has reserved")
    check.add_argument("book", metavar="BOOK", help="its folder, or the URL of a store")
    back = add("return", _return, "ends a run for good, and gives back what its ledger has no line for")
    back.add_argument("dir", metavar="DIR", help="of a run or a stream")


def place_of(book: str) -> str:
    """Returns the place of a book that an option names, a path made absolute."""
    return book if "://" in book else str(Path(book).absolute())


def _open(options: argparse.Namespace) -> None:
    from pe_beam.books.file import create_book
    from pe_beam.driver.booking import planned_places
    from pe_beam.recipe.loading import load_recipe

    book = create_book(
        place_of(options.book),
        name=options.name,
        epsilon=options.epsilon,
        delta=options.delta,
        unit=options.unit,
        adjacency=options.adjacency,
        planned=planned_places([load_recipe(path) for path in options.plan]),
        beside=[place_of(each) for each in options.beside],
    )
    _tell(book, options, [])


def _show(options: argparse.Namespace) -> None:
    from pe_beam.books.file import read_book
    from pe_beam.storage import open_store

    book = read_book(open_store(place_of(options.book)))
    _tell(book, options, [_row(entry) for entry in book.entries.values()])


def _tell(book: Any, options: argparse.Namespace, rows: list[str]) -> None:
    from pe_beam.books.standing import held_places, to_json, told_left

    if options.json:
        print_json(to_json(book))
        return
    told = book.opened
    print(f"book {told.name}: epsilon {told.epsilon:g}, delta {told.delta:g} over all its runs together")
    print(f"({told.adjacency}; unit: {told.unit}; fixed when it was opened)")
    for number, place in enumerate(told.planned):
        state = "taken" if number in held_places(book.entries.values()) else "free"
        print(f"planned: {printable(place.name)}, on samples ({state})")
    print(f"{told_left(book)} at delta {told.delta:g}")
    for row in rows:
        print(row)
    for place in book.beside:
        print(f"beside: {printable(place)}")
    print("The total is the promise. What is spent or reserved so far is none by itself.")


def _row(entry: Any) -> str:
    from pe_beam.books.standing import root

    counted = "planned" if entry.line.planned is not None else f"mu {root(entry.counted()):.4g}"
    told = entry.line  # another holder of the book may have written it
    return f"  {printable(told.name):<24} {entry.state:<9} {counted:<12} {printable(told.directory)}"


def _check(options: argparse.Namespace) -> None:
    from pe_beam.streams.booking import check

    found = check(place_of(options.book))
    faulty = [each for each in found if each.faults]
    if options.json:
        rows = [{"directory": e.entry.line.directory, "found": e.found, "faults": e.faults} for e in found]
        print_json({"entries": rows})
    elif not found:
        print("no run has entered yet")
    else:
        for each in found:
            state = "not there; all that it has reserved counts on" if not each.found else "as reserved"
            print(f"{printable(each.entry.line.directory)}: {'; '.join(each.faults) or state}")
    if faulty:
        raise InputError(f"book: {len(faulty)} of {len(found)} entries differ from their directories")


def _return(options: argparse.Namespace) -> None:
    from pe_beam.books.standing import to_json
    from pe_beam.streams.booking import give_back

    book, entry = give_back(options.dir)
    if options.json:
        print_json(to_json(book))
        return
    print(f"{options.dir}: ended for good; {len(entry.written or ())} ledger lines stay spent, the rest is given back")
    _tell(book, options, [])
