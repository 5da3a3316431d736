"""What a process keeps is made once, however many of its threads ask for it at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pe_beam.kept import free_memory, kept


def test_threads_that_ask_at_once_are_given_one_object():
    """Each worker thread of a process voted on a matrix of its own, in an engine's form of its own."""
    made = []

    @kept(maxsize=2)
    def matrix(name: str) -> object:
        time.sleep(0.1)
        made.append(name)
        return object()

    together = threading.Barrier(4)

    def ask(name: str) -> object:
        together.wait(20)
        return matrix(name)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, "aabb"))
    assert sorted(made) == ["a", "b"]
    assert found[0] is found[1] is not found[2] is found[3]
    free_memory()
    assert matrix("a") is not found[0]


def test_a_failure_is_not_kept():
    answers = iter([ValueError("not now"), 7])

    @kept(maxsize=1)
    def asked() -> int:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    with pytest.raises(ValueError, match="not now"):
        asked()
    assert asked() == asked() == 7
