"""What driver and workers of a Flink job tell each other through the run directory: that workers run and see it.

On a disk the workers add lines to one file, which the driver reads ten times a second. On a store where each look is a
request the driver looks only when it would give up, and the end of a job is what Flink says.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pe_beam.contracts.store import Store
from pe_beam.errors import MissingExtraError, StorageError, UnreachableError
from pe_beam.storage import open_store

_HELD = b"\narrived"
_LEFT = b"\nleft"
_OTHER = "what they see under this name is another bucket, or another prefix"


class Arrival:
    """The driver's side, for one job.

    Attributes:
      slug: the job's label, as part of names.
      token: random; it tells this job's workers from those of another one.
      often: whether looking costs nothing.
    """

    def __init__(self, store: Store, label: str) -> None:
        """Writes the token that workers have to find."""
        self.slug, self.token = re.sub(r"\W+", "-", label.lower()), secrets.token_hex(16)
        self.often = not store.remote
        self._store, self._name = store, f"work/arrivals/{self.slug}"
        store.commit(self._name, self.token.encode(), replace=True)

    def around(self, start: beam.PCollection, build: Any) -> beam.PCollection:
        """Builds a graph between the steps that tell the driver."""
        at = self._store.uri, self._name
        built = build(start | "Arrive" >> beam.ParDo(ArriveFn(*at, self.token)))
        return built | "Leave" >> beam.ParDo(LeaveFn(*at)) if self.often else built

    def has_begun(self) -> bool:
        """Returns whether a worker has told that it runs."""
        if self.often:
            return _HELD in self._store.read(self._name)
        name = _answer(self._name)
        return self._store.exists(name) and self._store.read(name) == self.token.encode()

    def has_ended(self) -> bool:
        """Returns whether the last stage has told that it is done; False where looking costs."""
        return self.often and _LEFT in self._store.read(self._name)

    def clear(self) -> None:
        """Deletes what was written."""
        self._store.delete(self._name)
        if not self.often:
            self._store.delete(_answer(self._name))


def _answer(name: str) -> str:
    return f"{name}.arrived"


class ArriveFn(beam.DoFn):
    """Tells the driver that a worker runs and sees the run directory, then passes its element on."""

    def __init__(self, root: str, name: str, token: str) -> None:
        self._root = root
        self._name = name
        self._token = token

    def process(self, element: int) -> Iterator[int]:
        """Raises StorageError if the worker does not find the driver's token in the run directory."""
        store = open_store(self._root)
        try:
            why = "" if store.read(self._name).startswith(self._token.encode()) else _OTHER
        except MissingExtraError as error:
            raise MissingExtraError(f"the workers' installation: {error}") from None
        except StorageError as error:
            # What a service says of credentials, region and endpoint has nothing of the data.
            why = str(error).rpartition(" failed: ")[2] if isinstance(error, UnreachableError) else _OTHER
        if why:
            raise StorageError(f"--run-dir {self._root}: the workers do not see it; {_wanted(store, why)}")
        if store.remote:
            store.commit(_answer(self._name), self._token.encode(), replace=True)
        else:
            store.append(self._name, _HELD, durable=False)
        yield element


def _wanted(store: Store, why: str) -> str:
    if not store.remote:
        return "it must lie on a file system that the driver and all workers share, under the same path"
    return f"each worker needs the driver's endpoint and credentials in its environment (docs/stores.md): {why}"


class LeaveFn(beam.DoFn):
    """Tells the driver that the last stage has committed its work, then passes its element on."""

    def __init__(self, root: str, name: str) -> None:
        self._root = root
        self._name = name

    def process(self, element: Any) -> Iterator[Any]:
        """Appends the message to the file of the arrival, if that still exists."""
        store = open_store(self._root)
        if store.exists(self._name):
            store.append(self._name, _LEFT, durable=False)
        yield element
