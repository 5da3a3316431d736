"""What a process keeps for its next run, since it takes long to load: models, candidates and open runs."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_CACHES: list[functools._lru_cache_wrapper[object]] = []


def kept(maxsize: int) -> Callable[[Callable[..., T]], functools._lru_cache_wrapper[T]]:
    """Caches a function as `functools.lru_cache` does, until `free_memory`.

    Args:
      maxsize: number of results that are kept.
    """

    def wrap(function: Callable[..., T]) -> functools._lru_cache_wrapper[T]:
        cached = functools.lru_cache(maxsize)(function)
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
