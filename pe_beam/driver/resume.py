"""Checks before a resume: recipe, secret and data have to be those of the run."""

from __future__ import annotations

import hmac
from pathlib import Path

from pe_beam.contracts.store import Store
from pe_beam.driver.budget import ledger_lines
from pe_beam.driver.finalize import SUPPLIED
from pe_beam.engine.frozen import read_index
from pe_beam.engine.run import Run, stored_recipe
from pe_beam.engine.spending import refuse_unless_paid
from pe_beam.errors import InputError, RecipeError, SecretError
from pe_beam.privacy import ledger, secret
from pe_beam.recipe.identity import differing_keys, to_yaml
from pe_beam.recipe.models import Recipe

_LEFT_BY_RUNS = ("release", "release-NOT-PRIVATE", "private/counts")


def pin_recipe(recipe: Recipe, store: Store) -> None:
    """Writes the resolved recipe, or checks that the run in this directory gives the same release.

    Raises:
      RecipeError: the directory holds a run of another recipe. The message names the keys that differ.
      InputError: the directory holds a run whose recipe is missing.
    """
    if store.exists("recipe.yaml"):
        old = stored_recipe(store)
        keys = differing_keys(old, recipe)
        if keys:
            raise RecipeError(
                f"{store.uri}: holds a run of another recipe; it differs in {', '.join(keys)}. "
                "Use another run directory, or the recipe.yaml that lies there"
            )
        if old == recipe:
            return
    elif store.exists(ledger.LEDGER) or any(store.list_files(folder) for folder in _LEFT_BY_RUNS):
        raise InputError(f"{store.uri}: holds a run whose recipe.yaml is missing; put it back")
    store.commit("recipe.yaml", to_yaml(recipe).encode(), replace=True)


def pin_secret(run: Run, supplied: str | Path | None) -> None:
    """Draws the run's secret, copies the supplied one, or checks that the existing one belongs to the ledger.

    Raises:
      SecretError: the secret is missing although budget is spent, it is another secret, or the store would keep it
        after it is deleted.
    """
    here, spent = run.store.exists(secret.SECRET), bool(ledger_lines(run))
    run.store.protect("private")
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


def _adopt(run: Run, supplied: Path, *, spent: bool) -> None:
    given = secret.read_secret_file(supplied)
    if run.store.exists(secret.SECRET):
        if hmac.compare_digest(given, secret.read_secret(run.store)):
            return
        if spent:
            raise SecretError("--secret-file: not the secret of this run, which has spent budget already")
        secret.delete_secret(run.store)
    _check_lines(run, given)
    run.store.commit(SUPPLIED, b"")
    secret.adopt_secret(supplied, run.store)


def _check_lines(run: Run, key: bytes) -> None:
    """Refuses ledger lines that belong to another recipe, another secret or other data (rule 15)."""
    if read_index(run) is not None:
        for line in ledger_lines(run):
            refuse_unless_paid(run, line, key)
