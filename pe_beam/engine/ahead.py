"""Reads one batch ahead: the next one is read in a thread while this one is voted on.

A shard is one batch for most embedders, so the thread reads over the boundary of two shards of a bundle.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")
Read = tuple[T, bool]
"""What was read, and whether it is the last of its source."""


class ReadAhead(Generic[T]):
    """Gives what sources give, in order, and has at most one item read ahead. One thread uses it.

    A thread lives as long as one read. So nothing stays behind after a failure but a read that ends by itself.
    """

    def __init__(self) -> None:
        self._source: Iterator[Read[T]] | None = None
        self._read: Future[Read[T]] | None = None

    def follow(self, source: Iterator[Read[T]]) -> Iterator[T]:
        """Gives the rest of the source before, and starts to read this one before it gives the last item.

        Args:
          source: gives items, at least one, and says with each whether it is the last.

        Raises:
          Exception: what a source has raised. Nothing more is given then.
        """
        if self._read is None:
            self._start(source)
        else:
            yield from self._rest(source)

    def drain(self) -> Iterator[T]:
        """Gives what is left. Raises what a source has raised."""
        if self._read is not None:
            yield from self._rest(None)

    def drop(self) -> None:
        """Waits for a read that is under way, and forgets it. Its error too: whoever drops does not want the item."""
        source, read, self._source, self._read = self._source, self._read, None, None
        if read is not None:
            read.exception()
        _close(source)

    def _rest(self, following: Iterator[Read[T]] | None) -> Iterator[T]:
        last = False
        while not last:
            assert self._read is not None
            read, self._read = self._read, None
            item, last = read.result()
            if not last:
                self._start(self._source)
            else:
                _close(self._source)
                self._start(following)
            yield item

    def _start(self, source: Iterator[Read[T]] | None) -> None:
        self._source = source
        if source is None:
            return
        self._read = Future()
        threading.Thread(target=_into, args=(source, self._read), name="read-ahead", daemon=True).start()


def _into(source: Iterator[Read[T]], read: Future[Read[T]]) -> None:
    try:
        read.set_result(next(source))
    except BaseException as error:  # it is raised again where the item is wanted
        read.set_exception(error)


def _close(source: Iterator[Read[T]] | None) -> None:
    """Closes the file of a generator that has given its last item."""
    close = getattr(source, "close", None)
    if close is not None:
        close()
