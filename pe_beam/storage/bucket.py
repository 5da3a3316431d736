"""One bucket of a service, as object stores need it: what differs between services, and nothing else."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pe_beam.storage.kept import Kept

MARKS = "pebeamwrites"
"""Key of the metadata that holds marks: letters alone, for Azure allows no more."""
NO_BUCKET = "there is no such bucket; make it, or correct its name or the endpoint"
_NOT_UNDERSTOOD = (301, 302, 307, 400, 405, 501)  # of another region, or of something else altogether
_PASSING = (408, 409, 429)  # and all from 500 on
CONNECT, ANSWER = 5.0, 10.0
"""Seconds to wait for a connection, and for an answer to begin."""


@dataclass(frozen=True)
class Head:
    """What a service says of an object.

    Attributes:
      tag: what a conditional write names: a generation or an entity tag.
      marks: the last write of each of its last writers, newest first, joined by commas.
      size: bytes.
      modified: seconds since 1970 by the service's clock.
    """

    tag: str
    marks: str
    size: int
    modified: float

    @property
    def version(self) -> str:
        """As `Store.version`."""
        return f"{self.tag} {self.marks}"


@dataclass(frozen=True)
class Trouble:
    """Why a service did not do what it was asked.

    Attributes:
      said: ends a sentence; of the request it holds nothing.
      passing: whether to try again.
      setup: whether address, rights or credentials are at fault.
    """

    said: str
    passing: bool = False
    setup: bool = False


def answered(status: int, look_at: str) -> Trouble:
    """What a status means that has no meaning of its own to a service.

    Args:
      status: of HTTP.
      look_at: what to look at where nothing, or something else, answers.
    """
    if status in _NOT_UNDERSTOOD:
        return Trouble(f"the service does not understand it (status {status}); {look_at}", setup=True)
    return Trouble(f"the service answered with status {status}", passing=status in _PASSING or status >= 500)


class Bucket(abc.ABC):
    """One bucket of a service, without retries: what fails raises the exceptions of the service's library.

    Attributes:
      kept: what was read and committed here a moment ago.
      batch: how many objects one request deletes.
    """

    kept: Kept
    batch: int

    @abc.abstractmethod
    def head(self, key: str) -> Head | None:
        """None: no such object."""

    @abc.abstractmethod
    def latest(self, key: str) -> tuple[Head, bytes] | None:
        """An object and all its bytes, of one version."""

    @abc.abstractmethod
    def get(self, key: str, start: int, length: int | None) -> bytes | None:
        """Bytes of an object, none beyond its end; None: no such object."""

    @abc.abstractmethod
    def download(self, key: str, write: Callable[[bytes], object]) -> bool:
        """Hands on all bytes of one version of an object, piece by piece; False: no such object.

        Raises what `write` raises, and ConnectionError if the object breaks off.
        """

    @abc.abstractmethod
    def put(self, key: str, body: bytes | BinaryIO, expected: str | None, marks: str) -> str | None:
        """Writes an object.

        Args:
          key: of the object.
          body: bytes, or a file of them from its beginning.
          expected: the tag of the object that it replaces; "": there is none; None: whatever is there.
          marks: to be kept with it.

        Returns:
          Its tag; None if what was expected is not there.
        """

    @abc.abstractmethod
    def keys(self, prefix: str) -> list[str]:
        """Keys of all objects below a prefix that ends in "/" or is empty."""

    def listed(self, prefix: str) -> list[tuple[str, int]]:
        """Keys and sizes in bytes of all objects below a prefix that ends in "/" or is empty."""
        found = [(key, self.head(key)) for key in self.keys(prefix)]
        return [(key, head.size) for key, head in found if head is not None]

    @abc.abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects, in as few requests as the service allows; one that is gone is no fault."""

    @abc.abstractmethod
    def trouble(self, error: Exception) -> Trouble | None:
        """What an exception means; None: it is no fault of the service."""

    @abc.abstractmethod
    def keeps_deleted(self, probe: str) -> str | None:
        """Why a deleted object may live on; None: it does not. `probe` is a key that may be written and deleted."""
