"""The secret key of the noise: 32 bytes of the operating system, one per run directory, never shown (rule 4).

Anyone who has it can remove the noise. It is neither printed nor pickled: workers read it from the store, or from who
keeps it outside the run directory (`pe_beam.custody`). Deleting it leaves a tombstone (`secret_record`).
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import NoReturn

from pe_beam.contracts.store import Store
from pe_beam.errors import SecretError, StorageError
from pe_beam.privacy.secret_record import RECORD, mark_deleted, read_record

SECRET = "private/secret.key"
SECRET_BYTES = 32


class Secret(bytes):
    """Bytes that repr, str, format and pickle do not reveal."""

    def __repr__(self) -> str:
        return f"<secret of {len(self)} bytes>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied: read it from its file")


def refuse_where_deleted_lives_on(store: Store) -> None:
    """Refuses a store where deleting the secret, and all else below private/, would not be its end.

    Raises:
      SecretError: it keeps versions or deleted files, or does not say whether it does.
    """
    reason = store.keeps_deleted()
    if reason is not None:
        raise SecretError(
            f"--run-dir {store.uri}: {reason}, and a secret that is deleted must be gone; use a bucket without "
            "versioning, soft delete and retention whose settings the run may read, a directory on a disk, or "
            "privacy.secret, which keeps the secret elsewhere"
        )


def create_secret(store: Store) -> None:
    """Draws a secret if there is none yet. Only its owner can read it. It is on disk when the function returns.

    Raises:
      SecretError: the store would keep the secret after it is deleted, or a secret was deleted there before.
      StorageError: the store cannot write.
    """
    refuse_where_deleted_lives_on(store)
    _refuse_where_one_was_deleted(store)
    store.commit(SECRET, Secret(os.urandom(SECRET_BYTES)))


def adopt_secret(source: Path, store: Store) -> None:
    """Copies a user's secret into the run directory. The source file stays.

    Args:
      source: file of 32 raw bytes.
      store: store of the run directory.

    Raises:
      SecretError: the source is not 32 raw bytes, the run has another secret already, the store would keep the
        secret after it is deleted, or a secret was deleted there before.
      StorageError: the store cannot write.
    """
    given = read_secret_file(source)
    refuse_where_deleted_lives_on(store)
    _refuse_where_one_was_deleted(store)
    if not store.commit(SECRET, given) and not hmac.compare_digest(given, read_secret(store)):
        raise SecretError(f"{SECRET}: this run has another secret already")


def replace_secret(source: Path, store: Store) -> None:
    """As `adopt_secret`, in place of a secret that was drawn and with which nothing is spent."""
    given = read_secret_file(source)
    refuse_where_deleted_lives_on(store)
    _refuse_where_one_was_deleted(store)
    store.sweep_attempts(SECRET)
    store.commit(SECRET, given, replace=True)


def _refuse_where_one_was_deleted(store: Store) -> None:
    """A run has one secret in its life, even if its ledger is lost. A kill may leave the tombstone and the secret."""
    if not store.exists(SECRET) and read_record(store).deleted:
        raise SecretError(
            f"{RECORD}: the secret of this run was deleted, and no other one is ever made for its directory; use a new "
            "run directory (it spends anew)"
        )


def read_secret(store: Store) -> Secret:
    """Returns the secret of a run directory, 32 bytes.

    Raises:
      SecretError: it is missing, unreadable or not 32 bytes long. The message never contains a byte of it.
    """
    try:
        found = store.read_range(SECRET, 0, SECRET_BYTES + 1)
    except StorageError as error:
        raise _unreadable(store.at(SECRET), error.__cause__ or error) from None
    return _checked(found, store.at(SECRET))


def read_secret_file(path: Path) -> Secret:
    """Returns the secret in a user's file. It raises the same errors as `read_secret`."""
    try:
        with path.open("rb") as file:
            found = file.read(SECRET_BYTES + 1)
    except OSError as error:
        raise _unreadable(str(path), error) from None
    return _checked(found, str(path))


def delete_secret(store: Store) -> None:
    """Deletes the secret durably, with the copies that a killed driver has left, and leaves a tombstone.

    The tombstone comes first: a driver that is killed in between leaves a secret, and never room for another one.

    Raises:
      SecretError: the secret is there all the same, or the store keeps deleted files since it was made.
      StorageError: the store cannot delete.
    """
    was_there = store.exists(SECRET)
    mark_deleted(store)
    store.sweep_attempts(SECRET)
    store.delete(SECRET)
    if store.exists(SECRET):
        raise SecretError(f"{SECRET}: it is still there after it was deleted; run again")
    reason = store.keeps_deleted() if was_there else None
    if reason is not None:
        raise SecretError(
            f"--run-dir {store.uri}: the secret was deleted, but by now {reason}; delete what the bucket keeps of "
            f"{SECRET}, for whoever reads it can take the noise off"
        )


def _unreadable(where: str, error: BaseException) -> SecretError:
    reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    return SecretError(f"secret {where}: cannot be read ({reason})")


def _checked(found: bytes, where: str) -> Secret:
    if len(found) != SECRET_BYTES:
        raise SecretError(f"secret {where}: exactly {SECRET_BYTES} raw bytes are wanted")
    return Secret(found)
