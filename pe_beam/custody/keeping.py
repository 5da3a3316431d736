"""Makes, reads and destroys the secret of a run directory, wherever it lies.

The order of steps is what a kill cannot break: the mark is committed before a secret is made, the version before it is
used, and the tombstone before it is destroyed. That a secret is gone is noted last.
"""

from __future__ import annotations

import functools
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pe_beam import registry
from pe_beam.contracts.custody import Custody
from pe_beam.contracts.store import Store
from pe_beam.errors import SecretError
from pe_beam.privacy import secret
from pe_beam.privacy.ledger import LEDGER
from pe_beam.privacy.secret_record import (
    RECORD,
    SecretRecord,
    change_record,
    mark_deleted,
    read_record,
    recent_record,
    record_hmac,
)

_MARK_BYTES = 16
_NO_OTHER = "without it an unfinished run cannot go on (a new run directory spends anew)"


def find_custody(name: str) -> type[Custody]:
    """Returns the registered custody. Raises RecipeError if the name is not registered."""
    found: type[Custody] = registry.find("custody", name, key="privacy.secret.custody")
    return found


def demand_library(custody: str, options: Mapping[str, Any]) -> None:
    """Raises MissingExtraError if the library of a custody is not installed."""
    _opened(custody, json.dumps(dict(options), sort_keys=True), "0" * 2 * _MARK_BYTES, os.getpid())


def read_secret(store: Store) -> secret.Secret:
    """Returns the secret of a run directory, from wherever it is kept. It is asked for anew each time.

    Raises:
      SecretError: it is missing, denied, or another one.
      ServiceError: who keeps it does not answer now.
    """
    record = recent_record(store)
    return secret.read_secret(store) if record.custody is None else _read(_keeper(record), record)


def ensure_secret(
    store: Store, custody: str, options: Mapping[str, Any], supplied: bytes | None = None
) -> tuple[secret.Secret, str | None]:
    """Makes the secret of a run directory in external custody, if there is none yet.

    Args:
      store: store of the run directory.
      custody: the registered name.
      options: its options as plain data, checked.
      supplied: the user's secret, 32 bytes; None: it is drawn.

    Returns:
      The secret, and why what is deleted from private/ lives on in this store, or None if it does not.

    Raises:
      SecretError: the secret is kept elsewhere, was deleted, is another one, or would live on after its end.
      ServiceError: who keeps it does not answer now.
    """
    demand_place(store, custody, options)
    demand_room(store)
    mark = secrets.token_hex(_MARK_BYTES)
    placed = {"custody": custody, "options": dict(options), "mark": mark}
    record = change_record(store, lambda found: found if found.custody else found.model_copy(update=placed))
    keeper = _keeper(record)
    if record.pinned is None:
        keeper.rehearse()
        held = _made(store, keeper, supplied)
    else:
        keeper.check()
        held = _read(keeper, record)
    if supplied is not None and not hmac.compare_digest(held, supplied):
        raise SecretError("--secret-file: not the secret of this run, which has one already; use a new run directory")
    kept = store.keeps_deleted()
    if kept is not None:
        change_record(store, lambda found: found.model_copy(update={"private_kept": kept}))
    return held, kept or record.private_kept


def _made(store: Store, keeper: Custody, supplied: bytes | None) -> secret.Secret:
    """Makes a secret and commits its version. Of racing drivers one wins; the others use its version."""
    version = keeper.create(secret.Secret(os.urandom(secret.SECRET_BYTES) if supplied is None else supplied))
    found = _checked(keeper, keeper.read(version))
    told = {"pinned": version, "check": record_hmac(found, "mark", keeper.mark)}

    def change(record: SecretRecord) -> SecretRecord:
        refuse_if_deleted(record)
        return record if record.pinned else record.model_copy(update=told)

    record = change_record(store, change)
    return found if record.pinned == version else _read(keeper, record)


def demand_place(store: Store, custody: str | None, options: Mapping[str, Any]) -> None:
    """Raises SecretError if the secret of a run directory is kept elsewhere than a recipe says."""
    record = read_record(store)
    if record.destroyed:
        return  # nobody asks for it any more
    if record.custody is not None and custody != record.custody:
        named = ["custody"]
    elif custody is not None and record.custody is not None:
        there, here = _full(custody, record.options), _full(custody, options)
        named = sorted(key for key in here if here[key] != there.get(key))
    else:
        named = []
    if named:
        raise SecretError(
            f"privacy.secret: the secret of this run is kept by {record.custody}, as {RECORD} says, and the recipe "
            f"differs in {', '.join(f'privacy.secret.{key}' for key in named)}; put that back"
        )
    if custody is not None and record.custody is None and store.exists(secret.SECRET):
        raise SecretError(
            f"privacy.secret: the secret of this run lies in {secret.SECRET} already; leave privacy.secret out, or "
            "use a new run directory"
        )


def _full(custody: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options with the defaults of keys that are newer than them."""
    return _options(custody, options).model_dump(mode="json")


def _options(custody: str, options: Mapping[str, Any]) -> BaseModel:
    try:
        return find_custody(custody).Options.model_validate(dict(options))
    except ValidationError:  # a recipe's are checked when it is read
        raise SecretError(f"{RECORD}: damaged (options of {custody}); put the run's own back") from None


def demand_room(store: Store) -> None:
    """Raises SecretError if the secret of a run directory was deleted: there is room for one in its whole life.

    One that a killed driver was about to delete, and that is still there, goes on to serve.
    """
    record = read_record(store)
    if record.custody is None:
        is_there = record.deleted and store.exists(secret.SECRET)
    else:
        is_there = record.pinned is not None and not record.destroyed
    if not is_there:
        refuse_if_deleted(record)


def refuse_if_deleted(record: SecretRecord) -> None:
    """Raises SecretError if a secret was deleted: no second one is made for its run directory."""
    if record.deleted:
        raise SecretError(
            f"{RECORD}: the secret of this run was deleted, and no other one is ever made for its directory; "
            f"{_NO_OTHER}"
        )


def bind_data(store: Store, held: bytes, fingerprint: str) -> None:
    """Binds a secret in external custody to the fingerprint of the data, once, before the first ledger line.

    Raises:
      SecretError: it is bound to other data.
    """
    record, data = recent_record(store), record_hmac(held, "data", fingerprint)
    if record.custody is None or record.data == data:
        return
    record = change_record(store, lambda found: found if found.data else found.model_copy(update={"data": data}))
    if not hmac.compare_digest(record.data or "", data):
        raise SecretError(
            "privacy.secret: the secret of this run belongs to other data than private/embeddings holds now; put them "
            "back as they were, or use a new run directory"
        )


def forget_secret(store: Store) -> None:
    """Destroys the secret of a run directory for good. What was done before, by a driver that was killed, is no fault.

    Raises:
      SecretError: it is not gone, or it is not said whether it is.
      ServiceError: who keeps it does not answer now.
      StorageError: the store cannot write.
    """
    record = read_record(store)
    if record.custody is None:
        secret.delete_secret(store)
    elif not record.destroyed:
        mark_deleted(store)
        _keeper(record).destroy()
        change_record(store, lambda found: found.model_copy(update={"destroyed": True}))


def has_secret(store: Store) -> bool:
    """Returns whether a run directory has, or had, a secret: there is something to destroy or to remember."""
    return store.exists(secret.SECRET) or store.exists(LEDGER) or store.exists(RECORD)


def _keeper(record: SecretRecord) -> Custody:
    return _opened(str(record.custody), json.dumps(dict(record.options), sort_keys=True), str(record.mark), os.getpid())


@functools.lru_cache(maxsize=4)
def _opened(name: str, options: str, mark: str, process: int) -> Custody:
    """Returns a custody: one client a process. It keeps no secret."""
    return find_custody(name)(_options(name, json.loads(options)), mark)


def _read(keeper: Custody, record: SecretRecord) -> secret.Secret:
    if record.pinned is None:
        raise SecretError(f"{keeper.place()}: no secret was made yet; run `pe-beam run` first")
    found = _checked(keeper, keeper.read(record.pinned))
    if not hmac.compare_digest(record_hmac(found, "mark", keeper.mark), record.check or ""):
        raise SecretError(f"{keeper.place()}: another secret than that of this run lies there; {_NO_OTHER}")
    return found


def _checked(keeper: Custody, found: bytes | None) -> secret.Secret:
    if found is None:
        raise SecretError(
            f"{keeper.place()}: the secret of this run is not there, or was deleted meanwhile; {_NO_OTHER}"
        )
    if len(found) != secret.SECRET_BYTES:
        raise SecretError(f"{keeper.place()}: exactly {secret.SECRET_BYTES} bytes are wanted")
    return secret.Secret(found)
