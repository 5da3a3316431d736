"""The contract of custody: who keeps the secret of a run outside its run directory."""

from __future__ import annotations

import abc
import contextlib
import secrets
from typing import Any, ClassVar

from pydantic import BaseModel

from pe_beam.contracts.options import Options
from pe_beam.errors import PeBeamError, SecretError


class Custody(abc.ABC):
    """Keeps one secret, which belongs to one run directory, and destroys it for good.

    It is registered under the entry point group `pe_beam.custody`; `privacy.secret.custody` names it. A secret is bound
    to its run directory by a random mark, which lies in that directory: a custody keeps the mark beside the secret, and
    neither replaces nor destroys what carries another mark.

    All methods raise SecretError, or ServiceError for a fault that passes. Messages begin with `privacy.secret` and
    hold no byte of a secret.

    Attributes:
      options: the checked options.
      mark: of the run directory, 32 hexadecimal digits.
      name: under which the secret is kept.
      rehearsing: whether it is a name that nobody has used before, of a value that nobody uses.
    """

    rehearsing = False

    Options: ClassVar[type[Options]] = Options
    """The keys of `privacy.secret` besides `custody`. A key `name` replaces the name that follows from the mark."""
    on_driver: ClassVar[bool] = False
    """Whether it can be read on the driver's machine alone. A runner with workers elsewhere is then refused."""

    def __init__(self, options: BaseModel, mark: str) -> None:
        """Asks nothing yet.

        Raises:
          MissingExtraError: the library of the service is not installed.
        """
        self.options: Any = options
        self.mark = mark
        self.name = str(getattr(options, "name", None) or f"pe-beam-{mark}")

    @abc.abstractmethod
    def create(self, secret: bytes) -> str:
        """Keeps a secret if there is none of this name yet.

        Of racing calls with one mark each returns a version that is there. The caller commits one of them, and reads
        that one alone from then on.

        Args:
          secret: 32 bytes.

        Returns:
          The version: what `read` takes.

        Raises:
          SecretError: the name is taken by another run directory or by a deleted secret, or the secret would live on
            after it is destroyed.
        """

    @abc.abstractmethod
    def read(self, version: str) -> bytes | None:
        """Returns the bytes of a version; None: it is not there."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raises SecretError if what is kept would live on once it is destroyed: a delay, a copy, a recovery window."""

    @abc.abstractmethod
    def destroy(self) -> None:
        """Destroys all versions for good, and reads back that they are gone. Nothing happens if there is none.

        Raises:
          SecretError: it is not gone, or it is not said whether it is.
        """

    def rehearse(self) -> None:
        """Keeps, reads and destroys a secret of no use, so that what is missing is said before anything is spent.

        Raises:
          SecretError: a right is missing, or the service would keep what is destroyed.
        """
        probe = type(self)(self.options, self.mark)
        probe.name, probe.rehearsing = f"{self.name}-probe-{secrets.token_hex(4)}", True
        useless = secrets.token_bytes(32)
        try:
            found = probe.read(probe.create(useless))
            probe.check()
        except PeBeamError:
            with contextlib.suppress(PeBeamError):  # the first fault is the one to be said
                probe.destroy()
            raise
        probe.destroy()
        if found != useless:
            raise SecretError(f"{probe.place()}: a secret that was kept did not come back as it was")

    def place(self) -> str:
        """Returns where the secret lies, for messages."""
        return f"privacy.secret: {self.name}"
