"""What a process keeps for its next run, since it takes long to load: models, candidates and open runs."""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_LOCKS = 8  # of a function: while one result is made, few others that are there have to wait
_CACHES: list[Kept[Any]] = []


class Kept(Generic[T]):
    """A function whose results are kept. Threads that ask for one at once wait until the first of them has made it."""

    def __init__(self, function: Callable[..., T], maxsize: int) -> None:
        self._cached = functools.lru_cache(maxsize)(function)
        self._locks = [threading.RLock() for _ in range(_LOCKS)]
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> T:
        """Returns the result of some arguments, by position."""
        with self._locks[hash(args) % _LOCKS]:
            return self._cached(*args)

    def cache_clear(self) -> None:
        """Forgets all results."""
        self._cached.cache_clear()


def kept(maxsize: int) -> Callable[[Callable[..., T]], Kept[T]]:
    """Caches a function as `functools.lru_cache` does, until `free_memory`; each result is made once.

    Args:
      maxsize: number of results that are kept.
    """

    def wrap(function: Callable[..., T]) -> Kept[T]:
        cached = Kept(function, maxsize)
        _CACHES.append(cached)
        return cached

    return wrap


def free_memory() -> None:
    """Frees the memory, of a GPU too, of what this process keeps for its next run: models, candidates and open runs.

    Runs in a process share it, as those of a notebook and the windows of a stream do. The next run loads it again, and
    so does one that goes on in another thread. What a variable still holds, as a model of your own, stays.

    >>> import pe_beam
    >>> pe_beam.free_memory()
    """
    for cached in _CACHES:
        cached.cache_clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
