"""Checks before a resume: recipe, secret and data have to be those of the run."""

from __future__ import annotations

import hmac
from pathlib import Path

from pe_beam.books.entering import RECEIPT
from pe_beam.contracts.store import RUN_LOCK, Store
from pe_beam.custody import keeping
from pe_beam.driver.budget import ledger_lines
from pe_beam.driver.finalize import SUPPLIED
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import Run, stored_recipe
from pe_beam.engine.spending import refuse_unless_paid
from pe_beam.errors import InputError, RecipeError, SecretError
from pe_beam.privacy import ledger, secret
from pe_beam.privacy.secret_record import RECORD, read_record
from pe_beam.recipe.identity import differing_keys, to_yaml
from pe_beam.recipe.models import Recipe
from pe_beam.recipe.sections.privacy import SecretCustody

_LEFT_BY_RUNS = ("release", "release-NOT-PRIVATE", "private/counts")


def refuse_stream(recipe: Recipe) -> None:
    """Raises RecipeError for a stream, and for a window of one: nothing of it is spent before the stream's ledger."""
    if recipe.stream is not None:
        raise RecipeError("stream: a recipe of a stream is run by `pe-beam stream`, window by window")


def pin_recipe(recipe: Recipe, store: Store, *, window: bool = False) -> None:
    """Writes the resolved recipe, or checks that the run in this directory gives the same release.

    Args:
      recipe: of the run.
      store: of its directory.
      window: whether `pe-beam stream` is at work, which alone runs a window of a stream.

    Raises:
      RecipeError: the directory holds a run of another recipe, which has drawn its secret. The message names the keys
        that differ. Or the recipe is that of a stream.
      SecretError: the run's secret is kept elsewhere than the recipe says.
      InputError: the directory holds a run whose recipe is missing.
    """
    if not window:
        refuse_stream(recipe)
    if store.exists("recipe.yaml"):
        old = stored_recipe(store)
        keys = differing_keys(old, recipe)
        if keys and not _has_only_recipe(store, old):
            if old.stream is not None and not window:  # its budget is in no ledger of a run
                raise RecipeError(f"{store.uri}: the directory of a stream, or of a window; use another")
            spare = not any(map(store.exists, (ledger.LEDGER, RECEIPT)))  # of a book it may have reserved a part
            raise RecipeError(
                f"{store.uri}: holds a run of another recipe; it differs in {', '.join(keys)}. "
                "Use another run directory, or the recipe.yaml that lies there"
                + ("; no budget is spent in this one yet, so it may be deleted" if spare else "")
            )
        if old == recipe:
            return
        told = recipe.privacy.secret
        keeping.demand_place(store, *((None, {}) if told is None else (told.custody, told.options)))
    elif store.exists(ledger.LEDGER) or any(store.list_files(folder) for folder in _LEFT_BY_RUNS):
        raise InputError(f"{store.uri}: holds a run whose recipe.yaml is missing; put it back")
    store.commit("recipe.yaml", to_yaml(recipe).encode(), replace=True)


def _has_only_recipe(store: Store, recipe: Recipe) -> bool:
    """Returns whether a run ended before it drew its secret, as it does where a model of its recipe is not there.

    The recipe has to be as `pin_recipe` writes it: a user's own file is not written over.
    """
    only = set(store.list_files()) <= {"recipe.yaml", RUN_LOCK}
    return only and store.read("recipe.yaml") == to_yaml(recipe).encode()


def refuse_other_embeddings(run: Run) -> None:
    """Raises InputError if the frozen embeddings are those of another recipe."""
    index = read_index(run)
    if index is not None and index.get("embedding_id") != run.embedding_id:
        raise InputError("private/embeddings: embeddings of another recipe lie there; use a new run directory")


def pin_secret(run: Run, supplied: str | Path | None, *, on_this_machine: bool = False) -> str | None:
    """Draws the run's secret, takes the supplied one, or checks that the existing one belongs to the ledger.

    Args:
      run: before it reads data or spends anything, or on a resume.
      supplied: the user's file; None: the secret is drawn.
      on_this_machine: whether all workers run on the driver's machine.

    Returns:
      Why what is deleted from private/ lives on in this store, which external custody allows; None if it does not.

    Raises:
      SecretError: the secret is missing although budget is spent, it is another secret, it is kept elsewhere than the
        recipe says, it was deleted before, or it would be kept after it is deleted.
      ServiceError: who keeps it does not answer now.
    """
    run.store.protect("private")
    if run.recipe.privacy.secret is not None:
        return _pin_external(run, run.recipe.privacy.secret, supplied, on_this_machine=on_this_machine)
    keeping.demand_place(run.store, None, {})
    keeping.demand_room(run.store)
    here, spent = run.store.exists(secret.SECRET), bool(ledger_lines(run))
    if not here and spent and supplied is None:
        raise SecretError(
            f"{run.root}: budget is spent but private/secret.key is missing; without it the run cannot "
            "go on (a new run directory spends anew)"
        )
    if supplied is not None:
        _adopt(run, Path(supplied), spent=spent)
    elif not here:
        secret.create_secret(run.store)
    else:
        secret.refuse_where_deleted_lives_on(run.store)  # what the bucket keeps may have been changed since
    _check_lines(run, secret.read_secret(run.store))
    return None


def _pin_external(run: Run, told: SecretCustody, supplied: str | Path | None, *, on_this_machine: bool) -> str | None:
    if keeping.find_custody(told.custody).on_driver and not on_this_machine:
        raise SecretError(
            f"privacy.secret.custody: {told.custody} is for runners whose workers run on the driver's machine "
            "(DirectRunner), and this one's may not; name a service that keeps secrets"
        )
    given = None if supplied is None else secret.read_secret_file(Path(supplied))
    keeping.demand_place(run.store, told.custody, told.options)
    pinned = read_record(run.store).pinned
    if pinned is None and ledger_lines(run):
        raise SecretError(
            f"{run.root}: budget is spent but {RECORD} does not say where its secret is; without it the run "
            "cannot go on (a new run directory spends anew)"
        )
    if given is not None and pinned is None:
        run.store.commit(SUPPLIED, b"")
    held, private_kept = keeping.ensure_secret(run.store, told.custody, told.options, given)
    _check_lines(run, held)
    return private_kept


def _adopt(run: Run, supplied: Path, *, spent: bool) -> None:
    given, replaced = secret.read_secret_file(supplied), False
    if run.store.exists(secret.SECRET):
        if hmac.compare_digest(given, secret.read_secret(run.store)):
            return
        if spent:
            raise SecretError("--secret-file: not the secret of this run, which has spent budget already")
        replaced = True
    _check_lines(run, given)
    run.store.commit(SUPPLIED, b"")
    (secret.replace_secret if replaced else secret.adopt_secret)(supplied, run.store)


def _check_lines(run: Run, key: bytes) -> None:
    """Refuses ledger lines that belong to another recipe, another secret or other data (rule 15)."""
    if read_index(run) is not None:
        for line in ledger_lines(run):
            refuse_unless_paid(run, line, key)
