"""A run enters its budget book (`privacy.book`) before it spends (DESIGN, privacy rule 17)."""

from __future__ import annotations

from collections.abc import Sequence

from pe_beam.books import entering, file
from pe_beam.books.lines import Cost, Place, squared
from pe_beam.books.standing import told_left
from pe_beam.contracts.store import Folder
from pe_beam.engine.frozen import fingerprint
from pe_beam.engine.run import Run
from pe_beam.engine.spending import secret_of
from pe_beam.errors import InputError, RecipeError
from pe_beam.privacy import ledger
from pe_beam.recipe.ancestry import ancestors_of, as_run
from pe_beam.recipe.identity import run_id
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.plan import make_plan
from pe_beam.recipe.start import release_digest
from pe_beam.releases.reading import Release
from pe_beam.storage import open_store


def planned_places(recipes: Sequence[Recipe]) -> list[Place]:
    """Returns what a new book has to know of runs on samples, whose sampling counts because they are fixed in it.

    Raises:
      RecipeError: a run is not on samples, or NOT PRIVATE.
    """
    for recipe in recipes:
        if recipe.privacy.sampling_rate == 1:
            raise RecipeError(
                f"book: recipe {recipe.name!r} has privacy.sampling_rate 1; only runs on samples gain by a plan, all "
                "others compose the same in any order"
            )
    return [
        Place(
            run_id=run_id(recipe),
            name=recipe.name,
            unit=recipe.privacy.unit,
            adjacency=recipe.privacy.adjacency,
            cost=cost_of(recipe),
        )
        for recipe in recipes
    ]


def cost_of(recipe: Recipe) -> Cost:
    """Returns what a run, or a stream, spends at most by its plan.

    Raises:
      RecipeError: it is NOT PRIVATE, so that no book can count it.
    """
    if not recipe.private:
        raise RecipeError(
            "privacy.book: a run that is NOT PRIVATE has no place in a book; a finite privacy.epsilon is wanted, and "
            "no start from a release without a promise"
        )
    plan = make_plan(recipe)
    schedule = plan.schedule
    return Cost(
        noise_multiplier=list(schedule.noise_multipliers),
        label_shares_noise_multiplier=schedule.label_noise_multiplier,
        measurements=[each.noise_multiplier for each in plan.measurements],
        sampling_rate=float(recipe.privacy.sampling_rate),
        windows=1 if recipe.stream is None else recipe.unit_windows,
    )


def applicant(recipe: Recipe) -> entering.Applicant:
    """Returns what a book has to know of a run or a stream. Raises RecipeError if it is NOT PRIVATE."""
    over_same = [each for each in ancestors_of(recipe) if each.data == 0]
    return entering.Applicant(
        place=recipe.privacy.book,
        run_id=run_id(recipe),
        name=recipe.name,
        unit=recipe.privacy.unit,
        adjacency=recipe.privacy.adjacency,
        cost=cost_of(recipe),
        starts_from={each.digest: squared(s.noise_multiplier for s in as_run(each).spent) for each in over_same},
    )


def foretell(recipe: Recipe) -> str | None:
    """Returns whether a new run of a recipe would fit into its book now, in words; None without a book.

    Raises:
      InputError: there is no book.
    """
    if recipe.privacy.book is None:
        return None
    book = file.read_book(open_store(recipe.privacy.book))
    try:
        entering.demand_fit(book, applicant(recipe))
    except InputError as error:
        return str(error)
    return f"book {book.opened.name!r}: {told_left(book)}; this run fits"


def demand_room(run: Run) -> None:
    """Refuses a run that does not fit into its book, before its data are read. Nothing is reserved yet.

    Raises:
      InputError: as `entering.demand_fit`.
    """
    place = run.recipe.privacy.book
    if place is not None and entering.read_receipt(run.store) is None:
        entering.demand_fit(file.read_book(open_store(place)), applicant(run.recipe))


def enter(run: Run) -> list[str]:
    """Reserves all that a run will spend in its book, if it has one. It is in it once, however often it is resumed.

    Returns:
      What its holder should know; nothing under `data.never_stop`, for it would tell neighbouring data apart.

    Raises:
      InputError: as `entering.enter`. Nothing is spent.
    """
    if run.recipe.privacy.book is None and entering.read_receipt(run.store) is None:
        return []
    spent = run.store.exists(ledger.LEDGER) and bool(ledger.parse_ledger(run.store.read(ledger.LEDGER))[0])
    look = not run.recipe.data.never_stop
    return entering.enter(run.store, applicant(run.recipe), secret_of(run), fingerprint(run), spent=spent, look=look)


def demand_entered(run: Run) -> None:
    """Makes sure, before a ledger line is written, that the run's reservation stands, or makes it.

    Raises:
      InputError: as `entering.enter`, or the run has given its budget back.
    """
    if not entering.demand_entered(run.store) and run.recipe.privacy.book is not None:
        enter(run)


def note_finished(run: Run, named: str | None = None) -> None:
    """Notes the release of a complete run in its book, so that another run of the book may start from it.

    Args:
      run: the complete run.
      named: place of the book that its holder names now.

    Raises:
      InputError: the run is not in that book.
    """
    if named is not None:
        entering.demand_counted(run.store, named)
    if entering.read_receipt(run.store) is not None:
        entering.note_finished(run.store, released(run))


def released(run: Run) -> str:
    """Returns the digest of a complete run's release, as `evolution.start.found.digest` has it."""
    return release_digest(Release(Folder(run.store, run.layout.release)))
