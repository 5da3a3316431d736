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

from threadpoolctl import ThreadpoolController, threadpool_limits

T = TypeVar("T")
_lock = threading.Lock()
_state: dict[str, Any] = {"process": None, "loaded": None, "limit": None, "inside": 0, "pools": {}}
_BRINGERS = {"faiss": "swig_ptr", "torch": "get_num_threads"}
"""Modules that bring BLAS and OpenMP of their own, and what each has once it is loaded."""


def limit_threads(threads: int | None) -> None:
    """Sets the threads of BLAS, and bounds those of searches, in this process; None changes nothing.

    Workers that share a machine are faster if each uses one core. It holds for libraries that are loaded later, too.
    """
    if threads is None or threads == _state["limit"]:
        return
    with _lock:
        threadpool_limits(limits=threads)
        _state["limit"] = threads


def side_by_side(work: Callable[[T], Any], items: Sequence[T]) -> None:
    """Calls `work` for each item, in as many threads as NumPy's BLAS may take, each with one thread of BLAS and OpenMP.

    One item is worked on here, with all threads. If BLAS may take one thread only, all items are worked on here.

    Raises:
      Exception: what `work` has raised, the first one in the order of the items; then all calls have ended.
    """
    allowed = allowed_threads()
    if allowed == 1:
        with _threads_of_openmp(1):
            for item in items:
                work(item)
        return
    if len(items) < 2:
        with within_limit():
            for item in items:
                work(item)
        return

    def alone(item: T) -> None:
        with _threads_of_openmp(1):
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
        _state.update(process=os.getpid(), loaded=None, inside=0, pools={})
    if not _state["inside"]:
        loaded = _loaded()
        if _state["loaded"] != loaded:
            _state.update(loaded=loaded, blas=_libraries("blas", loaded))
        for each in _state["blas"]:
            if _state["limit"] is not None and each.num_threads > _state["limit"]:  # it came after the limit
                each.set_num_threads(_state["limit"])
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
def within_limit() -> Iterator[None]:
    """Holds OpenMP to `limit_threads` when this thread calls it."""
    with contextlib.nullcontext() if _state["limit"] is None else _threads_of_openmp(_state["limit"]):
        yield


@contextlib.contextmanager
def _threads_of_openmp(threads: int) -> Iterator[None]:
    """Holds OpenMP to so many threads when this thread calls it."""
    loaded = _loaded()
    if "torch" in loaded:
        sys.modules["torch"].get_num_threads()  # torch sets the number itself at the first call of a thread
    every = _libraries("openmp", loaded)
    before = [each.num_threads for each in every]
    for each, most in zip(every, before, strict=True):
        each.set_num_threads(min(threads, most))
    try:
        yield
    finally:
        for each, most in zip(every, before, strict=True):
            each.set_num_threads(most)


def _loaded() -> tuple[str, ...]:
    return tuple(name for name, last in _BRINGERS.items() if hasattr(sys.modules.get(name), last))


@functools.cache
def _libraries(kind: str, loaded: tuple[str, ...]) -> list[Any]:
    """Returns the libraries of a kind, `blas` or `openmp`, of this process, once the modules in `loaded` are."""
    found: list[Any] = ThreadpoolController().select(user_api=kind).lib_controllers
    return found
