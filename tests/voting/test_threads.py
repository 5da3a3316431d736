"""Blocks side by side: every item once, errors in order, and BLAS as it was before."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from pe_beam.voting import threads
from pe_beam.voting.nearest import flat_search, reference_nearest
from pe_beam.voting.threads import allowed_threads, side_by_side


def blas() -> list[int]:
    return [each.num_threads for each in ThreadpoolController().select(user_api="blas").lib_controllers]


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A BLAS that may take three threads, whatever limit a run in this process has set."""
    monkeypatch.setitem(threads._state, "limit", None)
    with threadpool_limits(3, "blas"):
        yield


@pytest.mark.usefixtures("three")
def test_every_item_is_worked_on_once_with_one_thread_of_blas() -> None:
    seen: list[tuple[int, int]] = []
    side_by_side(lambda item: seen.append((item, max(blas()))), range(50))
    assert sorted(seen) == [(item, 1) for item in range(50)]
    assert max(blas()) == allowed_threads() == 3


@pytest.mark.usefixtures("three")
def test_one_item_has_all_threads() -> None:
    seen: list[int] = []
    side_by_side(lambda _: seen.append(max(blas())), [0])
    assert seen == [3]


_LATER = """
import numpy as np
from threadpoolctl import threadpool_info
from pe_beam.voting.threads import allowed_threads, limit_threads, side_by_side, within_limit

limit_threads(2)
import faiss  # with a BLAS and an OpenMP of its own

def most(kind):
    return max(each["num_threads"] for each in threadpool_info() if each["user_api"] == kind)

assert allowed_threads() == most("blas") == 2
seen = []
side_by_side(lambda _: seen.append((most("blas"), most("openmp"))), [0])
side_by_side(lambda _: seen.append((most("blas"), most("openmp"))), range(3))
with within_limit():
    seen.append((most("blas"), most("openmp")))
assert seen == [(2, 2), (1, 1), (1, 1), (1, 1), (2, 2)], seen
limit_threads(None)
limit_threads(1)
with within_limit():
    assert allowed_threads() == most("blas") == most("openmp") == 1
"""


def test_a_limit_holds_for_libraries_that_are_loaded_later() -> None:
    many = {f"{name}_NUM_THREADS": "3" for name in ("OMP", "OPENBLAS", "MKL")}
    subprocess.run([sys.executable, "-c", _LATER], check=True, env=os.environ | many)


def test_one_thread_works_here() -> None:
    names: list[str] = []
    with threadpool_limits(1, "blas"):
        side_by_side(lambda _: names.append(threading.current_thread().name), range(3))
    assert set(names) == {threading.current_thread().name}


@pytest.mark.usefixtures("three")
def test_the_first_error_is_raised_when_all_have_ended() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        if item in (3, 7):
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 3"):
        side_by_side(work, range(10))
    assert sorted(done) == list(range(10))
    assert max(blas()) == 3


@pytest.mark.usefixtures("three")
def test_several_callers_at_once_restore_what_was_before() -> None:
    def call(_: int) -> None:
        side_by_side(lambda _: np.dot(np.ones((50, 50)), np.ones((50, 50))), range(20))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(call, range(30)))
    assert threads._state["inside"] == 0
    assert max(blas()) == 3


def _forked() -> None:
    seen: list[int] = []
    side_by_side(seen.append, range(5))
    raise SystemExit(0 if sorted(seen) == list(range(5)) else 1)


@pytest.mark.usefixtures("three")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(lambda _: None, range(5))
    child = multiprocessing.get_context("fork").Process(target=_forked)
    child.start()
    child.join(300)
    assert child.exitcode == 0


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("engine", ["blas", "prefix"])
def test_answers_are_those_of_the_definition(engine: str) -> None:
    rng = np.random.default_rng(0)
    candidates = rng.integers(0, 3, (60, 5)).astype(np.float32)
    queries = rng.integers(0, 3, (900, 5)).astype(np.float32)
    found = flat_search(candidates, distance="l2", votes=3, search_engine=engine, block=64).nearest(queries)
    np.testing.assert_array_equal(found[:100], reference_nearest(queries[:100], candidates, distance="l2", votes=3))
    alone = np.concatenate(
        [
            flat_search(candidates, distance="l2", votes=3, search_engine=engine).nearest(queries[at : at + 90])
            for at in range(0, 900, 90)
        ]
    )
    np.testing.assert_array_equal(found, alone)


@pytest.mark.usefixtures("three")
def test_a_number_that_is_not_finite_is_refused_from_any_block() -> None:
    queries = np.zeros((900, 2), np.float32)
    queries[700, 1] = np.nan
    with pytest.raises(ValueError, match="every number must be finite"):
        flat_search(np.ones((3, 2), np.float32), distance="l2", votes=1).nearest(queries)
