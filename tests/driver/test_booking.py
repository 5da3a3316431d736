"""Runs in a budget book: they enter before they spend, are refused before anything is spent, and give back."""

from __future__ import annotations

import copy
import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pe_beam.books import entering
from pe_beam.books.entering import RECEIPT
from pe_beam.books.file import create_book, read_book
from pe_beam.books.standing import Book
from pe_beam.cli.main import main
from pe_beam.driver import loop
from pe_beam.driver.loop import evolve
from pe_beam.driver.purge import purge
from pe_beam.driver.returning import give_back
from pe_beam.driver.status import status
from pe_beam.engine import steps
from pe_beam.engine.run import Run, open_run
from pe_beam.errors import InputError, PeBeamError, RecipeError, SecretError
from pe_beam.keyed import keyed_rng
from pe_beam.privacy.ledger import LEDGER
from pe_beam.recipe.identity import run_id, to_yaml
from pe_beam.recipe.loading import load_recipe, parse_recipe
from pe_beam.storage import open_store
from pe_beam.streams.booking import check

RECIPE: dict[str, Any] = {
    "name": "four",
    "data": {"source": "jsonl", "schema": {"columns": {"x": {"type": "integer", "min": 0, "max": 19}}}},
    "modality": "tabular",
    "generator": {"name": "tabular"},
    "embedder": {"name": "tabular"},
    "evolution": {"iterations": 1, "samples": 4},
    "privacy": {"noise_multiplier": 5, "delta": 1e-6},
}
ROUND = Fraction(1, 25)
"""mu^2 of an iteration."""


@pytest.fixture
def place(tmp_path) -> str:
    """A book that is opened for little more than three iterations of the recipe."""
    book = create_book(str(tmp_path / "book"), name="all", epsilon=1.4, delta=1e-5)
    assert 3 * ROUND < book.total < 4 * ROUND
    return str(tmp_path / "book")


def recipe(folder: Path, place: str | None, **changes: Any) -> Any:
    raw = copy.deepcopy(RECIPE)
    (folder / "rows.jsonl").write_text("".join(f'{{"x": {x}}}\n' for x in (1, 2, 3)))
    raw["data"]["path"] = str(folder / "rows.jsonl")
    raw["privacy"] |= {"book": place} if place else {}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        raw[section] = raw[section] | {name: value} if name else value
    return parse_recipe(raw)


def books(place: str) -> Book:
    return read_book(open_store(place))


def spent(place: str) -> Fraction:
    return books(place).total - books(place).left


def stop_at(iteration: int, *given: Any) -> None:
    """A run that stops before a vote: nothing of that iteration is spent."""
    real = loop.run_iteration

    def stop(run: Run, at: int, job: Any) -> None:
        if at == iteration:
            raise PeBeamError("stopped")
        real(run, at, job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_iteration", stop)
        with pytest.raises(PeBeamError, match="stopped"):
            evolve(*given)


def test_runs_enter_once_start_from_each_other_and_stop_at_the_total(tmp_path, place, capsys):
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    first = recipe(tmp_path, place)
    stop_at(1, first, one)
    assert spent(place) == ROUND  # reserved before its first line
    assert not open_store(one).exists(LEDGER)
    evolve(recipe(tmp_path, None), one)  # a resume that forgets the book stays in it
    evolve(first, one)
    assert spent(place) == ROUND and len(books(place).entries) == 1
    start = {"release": one}
    with pytest.raises(RecipeError, match="not of a run in book"):
        outside = str(tmp_path / "other")
        create_book(outside, name="other", epsilon=8, delta=1e-5)
        evolve(recipe(tmp_path, outside, evolution__start=start), two)
    with pytest.raises(InputError, match=f"entered another book, {place}"):
        evolve(recipe(tmp_path, outside), one)  # complete, and of another book than is said now
    evolve(recipe(tmp_path, place, evolution__start=start), two)
    assert spent(place) == 2 * ROUND  # its own alone: that of the first is there already
    capsys.readouterr()
    with pytest.raises(InputError, match=r"book 'all': mu 0.2.* is left.*would take mu 0.2829"):
        evolve(recipe(tmp_path, place, evolution__iterations=2), three)
    assert not any(open_store(three).exists(name) for name in (LEDGER, RECEIPT, "private/embeddings/index.json"))
    assert main(["book", "show", place, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["state"] for entry in told["entries"]] == ["complete", "complete"]
    assert main(["book", "check", place]) == 0
    assert capsys.readouterr().out.count("as reserved") == 2
    for run in (one, two):
        found = b"".join(path.read_bytes() for path in Path(run, "release").rglob("*.*") if path.is_file())
        assert place.encode() not in found and b'"book"' not in found


def test_a_complete_run_outside_of_a_book_is_not_taken_for_one_in_it(tmp_path, place):
    run = str(tmp_path / "run")
    evolve(recipe(tmp_path, None), run)
    with pytest.raises(InputError, match="complete and has spent outside of book 'all'"):
        evolve(recipe(tmp_path, place), run)
    assert not books(place).entries
    evolve(recipe(tmp_path, None), run)


def test_a_run_that_ends_early_gives_back_what_it_has_no_line_for(tmp_path, place, capsys):
    run = str(tmp_path / "run")
    three = recipe(tmp_path, place, evolution__iterations=3)
    stop_at(2, three, run)
    assert spent(place) == 3 * ROUND
    with pytest.raises(InputError, match="is left"):
        evolve(recipe(tmp_path, place), str(tmp_path / "later"))
    assert main(["book", "return", run]) == 0
    assert "1 ledger lines stay spent" in capsys.readouterr().out
    assert spent(place) == ROUND
    assert "it cannot go on" in status(run)["state"]
    with pytest.raises(SecretError, match="secret"):  # its noise can never be drawn again
        evolve(three, run)
    give_back(run)  # again: nothing more comes back
    assert spent(place) == ROUND
    evolve(recipe(tmp_path, place), str(tmp_path / "later"))
    assert [found.faults for found in check(place)] == [[], []]
    with pytest.raises(InputError, match="complete; it has spent all"):
        give_back(str(tmp_path / "later"))
    ledger = Path(run, LEDGER)
    ledger.write_text(ledger.read_text().replace('"noise_multiplier": 5.0', '"noise_multiplier": 6.0'))
    assert main(["book", "check", place]) == 2
    assert "spent otherwise" in capsys.readouterr().out


def test_of_several_measurements_those_that_were_not_made_come_back(tmp_path, monkeypatch):
    book = create_book(str(tmp_path / "book"), name="all", epsilon=2, delta=1e-5)
    steps = {"one_way": {"budget": 0.3}, "coarse": {"budget": 0.1}, "tree": {"budget": 0.2}}
    raw = {"epsilon": 1, "delta": 1e-6, "measure": steps, "book": str(tmp_path / "book")}
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"x": {x}, "y": {x}}}\n' for x in (1, 2, 3)))
    columns = {name: {"type": "integer", "min": 0, "max": 3} for name in "xy"}
    data = RECIPE["data"] | {"path": str(tmp_path / "rows.jsonl"), "schema": {"columns": columns}}
    two = parse_recipe({**RECIPE, "data": data, "privacy": raw})
    evolve(two, tmp_path / "whole")
    reserved = book.total - read_book(open_store(str(tmp_path / "book"))).left
    assert not [fault for run in check(str(tmp_path / "book")) for fault in run.faults]
    real = loop.run_iteration

    def stop(run: Run, iteration: int, job: Any) -> None:
        real(run, iteration, job)
        if iteration == -1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_iteration", stop)
        with pytest.raises(KeyboardInterrupt):
            evolve(two, tmp_path / "half")
    give_back(str(tmp_path / "half"))
    spent = book.total - read_book(open_store(str(tmp_path / "book"))).left - reserved
    assert 0.3 * reserved < spent < 0.45 * reserved  # one_way and coarse, of all that has 1
    assert not [fault for run in check(str(tmp_path / "book")) for fault in run.faults]


def test_what_a_purged_run_did_not_spend_comes_back_and_a_lost_ledger_gives_nothing(tmp_path, place):
    run = str(tmp_path / "run")
    stop_at(3, recipe(tmp_path, place, evolution__iterations=3), run)
    assert "the same command goes on" in status(run)["state"]
    purge(run)
    assert "it cannot go on" in status(run)["state"]
    kept = Path(run, LEDGER).read_bytes()
    Path(run, LEDGER).unlink()
    with pytest.raises(InputError, match="no line for iteration 1"):
        give_back(run)
    assert spent(place) == 3 * ROUND
    Path(run, LEDGER).write_bytes(kept)
    give_back(run)
    assert spent(place) == 2 * ROUND


def test_a_run_that_was_not_let_in_by_a_copy_of_its_directory_spends_nothing(tmp_path, place):
    """The secret of a copy is there on; the book refuses its next line."""
    run, copied = tmp_path / "run", tmp_path / "copy"
    two = recipe(tmp_path, place, evolution__iterations=2)
    stop_at(2, two, str(run))
    shutil.copytree(run, copied)
    give_back(str(run))
    with pytest.raises(InputError, match="never spend more"):
        evolve(two, str(copied))
    with pytest.raises(InputError, match="never spend more"):
        loop.run_one(str(copied), 2)
    assert len(Path(copied, LEDGER).read_text().splitlines()) == 1


def test_a_copy_of_a_directory_that_is_complete_or_still_there_spends_nothing(tmp_path, place):
    """A generator that answers otherwise in it makes other votes, and so a second noise under one entry."""
    run, copied, moved = (tmp_path / name for name in ("run", "copy", "moved"))
    one = recipe(tmp_path, place)
    stop_at(1, one, str(run))
    shutil.copytree(run, copied)
    for go_on in (lambda: evolve(one, str(copied)), lambda: loop.run_one(str(copied), 1)):
        with pytest.raises(InputError, match=f"has entered from {run}, which is there still"):
            go_on()
    run.rename(moved)
    evolve(one, str(moved))
    with pytest.raises(InputError, match="complete elsewhere, and this is an older copy"):
        evolve(one, str(copied))
    assert not Path(copied, LEDGER).exists()
    evolve(one, str(moved))


def test_a_copy_gives_nothing_back_for_it_knows_not_what_the_other_has_spent(tmp_path, place):
    run, copied = tmp_path / "run", tmp_path / "copy"
    three = recipe(tmp_path, place, evolution__iterations=3)
    stop_at(2, three, str(run))
    shutil.copytree(run, copied)
    stop_at(3, three, str(run))
    with pytest.raises(InputError, match="which is there still"):
        give_back(str(copied))
    assert Path(copied, "private/secret.key").exists() and spent(place) == 3 * ROUND
    give_back(str(run))
    assert spent(place) == 2 * ROUND
    give_back(str(copied))  # what was given back is no more than that
    assert spent(place) == 2 * ROUND


def test_of_two_copies_that_both_have_spent_the_second_is_told(tmp_path, place):
    run, copied = tmp_path / "run", tmp_path / "copy"
    one = recipe(tmp_path, place)
    stop_at(1, one, str(run))
    shutil.copytree(run, copied)
    with pytest.MonkeyPatch.context() as patch:  # both at once, where neither sees the other's disk
        patch.setattr(entering, "_is_elsewhere", lambda *_: False)
        patch.setattr(steps, "keyed_rng", lambda seed, *key: keyed_rng(seed + 1, *key))  # another answer
        patch.setattr(loop.booking, "note_finished", lambda *_: None)
        evolve(one, str(copied))
    evolve(one, str(run))
    with pytest.raises(InputError, match="another release of the run in"):
        evolve(one, str(copied))
    evolve(one, str(run))


def test_a_book_changes_no_id_and_takes_no_run_without_a_promise(tmp_path, place):
    assert run_id(recipe(tmp_path, place)) == run_id(recipe(tmp_path, None))
    assert b"privacy.book" not in to_yaml(recipe(tmp_path, None)).encode()
    with pytest.raises(RecipeError, match="NOT PRIVATE has no place"):
        evolve(recipe(tmp_path, place, privacy={"epsilon": "inf", "delta": 1e-6, "book": place}), tmp_path / "inf")
    with pytest.raises(InputError, match="not a budget book"):
        evolve(recipe(tmp_path, str(tmp_path / "none")), tmp_path / "no-book")
    file = tmp_path / "recipe.yaml"
    file.write_text(to_yaml(recipe(tmp_path, None)))
    assert load_recipe(file, ["privacy.book=book"]).privacy.book == place  # beside the recipe
    alone = tmp_path / "alone"  # without the loop: the line itself enters
    loop.embed_only(recipe(tmp_path, place), alone)
    loop.run_one(alone, 0)
    assert spent(place) == 0
    loop.run_one(alone, 1)
    assert spent(place) == ROUND
    stop_at(1, recipe(tmp_path, None), tmp_path / "before")
    store = open_run(tmp_path / "before").store
    evolve(recipe(tmp_path, None), tmp_path / "before")
    assert not store.exists(RECEIPT)
