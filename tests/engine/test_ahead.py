"""ReadAhead: the same items in the same order, one ahead and no more, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pe_beam.engine.ahead import ReadAhead


def source(name: str, items: int, done: list[str]) -> Iterator[tuple[str, bool]]:
    try:
        for item in range(items):
            done.append(f"{name}{item}")
            yield f"{name}{item}", item == items - 1
    finally:
        done.append(f"{name} closed")


_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _none_of_other_tests_count() -> None:
    _others.clear()
    _others.update(threading.enumerate())


def reading() -> int:
    return sum(thread.name == "read-ahead" for thread in {*threading.enumerate()} - _others)


@pytest.mark.parametrize("sizes", [[1], [1, 1, 1], [3, 1, 2], [2, 5]])
def test_everything_comes_out_in_order_and_every_source_is_closed(sizes: list[int]) -> None:
    ahead, done, given = ReadAhead[str](), list[str](), list[str]()
    for number, size in enumerate(sizes):
        given += ahead.follow(source("abc"[number], size, done))
    given += ahead.drain()
    assert given == [f"{'abc'[number]}{item}" for number, size in enumerate(sizes) for item in range(size)]
    assert [name for name in done if "closed" in name] == [f"{'abc'[number]} closed" for number in range(len(sizes))]
    assert list(ahead.drain()) == [] and not reading()


def test_one_item_is_read_ahead_and_no_more() -> None:
    ahead, done = ReadAhead[str](), list[str]()
    assert list(ahead.follow(source("a", 4, done))) == []
    for taken, _ in enumerate(ahead.drain(), 1):
        while reading():
            pass
        assert len([name for name in done if "closed" not in name]) == min(4, taken + 1)


def test_the_next_source_is_read_while_the_last_item_is_used() -> None:
    ahead, begun = ReadAhead[str](), threading.Event()

    def late() -> Iterator[tuple[str, bool]]:
        begun.set()
        yield "b", True

    list(ahead.follow(source("a", 1, [])))
    for item in ahead.follow(late()):
        assert item == "a0" and begun.wait(60)
    assert list(ahead.drain()) == ["b"]


def test_an_error_comes_out_where_the_item_is_wanted_and_ends_all() -> None:
    def broken() -> Iterator[tuple[str, bool]]:
        yield "b0", False
        raise OSError("torn")

    ahead, given = ReadAhead[str](), list[str]()
    given += ahead.follow(source("a", 1, []))
    given += ahead.follow(broken())
    with pytest.raises(OSError, match="torn"):
        for item in ahead.drain():
            given.append(item)
    assert given == ["a0", "b0"] and list(ahead.drain()) == [] and not reading()


def test_a_dropped_reader_has_closed_its_source_and_has_no_thread() -> None:
    ahead, done, hold = ReadAhead[str](), list[str](), threading.Event()

    def slow() -> Iterator[tuple[str, bool]]:
        hold.wait(60)
        yield from source("a", 3, done)

    list(ahead.follow(slow()))
    assert reading() == 1
    threading.Timer(0.05, hold.set).start()
    ahead.drop()
    assert done == ["a0", "a closed"]
    while reading():
        pass
    assert list(ahead.drain()) == []
