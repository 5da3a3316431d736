"""Paid services of a run on a store: pace and ceiling over processes of several machines, by few requests."""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.service import Ceiling, Endpoint, Price, Service
from pe_beam.contracts.store import Folder, Store
from pe_beam.errors import SpentError, StorageError
from pe_beam.services import blocks, exchange, shares
from pe_beam.services.blocks import BlockAccount
from pe_beam.services.connection import Connection
from pe_beam.services.journal import Journal
from pe_beam.services.pace import SharedPace
from pe_beam.services.pool import shared_dispatcher
from pe_beam.services.record import UNIT, Cost, read_totals
from pe_beam.services.shares import Shares
from pe_beam.storage import open_folder, open_store
from pe_beam.storage.suite import Bench
from tests.storage.conftest import KINDS
from tests.storage.proxy import LATE, LOST, Proxy, before
from tests.storage.servers import Server, found, program_of

_NEXT = itertools.count(60_000)


@pytest.fixture
def one(servers: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """One server of those that are at hand; each kind's own conditional writes are looked at elsewhere."""
    server = servers(next((kind for kind in KINDS if found(program_of(kind))), "gs"))
    for name, text in server.environment.items():
        monkeypatch.setenv(name, text)
    return server


@pytest.fixture(autouse=True)
def _accounts_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes the accounts of a test: their threads would make requests while later tests count theirs."""
    made: list[BlockAccount] = []
    real = BlockAccount.__init__

    def init(self: BlockAccount, *given: Any, **named: Any) -> None:
        real(self, *given, **named)
        made.append(self)

    monkeypatch.setattr(BlockAccount, "__init__", init)
    yield
    for account in made:
        account.close()


def _race(work: Callable[..., Any], places: int, uri: str, *given: Any) -> list[Any]:
    """What `work` returns in each of several processes that begin together."""
    return Bench(open_store(uri)).race(functools.partial(work, *given), places)


# --- parts of a rate ----------------------------------------------------------------------------------------


class _Still:
    """In place of the thread: the test says when it works."""

    def __init__(self, *_: object) -> None:
        pass

    def ask(self) -> None:
        pass

    demand = ask


class _Machine:
    """A process with a clock of its own, which has its part renewed, late or never, and uses it as it pleases."""

    def __init__(self, folder: Folder, most: int | None, off: float) -> None:
        self.off, self.due, self.alive = off, 0.0, True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shares, "Exchange", _Still)
            self.shares = Shares(folder, most)

    def at(self, moment: float, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(shares, "now", lambda: moment + self.off)

    def work(self, moment: float, late: float) -> None:
        again = self.shares._work()
        self.due = moment + (again or 1.0) + late


@settings(max_examples=25, deadline=None)
@given(
    machines=st.lists(st.tuples(st.floats(-300, 300), st.floats(0, 60), st.floats(60, 400)), min_size=1, max_size=12),
    most=st.one_of(st.none(), st.integers(1, 4)),
    delays=st.lists(st.floats(0, 90), min_size=1, max_size=20),
)
def test_parts_of_a_rate_never_add_up_to_more_than_the_whole(machines, most, delays):
    """Machines whose clocks are 5 minutes off, that begin and are killed at any time, and are late."""
    folder, late = open_folder(f"memory://shares/{next(_NEXT)}"), itertools.cycle(delays)
    made = [_Machine(folder, most, off) for off, _, _ in machines]
    with pytest.MonkeyPatch.context() as patch:
        for tenth in range(10, 6000, 10):
            moment, total, holders = tenth / 10, 0.0, 0
            for each, (_, begins, ends) in zip(made, machines, strict=True):
                if not begins <= moment < ends:
                    continue
                each.at(moment, patch)
                if moment >= each.due and each.shares.part() >= 0:
                    each.work(moment, next(late) if len(delays) > 1 else 0.0)
            for each, (_, begins, ends) in zip(made, machines, strict=True):
                each.at(moment, patch)
                if begins <= moment < ends:
                    total, holders = total + each.shares.part(), holders + (each.shares.part() > 0)
            assert total <= 1 + 1e-12
            assert most is None or holders <= most
    works = any(math.ceil(begins) < ends for _, begins, ends in machines)
    if works and max(delays) == 0 and most is None:  # nobody is late: it is shared evenly, until the first one ends
        assert sum(each.shares._part for each in made) > 0


def test_what_an_ended_process_had_is_used_again(monkeypatch):
    folder = open_folder(f"memory://shares/{next(_NEXT)}")
    first, second = (_Machine(folder, None, off) for off in (0.0, 250.0))
    for moment in range(0, 200):
        for each in (first, second)[moment // 100 :]:  # the first one is killed after 100 seconds
            each.at(moment, monkeypatch)
            each.shares.part()
            if moment >= each.due:
                each.work(moment, 0)
        if moment in (50, 99):
            assert first.shares._part == second.shares._part == shares.WHOLE // 2
    second.at(200, monkeypatch)
    assert second.shares.part() == 1


def test_one_that_asks_for_nothing_gives_its_part_back(monkeypatch):
    folder = open_folder(f"memory://shares/{next(_NEXT)}")
    first, second = (_Machine(folder, 1, 0.0) for _ in range(2))
    for moment in range(0, 150):
        for each in (first, second):
            each.at(moment, monkeypatch)
            if each is second or moment < 40:
                each.shares.part()
            if moment >= each.due:
                each.work(moment, 0)
        if moment == 40:
            assert (first.shares._part, second.shares._part) == (shares.WHOLE, 0)
    assert (first.shares._part, second.shares._part) == (0, shares.WHOLE)


class _Fixed(Shares):
    """A part that changes as the test says."""

    def __init__(self) -> None:
        self.now = 1.0

    def part(self) -> float:
        return self.now


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(1, 3000),
    parts=st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 4)), min_size=1, max_size=12),
)
def test_no_minute_has_more_than_the_rate(per_minute, parts):
    """Processes that always want more, and whose parts change; together they have the whole at most."""
    most = max(per_minute // SharedPace.LEAST, 1)
    moment, own, paces = 0.0, [], []
    for _ in range(min(most, 4)):
        own.append(_Fixed())
        paces.append(SharedPace(own[-1], per_minute, clock=lambda: moment))
    leaves = []
    for seconds, holders in itertools.islice(itertools.cycle(parts), 16):
        for place, each in enumerate(own):
            each.now = 1 / holders if place < holders <= len(own) else 0.0
        end = moment + seconds
        while moment < end:
            waits = []
            for pace in paces:
                taken, wait = pace.offer()
                while taken:
                    leaves.append(moment)
                    taken, wait = pace.offer()
                waits.append(wait)
            moment += max(min(waits), 0.02)
    times = np.sort(leaves)
    if len(times):
        inside = np.searchsorted(times, times + 60, side="left") - np.arange(len(times))
        assert inside.max() <= per_minute


def _pull(per_minute: float, seconds: float, store: Store, place: int) -> list[float]:
    """Takes places on a machine whose clocks are 5 minutes off: the times, by the one true clock."""
    until = time.time() + seconds
    off = (-300.0, 0.0, 300.0)[place % 3]
    exchange.now.__globals__["time"] = _Clock(off)
    shares.PERIOD, shares._SETTLE = 1.0, 0.3
    pace = SharedPace(Shares(Folder(store), int(per_minute // SharedPace.LEAST)), per_minute)
    times = []
    while time.time() < until:
        taken, wait = pace.offer()
        if taken:
            times.append(time.time())
        else:
            time.sleep(min(wait, 0.1))
    return times


class _Clock:
    """The module `time` of another machine."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self, off: float) -> None:
        self._off = off

    def clock_gettime(self, which: int) -> float:
        return time.clock_gettime(which) + self._off


def test_machines_whose_clocks_are_off_keep_one_rate(one: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,800 a minute, so that seconds show what a minute of some hundred would."""
    uri, rate, count = f"{one.kind}://runs/{next(_NEXT)}", 30, 6
    with before(one.port) as proxy:
        for name, text in one.behind(proxy.port).items():
            monkeypatch.setenv(name, text)
        own = _race(_pull, count, uri, 60 * rate, 12)
        requests = len(proxy.requests)
    times = np.sort(np.concatenate(own))
    for window in (1.0, 2.0):
        inside = np.searchsorted(times, times + window, side="left") - np.arange(len(times))
        assert inside.max() <= 0.9 * rate * (window + 0.3) + count  # a busy machine notes a time late by that
    last = min(found[-1] for found in own)  # when the first one ended
    late = times[(times > last - 4) & (times <= last)]
    assert len(late) >= 0.7 * 0.9 * rate * 4, "once all parts are given out, the rate is used"
    assert sum(len(found) > 0 for found in own) == count
    assert requests < 4 * 12 * count + 100  # a renewal a second here, a quarter of a minute in a run


def test_a_damaged_list_of_parts_is_said(tmp_path: Path) -> None:
    folder = Folder(open_store(tmp_path))
    folder.commit("shares.json", b"{broken")
    pace = SharedPace(Shares(folder, None), 100)
    with pytest.raises(StorageError, match=r"shares\.json: is damaged"):
        _until(pace.offer)


def _until(call: Callable[[], Any]) -> Any:
    """Calls until it raises, or a minute has passed."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        call()
        time.sleep(0.01)


# --- blocks of money ----------------------------------------------------------------------------------------


def _service(**ceiling: float) -> Service:
    return Service(price=Price(input=1, output=2), ceiling=Ceiling(**ceiling), concurrency=4)


def _spend(ceiling: dict[str, float], most: int, store: Store, place: int) -> int:
    """Makes calls, each cheaper than it might be, until the ceiling; returns their number."""
    blocks.PERIOD = 1.0
    account = BlockAccount(Folder(store), _service(**ceiling))
    worst, actual = (account.cost(input_tokens=50, output_tokens=out) for out in (100, 40))
    made = 0
    try:
        while made < most:
            if account.reserve(worst):
                time.sleep(0.002)
                account.settle(worst, actual)
                made += 1
            else:
                time.sleep(0.01)
    except SpentError:
        pass
    account.flush()
    return made


@pytest.mark.parametrize("ceiling", [{"calls": 400}, {"money": 0.04}])
def test_racing_processes_reach_a_ceiling_and_never_pass_it(
    one: Server, ceiling: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where answers of the store are lost: no call is counted twice, and none is left out."""
    uri, count = f"{one.kind}://runs/{next(_NEXT)}", 6
    with before(one.port) as proxy:
        for name, text in one.behind(proxy.port).items():
            monkeypatch.setenv(name, text)
        proxy.fault = lambda change, _: (LOST, LATE)[change % 2] if change % 5 == 0 else None
        made = sum(_race(_spend, count, uri, ceiling, 10_000))
        total = read_totals(open_folder(uri))
    account = BlockAccount(open_folder(f"memory://{uri}"), _service())
    worst, actual = (account.cost(input_tokens=50, output_tokens=out) for out in (100, 40))
    assert total == Cost(made, made * actual.input, made * actual.output, made * actual.money)
    limit = ceiling["calls"] if "calls" in ceiling else int(ceiling["money"] * UNIT) // actual.money
    spare = 0 if "calls" in ceiling else worst.money // actual.money
    assert limit - spare <= made <= limit
    assert len(proxy.requests) < 6 * made  # a small ceiling, so all are near it all the time


def test_few_requests_for_many_calls(server: Server, proxy: Proxy) -> None:
    folder = open_folder(f"{server.kind}://runs/{next(_NEXT)}")
    account = BlockAccount(folder, _service())
    worst = account.cost(input_tokens=50, output_tokens=100)
    proxy.requests.clear()
    made, limit = 0, time.monotonic() + 60
    while made < 1000 and time.monotonic() < limit:
        if account.reserve(worst):
            account.settle(worst, worst)
            made += 1
        else:
            time.sleep(0.01)
    account.flush()
    assert made == 1000
    assert read_totals(folder) == Cost(1000, 50_000, 100_000, 250_000 * UNIT // 10**6)
    assert len(proxy.requests) <= 50
    assert account.has_tokens()


def _reserve_and_die(place: int, environment: dict[str, str], uri: str) -> None:
    os.environ.update(environment)
    account = BlockAccount(open_folder(uri), _service())
    while not account.reserve(account.cost(input_tokens=5, output_tokens=5)):
        time.sleep(0.01)
    os._exit(9)


def test_the_block_of_a_killed_process_counts_as_spent(one: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PE_BEAM_LEASE_SECONDS", "1")
    monkeypatch.setattr(blocks, "_LATE", 0.5)
    uri = f"{one.kind}://runs/{next(_NEXT)}"
    context = multiprocessing.get_context("forkserver")
    job = context.Process(target=_reserve_and_die, args=(0, dict(os.environ), uri))
    job.start()
    job.join()
    held = read_totals(open_folder(uri))
    assert held is not None
    assert 1 <= held.calls <= 4, "a call, and those that were to come"
    account = BlockAccount(open_folder(uri), _service(calls=held.calls + 1))
    worst = account.cost(input_tokens=5, output_tokens=5)
    _until_true(lambda: account.reserve(worst))
    account.settle(worst, worst)
    with pytest.raises(SpentError, match=r"ceiling\.calls"):
        _until(lambda: account.reserve(worst))
    assert account.spent() == held + worst


def _until_true(call: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not call():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_what_another_process_does_not_need_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes before a ceiling of 6 calls: what the first one holds is given back when its work is done."""
    folder = open_folder(f"memory://blocks/{next(_NEXT)}")
    first, second = (BlockAccount(folder, _service(calls=6)) for _ in range(2))
    call = first.cost(input_tokens=1, output_tokens=1)
    _until_true(lambda: first.reserve(call))
    for _ in range(3):
        _until_true(lambda: second.reserve(call))
    first.settle(call, call)
    first.flush()
    for _ in range(2):
        _until_true(lambda: second.reserve(call))
    with pytest.raises(SpentError):
        _until(lambda: second.reserve(call) or [second.settle(call, call) for _ in range(5)])


def test_a_damaged_account_is_said(tmp_path: Path) -> None:
    folder = Folder(open_store(tmp_path))
    account = BlockAccount(folder, _service())
    folder.commit("account.json", b"{broken", replace=True)
    worst = account.cost(input_tokens=1, output_tokens=1)
    for _ in range(2):  # and again at the next call: it is not waited for
        with pytest.raises(StorageError, match=r"account\.json: is damaged"):
            _until(lambda: account.reserve(worst))
    with pytest.raises(StorageError, match=r"account\.json: is damaged"):
        account.spent()
    account.flush()  # it has nothing to write


# --- all of it together -------------------------------------------------------------------------------------


def test_a_journal_on_a_store_keeps_answers_without_being_waited_for(server: Server, proxy: Proxy) -> None:
    folder, others = open_folder(f"{server.kind}://runs/{next(_NEXT)}"), {*threading.enumerate()}
    with Journal(folder) as journal:
        proxy.meets, proxy.together = lambda asked: asked.startswith(("PUT", "POST")), 99  # the store takes none
        proxy.requests.clear()
        for place in range(300):
            journal.add(str(place), ["answer", place])
        assert not proxy.requests
        proxy.pass_on()
        _until_true(lambda: Journal(folder).get("299") is not None)  # written, though the chunk is not done
    again = Journal(folder)
    assert [again.get(str(place)) for place in range(300)] == [["answer", place] for place in range(300)]
    assert len([asked for asked in proxy.requests if asked.startswith(("PUT", "POST"))]) < 12
    assert not [thread for thread in {*threading.enumerate()} - others if thread.name == "journal"]
    again.forget()
    assert Journal(folder).get("3") is None


def test_answers_that_cannot_be_kept_stop_the_run(one: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(f"{one.kind}://no-such-bucket/{next(_NEXT)}")
    monkeypatch.setattr("pe_beam.services.journal._read", lambda _: {})
    with pytest.raises(StorageError, match="no such bucket"), Journal(folder) as journal:
        journal.add("a", "answer")
    with pytest.raises(StorageError, match="no such bucket"), Journal(folder) as journal:
        _until(lambda: journal.add("a", "answer"))
    with pytest.raises(KeyError), Journal(folder) as journal:
        journal.add("a", "answer")
        raise KeyError("what stops the run")


class _Silent(Connection):
    """A connection that is never asked."""

    def __init__(self, *_: object) -> None:
        pass

    async def send(self, ask: Any, timeout: float) -> tuple[Any, Any]:
        raise AssertionError("asked")

    async def probe(self) -> None:
        raise AssertionError("asked")


def test_a_dispatcher_on_a_store_uses_parts_and_blocks(store: Store, tmp_path: Path) -> None:
    service = Service(requests_per_minute=100, tokens_per_minute=1e6, endpoints=[Endpoint(key_env=None)])
    kinds = {}
    for name, folder in (("store", Folder(store, "work/services")), ("disk", open_folder(tmp_path))):
        made: Any = shared_dispatcher(service, folder, key="execution.llm", about="", connect=_Silent)
        kinds[name] = type(made._account), type(made._requests), type(made._tokens)
    assert kinds["store"] == (BlockAccount, SharedPace, SharedPace)
    assert not {BlockAccount, SharedPace} & {*kinds["disk"]}
