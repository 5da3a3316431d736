"""What was read or drawn and may be asked for again: the latest things, as many as a limit in bytes allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shelf(Generic[T]):
    """Things by key. Released files never change, so a thing is right for as long as its key is asked for.

    Args:
      most: bytes of all things together; one that is larger alone is not kept.
      size: the bytes of a thing.
    """

    def __init__(self, most: int, size: Callable[[T], int]) -> None:
        self._most, self._size, self._total = most, size, 0
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the thing of a key, made if it is not here."""
        with self._mutex:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
        made = make()  # not under the lock: making takes long, and two that make the same make it equal
        with self._mutex:
            if key not in self._things:
                self._things[key] = made
                self._total += self._size(made)
            while self._total > self._most:
                self._total -= self._size(self._things.popitem(last=False)[1])
        return made

    @property
    def total(self) -> int:
        """Bytes of all things that are kept."""
        return self._total
