"""A stream in a budget book reserves once what all of its windows cost one unit."""

from __future__ import annotations

import pytest

from pe_beam.books.entering import RECEIPT
from pe_beam.books.file import create_book, read_book
from pe_beam.driver.booking import cost_of
from pe_beam.errors import InputError, LockedError
from pe_beam.storage import open_store
from pe_beam.streams.booking import check, give_back
from pe_beam.streams.ledger import read_lines
from tests.streams.drifting import Life, put, stream_recipe, window


def test_a_stream_reserves_once_for_all_of_its_windows(tmp_path):
    place = str(tmp_path / "book")
    create_book(place, name="streams", epsilon=2.5, delta=1e-5)  # for one stream of epsilon 2
    changes = {"privacy__book": place}
    cost = cost_of(stream_recipe(tmp_path, **changes)).squared()

    def taken() -> object:
        book = read_book(open_store(place))
        return book.total - book.left

    ended, life, late = (Life(tmp_path / name, changes) for name in ("ended", "life", "late"))
    ended.until(0.5)  # no window is closed yet
    assert taken() == cost
    give_back(str(ended.folder / "stream"))
    with pytest.raises(InputError, match="never spend more"):
        ended.until(1.5)
    put(life.folder, 0, "a", [1])
    store = life.until(2.1)
    assert len({line["window"] for line in read_lines(store)}) == 2
    assert taken() == cost and len(read_book(open_store(place)).entries) == 2
    assert not store.exists(f"windows/{window(0)}/{RECEIPT}")
    with pytest.raises(InputError, match="is left"):
        late.until(1.5)
    assert not read_lines(open_store(late.folder / "stream"))
    assert [found.faults for found in check(place)] == [[], []]
    with pytest.raises(InputError, match="has spent, and with that the stream its whole mu"):
        give_back(store.uri)
    with store.lock(), pytest.raises(LockedError):
        give_back(store.uri)


def test_a_unit_in_several_windows_costs_as_often(tmp_path):
    wide = {"every": "1d", "length": "2d", "anchor": "2026-12-01T00:00Z"}
    once, twice = stream_recipe(tmp_path), stream_recipe(tmp_path, stream__window=wide, stream__sliding=2)
    assert cost_of(twice).squared() == 2 * cost_of(once).squared()
