"""Deletes the private part of a run directory, the secret first."""

from __future__ import annotations

from pe_beam.contracts.store import Store
from pe_beam.custody import keeping
from pe_beam.driver.finalize import is_complete
from pe_beam.engine.run import not_a_run, open_run, stored_recipe
from pe_beam.errors import InputError
from pe_beam.privacy.secret_record import read_record
from pe_beam.recipe.windows import KEY
from pe_beam.storage import open_store


def purge(run_dir: str) -> str | None:
    """Destroys the secret, wherever it is kept, and deletes private/ and work/. Release and ledger stay.

    The tombstone of the secret stays too: in this directory no other one is ever made, be the run complete or not.

    Returns:
      Why the deleted files live on in this store; None if they do not.

    Raises:
      InputError: it is no run directory, or that of a stream or of an unfinished window of one.
      SecretError: the secret is not gone, or it is not said whether it is; then nothing else is deleted.
      ServiceError: who keeps the secret does not answer now; then nothing else is deleted.
      LockedError: a process is at work there.
    """
    store = open_store(run_dir)
    if not store.exists("recipe.yaml"):
        raise InputError(f"{run_dir}: {not_a_run(store)}")
    if store.exists(KEY):
        raise InputError(
            f"{run_dir}: the directory of a stream, whose registry keeps records from being paid for twice; what is "
            "private of its windows is deleted when they are published"
        )
    with store.lock():
        _refuse_unfinished_window(store)
        if keeping.has_secret(store):
            keeping.forget_secret(store)
        kept = store.keeps_deleted() or read_record(store).private_kept
        store.remove("private")
        store.remove("work")
    return kept


def _refuse_unfinished_window(store: Store) -> None:
    """Raises InputError for a window of a stream that is not complete: no later window could follow it."""
    try:
        recipe = stored_recipe(store)
    except InputError:
        return  # what is private of a run whose recipe is damaged can be deleted too
    if recipe.stream is not None and not is_complete(open_run(store.uri)):
        raise InputError(
            f"{store.uri}: a window of a stream that is not complete, without whose secret the stream could not go on; "
            "run it to its end with `pe-beam stream`"
        )
