"""Where the secret of a run lies and that it was deleted: `secret.json`, the holder's, which `purge` keeps.

A run with its secret in the run directory has this file from the deletion of the secret on. It is the tombstone: with
it no other secret is ever made for that directory. A run with external custody has it from before its secret is made.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from pe_beam.contracts.options import Options
from pe_beam.contracts.store import Store
from pe_beam.errors import SecretError
from pe_beam.keyed import encode_fields

RECORD = "secret.json"


class SecretRecord(Options):
    """What the run directory says of its secret. `deleted` never becomes False again."""

    version: Literal[1] = 1
    custody: str | None = Field(None, description="who keeps it; null: private/secret.key")
    options: Mapping[str, Any] = Field(default_factory=dict, description="privacy.secret as it was then")
    mark: str | None = Field(None, description="random; the secret is kept together with it")
    pinned: str | None = Field(None, description="the one version of it that is used")
    check: str | None = Field(None, description="HMAC of the mark under the secret: another value is found out")
    data: str | None = Field(None, description="HMAC of the data's fingerprint under the secret")
    deleted: bool = Field(False, description="it is deleted, or about to be; no other one is made")
    destroyed: bool = Field(False, description="external custody: that it is gone was read back")
    private_kept: str | None = Field(None, description="why files that are deleted from private/ live on")

    def to_bytes(self) -> bytes:
        """Returns the file."""
        said = {"version": self.version} | self.model_dump(mode="json", exclude_defaults=True)
        return (json.dumps(said, indent=1, allow_nan=False) + "\n").encode()


def read_record(store: Store) -> SecretRecord:
    """Returns the record of a run directory; of one without the file, an empty one.

    Raises:
      SecretError: the file is damaged.
    """
    return _parsed(store.read(RECORD)) if store.exists(RECORD) else SecretRecord()


def recent_record(store: Store) -> SecretRecord:
    """As `read_record`, but a store whose requests cost may give what this process has read some seconds ago."""
    found = store.find_committed(RECORD)
    return SecretRecord() if found is None else _parsed(found)


def change_record(store: Store, change: Callable[[SecretRecord], SecretRecord]) -> SecretRecord:
    """Changes the record durably, as one step, and returns it. Does not write if nothing changes.

    Raises:
      SecretError: the file is damaged, or `change` refuses.
    """
    found = read_record(store)
    if change(found) == found:
        return found

    def changed(before: bytes | None) -> bytes:
        return change(SecretRecord() if before is None else _parsed(before)).to_bytes()

    return _parsed(store.update(RECORD, changed))


def mark_deleted(store: Store) -> None:
    """Writes the tombstone. Whoever deletes a secret calls it first: a kill leaves the secret, not room for another."""
    change_record(store, lambda record: record.model_copy(update={"deleted": True}))


def record_hmac(secret: bytes, purpose: str, value: str) -> str:
    """Returns HMAC-SHA-256 (hex) of a value under the secret. No other use of the secret has the same first field."""
    return hmac.new(secret, encode_fields("pe_beam/secret-record", purpose, value), hashlib.sha256).hexdigest()


def _parsed(data: bytes) -> SecretRecord:
    try:
        return SecretRecord.model_validate_json(data)
    except ValidationError:
        raise SecretError(
            f"{RECORD}: damaged, or written by a newer pe_beam; put the run's own back (without it the secret of this "
            "run is not found)"
        ) from None
