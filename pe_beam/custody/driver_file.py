"""A file on the driver's disk, for runners whose workers run on the driver's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator

from pe_beam.contracts.custody import Custody
from pe_beam.contracts.options import Options
from pe_beam.errors import SecretError, StorageError
from pe_beam.storage.local import LocalStore

_VERSION = "1"  # a file has one


class DriverFileOptions(Options):
    """The keys of `privacy.secret` for a file on the driver's disk."""

    path: str = Field(description="a folder on the driver's disk, absolute; the file is private/pe-beam-MARK in it")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not Path(path).is_absolute():
            raise ValueError("an absolute path is wanted: a resume may start in another folder")
        return path


class DriverFile(Custody):
    """Keeps the secret in a file of its own, readable by its owner alone, whose name follows from the mark."""

    Options = DriverFileOptions
    on_driver = True

    def __init__(self, options: BaseModel, mark: str) -> None:
        """See Custody."""
        super().__init__(options, mark)
        self._store = LocalStore(self.options.path)

    def create(self, secret: bytes) -> str:
        """See Custody."""
        self._asked(lambda: self._store.commit(self._file, bytes(secret)))
        return _VERSION

    def read(self, version: str) -> bytes | None:
        """See Custody."""
        if version != _VERSION or not self._store.exists(self._file):
            return None
        return self._asked(lambda: self._store.read(self._file))

    def check(self) -> None:
        """See Custody. Snapshots and backups of the disk are taken to be out of reach, as for a run directory there."""

    def destroy(self) -> None:
        """See Custody."""
        self._asked(lambda: self._store.sweep_attempts(self._file))
        self._asked(lambda: self._store.delete(self._file))
        if self._store.exists(self._file):
            raise SecretError(f"{self.place()}: the file is still there after it was deleted")

    def place(self) -> str:
        """See Custody."""
        return f"privacy.secret: {self.options.path}/{self._file} on the driver's disk"

    def _asked(self, ask: Any) -> Any:
        try:
            return ask()
        except StorageError as error:
            said = str(error.__cause__ or error).rpartition(": ")[0]
            raise SecretError(f"{self.place()}: {said or 'it cannot be used'}") from None

    @property
    def _file(self) -> str:
        return f"private/{self.name}"
