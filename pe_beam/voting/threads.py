"""Searches blocks of queries side by side: one thread of BLAS for each is faster than all threads for one block.

The scan of a block's scores, and the decision, are no BLAS and would run on one core. Blocks are independent, and the
arrays of each stay in the cache of one core. OpenMP (torch, faiss) keeps a number of threads for each calling thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
_lock = threading.Lock()
_state: dict[str, Any] = {"process": None, "inside": 0, "pools": {}}


def side_by_side(work: Callable[[T], Any], items: Sequence[T]) -> None:
    """Calls `work` for each item, in as many threads as NumPy's BLAS may take, each with one thread of BLAS and OpenMP.

    One item is worked on here, with all threads. If BLAS may take one thread only, all items are worked on here.

    Raises:
      Exception: what `work` has raised, the first one in the order of the items; then all calls have ended.
    """
    allowed = allowed_threads()
    if allowed == 1:
        with _one_thread_of_openmp():
            for item in items:
                work(item)
        return
    if len(items) < 2:
        for item in items:
            work(item)
        return

    def alone(item: T) -> None:
        with _one_thread_of_openmp():
            work(item)

    with _one_thread_of_blas():
        done = [_pool().submit(alone, item) for item in items]
        errors = [each.exception() for each in done]
    for error in errors:
        if error is not None:
            raise error


def allowed_threads() -> int:
    """Returns how many threads BLAS may take in this process, whatever goes on in `side_by_side`."""
    with _lock:
        return _allowed()


def _allowed() -> int:
    """As `allowed_threads`, under the lock. A forked process starts anew: it has none of the threads."""
    if _state["process"] != os.getpid():
        blas = ThreadpoolController().select(user_api="blas").lib_controllers
        _state.update(process=os.getpid(), inside=0, blas=blas, pools={})
    if not _state["inside"]:
        _state["allowed"] = [each.num_threads for each in _state["blas"]]
    return max(_state["allowed"], default=1)


def _pool() -> ThreadPoolExecutor:
    with _lock:
        threads, pools = _allowed(), _state["pools"]
        if threads not in pools:
            pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="search")
        found: ThreadPoolExecutor = pools[threads]
        return found


@contextlib.contextmanager
def _one_thread_of_blas() -> Iterator[None]:
    """Holds BLAS to one thread until the last of those that are inside leaves."""
    with _lock:
        _allowed()
        _state["inside"] += 1
        if _state["inside"] == 1:
            for each in _state["blas"]:
                each.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _state["inside"] -= 1
            if not _state["inside"]:
                for each, threads in zip(_state["blas"], _state["allowed"], strict=True):
                    each.set_num_threads(threads)


@contextlib.contextmanager
def _one_thread_of_openmp() -> Iterator[None]:
    """Holds OpenMP to one thread when this thread calls it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.get_num_threads()  # torch sets the number itself at the first call of a thread
    every = _openmp(loaded=torch is not None)
    before = [each.num_threads for each in every]
    for each in every:
        each.set_num_threads(1)
    try:
        yield
    finally:
        for each, threads in zip(every, before, strict=True):
            each.set_num_threads(threads)


@functools.cache
def _openmp(*, loaded: bool) -> list[Any]:
    """Returns the OpenMP libraries of this process; `loaded`: whether torch has brought its own."""
    found: list[Any] = ThreadpoolController().select(user_api="openmp").lib_controllers
    return found
