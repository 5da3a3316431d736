"""A write whose answer is lost, or that is answered by 503, applied or not: no false loser, same bytes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from pe_beam.contracts.store import Store
from pe_beam.storage import open_store
from pe_beam.storage.objects import LARGE
from tests.storage.proxy import BUSY, LATE, LOST, Proxy
from tests.storage.servers import Server

_NEXT = itertools.count(10_000)
_LARGE = bytes(range(256)) * (LARGE // 256 + 1)


def _all_writes(store: Store) -> list[object]:
    """Each kind of write once or more, with what it answers."""
    told: list[object] = [
        store.commit("a/one", b"first"),
        store.commit("a/one", b"first"),  # equal bytes of another writer are not one's own
        store.commit("a/two", lambda file: [file.write(b"two"), None][1]),
        store.commit("a/one", b"replaced", replace=True),
        store.swap("swapped", b"1", None),
        store.swap("swapped", b"2", None),
    ]
    version = store.version("swapped")
    told += [
        store.swap("swapped", b"2", version),
        store.swap("swapped", b"2", version),  # the same bytes once more: another has won
        store.update("count", lambda data: b"%d" % (int(data or b"0") + 1)),
        store.update("count", lambda data: b"%d" % (int(data or b"0") + 1)),
    ]
    store.append("ledger.jsonl", b"line 1\n")
    store.append("ledger.jsonl", b"line 2\n")
    store.copy("a/one", "copied")
    store.delete("a/two")
    for place in range(3):
        store.commit(f"gone/{place}", b"x")
    store.delete_all("gone")
    with store.lease("held"):
        told.append(store.is_leased("held"))
    told.append(store.is_leased("held"))
    return [*told, {name: store.read(name) for name in store.list_files()}]


@pytest.mark.parametrize("fault", [LOST, LATE, BUSY])
def test_a_fault_at_each_write_changes_nothing(server: Server, proxy: Proxy, fault: str) -> None:
    wanted = _all_writes(open_store(f"memory://lost/{next(_NEXT)}"))
    top, seen = f"{next(_NEXT)}", dict[str, int]()

    def fail(_: int, asked: str) -> str | None:
        """Every second request of each kind: a write fails the first time, and passes when it is asked again."""
        seen[asked] = seen.get(asked, 0) + 1
        return fault if seen[asked] % 2 else None

    proxy.fault = fail
    assert _all_writes(open_store(f"{server.kind}://runs/{top}")) == wanted


def test_a_large_body_whose_answer_is_lost(server: Server, proxy: Proxy) -> None:
    store = open_store(f"{server.kind}://runs/{next(_NEXT)}")
    for place, fault in enumerate((LOST, LATE, BUSY)):
        proxy.changes = 0
        proxy.fault = lambda change, _, fault=fault: fault if change == 0 else None
        assert store.commit(f"large/{place}", lambda file: [file.write(_LARGE), None][1])
        assert not store.commit(f"large/{place}", lambda file: [file.write(_LARGE), None][1])
        assert store.size(f"large/{place}") == len(_LARGE)
    assert store.read("large/0") == _LARGE


def _count(store: Store, times: int) -> None:
    for _ in range(times):
        store.update("count", lambda data: b"%d" % (int(data or b"0") + 1))


def test_racing_updates_under_faults_count_each_once(server: Server, proxy: Proxy) -> None:
    proxy.fault = lambda change, _: (LOST, LATE, BUSY)[change % 3] if change % 5 == 0 else None
    store = open_store(f"{server.kind}://runs/{next(_NEXT)}")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_count, [store] * 4, [10] * 4))
    assert store.read("count") == b"40"
