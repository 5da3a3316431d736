"""The secret that keys the noise: 32 bytes of the operating system, one run directory, never shown (rule 4).

Whoever has it can take the noise off again. It is neither printed nor pickled: workers read it from its file.
"""

from __future__ import annotations

import hmac
import os
import tempfile
from pathlib import Path
from typing import NoReturn

from pe_beam.durable import sync_folder
from pe_beam.errors import SecretError, StorageError

SECRET_BYTES = 32
_PREFIX = "secret-"


class Secret(bytes):
    """Bytes that do not show themselves: no repr, str, format or pickle gives them away."""

    def __repr__(self) -> str:
        return f"<secret of {len(self)} bytes>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied: read it from its file")


def create_secret(path: Path, *, temporary: Path) -> None:
    """Draws a secret if there is none yet; readable by its owner only (0600), on disk when this returns.

    Args:
      path: private/secret.key of a run directory.
      temporary: a folder on the same file system.

    Raises:
      StorageError: the disk says no.
    """
    _commit(os.urandom(SECRET_BYTES), path, temporary)


def adopt_secret(source: Path, path: Path, *, temporary: Path) -> None:
    """Copies a user's secret; the source stays.

    Args:
      source: 32 raw bytes.
      path: private/secret.key of a run directory.
      temporary: a folder on the same file system.

    Raises:
      SecretError: the source is not 32 raw bytes, or another secret is there already.
      StorageError: the disk says no.
    """
    given = read_secret(source)
    if not _commit(given, path, temporary) and not hmac.compare_digest(given, read_secret(path)):
        raise SecretError("private/secret.key: this run has another secret already")


def _commit(secret: bytes, path: Path, temporary: Path) -> bool:
    """Writes it if there is none: a temporary file, fsync, link, fsync of the folder. True if it was written."""
    try:
        handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=temporary)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            os.link(name, path)
            won = True
        except FileExistsError:
            won = False
        finally:
            Path(name).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"run directory: writing private/secret.key failed: {os.strerror(error.errno or 0)}"
        ) from None
    return won


def read_secret(path: Path) -> Secret:
    """The secret, 32 bytes.

    Raises:
      SecretError: it is missing, unreadable or not 32 bytes long; the message never holds a byte of it.
    """
    try:
        with path.open("rb") as file:
            secret = Secret(file.read(SECRET_BYTES + 1))
    except OSError as error:
        raise SecretError(f"secret {path}: cannot be read ({os.strerror(error.errno or 0)})") from None
    if len(secret) != SECRET_BYTES:
        raise SecretError(f"secret {path}: exactly {SECRET_BYTES} raw bytes are wanted")
    return secret


def delete_secret(path: Path, *, temporary: Path | None = None) -> None:
    """Forgets the secret durably; nothing happens if it is gone.

    Args:
      path: private/secret.key of a run directory.
      temporary: the folder given to `create_secret`, where a driver killed half-way may have left a copy.

    Raises:
      StorageError: the disk says no.
    """
    try:
        if temporary is not None and temporary.is_dir():
            for copy in temporary.glob(f"{_PREFIX}*"):
                copy.unlink(missing_ok=True)
            sync_folder(temporary)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StorageError(f"run directory: deleting private/secret.key failed: {reason}") from None
