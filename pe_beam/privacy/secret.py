"""The secret that keys the noise: 32 bytes of the operating system, one run directory, never shown (rule 4)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pe_beam.errors import SecretError, StorageError

SECRET_BYTES = 32


def create_secret(path: Path, *, temporary: Path) -> None:
    """Draws a secret if there is none yet; readable by its owner only.

    Args:
      path: private/secret.key of a run directory.
      temporary: a folder on the same file system.
    """
    _commit(os.urandom(SECRET_BYTES), path, temporary)


def adopt_secret(source: Path, path: Path, *, temporary: Path) -> None:
    """Copies a user's secret; the source stays. SecretError if it is not 32 raw bytes."""
    _commit(read_secret(source), path, temporary)


def _commit(secret: bytes, path: Path, temporary: Path) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=temporary)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(name, path)
            except FileExistsError:
                return
        finally:
            Path(name).unlink()
        _sync(path.parent)
    except OSError as error:
        raise StorageError(f"run directory: writing private/secret.key failed: {error.strerror}") from None


def read_secret(path: Path) -> bytes:
    """The secret; SecretError if it is missing, unreadable or not 32 bytes long."""
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(f"secret {path}: cannot be read ({error.strerror})") from None
    if len(secret) != SECRET_BYTES:
        raise SecretError(f"secret {path}: {SECRET_BYTES} raw bytes are wanted")
    return secret


def delete_secret(path: Path) -> None:
    """Forgets the secret durably; nothing happens if it is gone."""
    if path.exists():
        path.unlink()
        _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
