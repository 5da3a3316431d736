"""A budget book in a bucket: runs at once, and answers that are lost, reserve each run once and never too much."""

from __future__ import annotations

import threading

from pe_beam.books.file import create_book, read_book
from pe_beam.contracts.store import Store
from pe_beam.storage import open_store
from tests.books.test_books import apply
from tests.storage.proxy import LATE, LOST, Proxy


def test_runs_at_once_do_not_overspend_though_answers_are_lost(store: Store, proxy: Proxy):
    place = f"{store.uri}/book"
    create_book(place, name="bucket", epsilon=1, delta=1e-5)
    proxy.fault = lambda number, asked: {0: LOST, 1: LATE}.get(number % 4)
    won: list[bool] = []
    threads = [threading.Thread(target=lambda n=n: won.append(apply(place, n, store.uri))) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(won) == len(read_book(open_store(place)).entries) == 7
    proxy.fault = lambda *_: None
    assert sum(apply(place, n, store.uri) for n in range(9)) == 7  # those that are in stay in, and pay once
    assert len(read_book(open_store(place)).entries) == 7
