"""Pace, account and journal: what workers share, over real processes and real files."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pe_beam.contracts.service import Ceiling, Endpoint, Price, Service
from pe_beam.errors import RecipeError, SpentError, StorageError
from pe_beam.services.account import Account
from pe_beam.services.journal import Journal
from pe_beam.services.pace import Pace
from pe_beam.services.record import UNIT, Cost, read_totals
from pe_beam.storage import open_folder


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(5, 3000),
    gaps=st.lists(st.floats(0, 20), min_size=1, max_size=40),
    workers=st.integers(1, 50),
)
def test_a_pace_never_lets_more_through_in_any_minute_and_uses_what_there_is(per_minute, gaps, workers):
    """Callers that come whenever they like, in bursts of `workers`; time is simulated."""
    now = 1000.0
    pace = Pace(None, per_minute, clock=lambda: now)
    leaves = []
    for gap in gaps:
        now += gap
        leaves += [now + pace.reserve() for _ in range(workers)]
    times = np.sort(leaves)
    inside = np.searchsorted(times, times + 60, side="left") - np.arange(len(times))
    assert inside.max() <= per_minute
    if len(times) > max(per_minute // 10, 1) and max(gaps) == 0:  # all came at once: the rate is used
        assert (len(times) - 1) / (times[-1] - times[0] + 1e-9) * 60 >= 0.95 * per_minute


def test_tokens_that_were_not_used_are_given_back():
    pace = Pace(None, 6000, clock=lambda: 0.0)
    pace.reserve(3000)
    waiting = pace.reserve(10)
    pace.correct(-2900)
    assert pace.reserve(10) < waiting / 10


def _pull(folder: Path, per_minute: float, until: float, out: str) -> None:
    pace, times = Pace(open_folder(folder), per_minute), []
    while time.monotonic() < until:
        time.sleep(pace.reserve())
        times.append(time.monotonic())
    Path(out).write_text(json.dumps(times))


def test_two_processes_keep_one_pace(tmp_path):
    """6,000 a minute, so that four seconds show what a minute of 600 would: no window of a second has more than 100."""
    until = time.monotonic() + 4
    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=_pull, args=(tmp_path / "paces", 6000, until, str(tmp_path / f"{i}"))) for i in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    own = [json.loads((tmp_path / f"{i}").read_text()) for i in range(2)]
    times = np.sort(own[0] + own[1])
    assert min(map(len, own)) > 5, "both were at work"
    window = 2.0  # a burst of 0.5% of a minute is 30
    inside = np.searchsorted(times, times + window, side="left") - np.arange(len(times))
    assert inside.max() <= 100 * window + 30
    # The rate is used, without the burst at the beginning, in the best seconds: others use this machine as well.
    assert inside[times > times[0] + 0.5].max() >= 0.9 * 100 * window * 0.97


def _service(**ceiling):
    return Service(price=Price(input=1, output=2), ceiling=Ceiling(**ceiling))


@pytest.mark.parametrize("ceiling", [{"calls": 3}, {"tokens": 450}, {"money": 0.0006}])
def test_a_ceiling_is_never_passed_and_reached(tmp_path, ceiling):
    account = Account(open_folder(tmp_path), _service(**ceiling))
    worst = account.cost(input_tokens=50, output_tokens=100)
    made = 0
    with pytest.raises(SpentError, match=f"ceiling.{next(iter(ceiling))}"):
        while True:
            assert account.reserve(worst)
            account.settle(worst, worst)
            made += 1
    spent = account.spent()
    assert made == {"calls": 3, "tokens": 3, "money": 2}[next(iter(ceiling))]
    assert spent.calls <= ceiling.get("calls", 99)
    assert spent.money <= ceiling.get("money", 1) * UNIT


def test_calls_in_flight_are_waited_for_where_they_may_turn_out_cheaper(tmp_path):
    account = Account(open_folder(tmp_path), _service(tokens=200))
    worst = account.cost(input_tokens=50, output_tokens=100)
    assert account.reserve(worst)
    assert not account.reserve(worst)
    account.settle(worst, account.cost(input_tokens=10, output_tokens=10))
    assert account.reserve(worst)


def test_a_ceiling_of_zero_lets_nothing_through(tmp_path):
    account = Account(open_folder(tmp_path), _service(money=0))
    with pytest.raises(SpentError):
        account.reserve(account.cost(input_tokens=1, output_tokens=1))
    assert account.spent() == Cost()


def _reserve_and_die(folder: Path) -> None:
    account = Account(open_folder(folder), _service())
    account.reserve(account.cost(input_tokens=5, output_tokens=5))
    os._exit(9)


def test_what_a_killed_process_had_set_aside_counts_as_spent(tmp_path):
    job = multiprocessing.get_context("fork").Process(target=_reserve_and_die, args=(tmp_path,))
    job.start()
    job.join()
    account = Account(open_folder(tmp_path), _service(calls=1))
    with pytest.raises(SpentError):
        account.reserve(account.cost(input_tokens=1, output_tokens=1))
    assert account.spent() == Cost(1, 5, 5, 15 * UNIT // 10**6)
    assert read_totals(open_folder(tmp_path)) == account.spent()


def test_a_damaged_account_is_not_taken_for_an_empty_one(tmp_path):
    (tmp_path / "account.json").write_text("{broken")
    account = Account(open_folder(tmp_path), _service())
    with pytest.raises(StorageError, match=r"account\.json: is damaged"):
        account.spent()
    with pytest.raises(StorageError, match=r"account\.json: is damaged"):
        read_totals(open_folder(tmp_path))
    assert read_totals(open_folder(tmp_path / "nowhere")) is None


def test_a_journal_gives_back_what_came_and_ignores_a_line_without_end(tmp_path):
    with Journal(open_folder(tmp_path / "j")) as journal:
        journal.add("a", ["text\nwith \u2028 lines", "stop"])
        journal.add("b", ["", "filter"])
    next((tmp_path / "j").glob("*.jsonl")).open("a").write('["c", ["half')
    with Journal(open_folder(tmp_path / "j")) as again:
        assert again.get("a") == ["text\nwith \u2028 lines", "stop"]
        assert again.get("b") == ["", "filter"]
        assert again.get("c") is None
        again.forget()
        assert again.get("a") is None
    assert Journal(open_folder(tmp_path / "j")).get("a") is None


def test_keys_come_from_the_environment_or_a_file_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", " k1 ")
    (tmp_path / "key").write_text("k2\n")
    assert Endpoint(key_env="SOME_KEY").key("x") == "k1"
    assert Endpoint(key_file=str(tmp_path / "key")).key("x") == "k2"
    assert Endpoint(key_env=None).key("x") == "none"
    for endpoint, said in [
        (Endpoint(key_env="NO_SUCH_KEY"), r"where\.key_env: the environment variable NO_SUCH_KEY"),
        (Endpoint(key_file=str(tmp_path / "no")), r"where\.key_file: .* cannot be read"),
    ]:
        with pytest.raises(RecipeError, match=said):
            endpoint.key("where")
    with pytest.raises(ValueError):
        Endpoint.model_validate({"key": "sk-in-the-recipe"})
    with pytest.raises(ValueError, match="needs a price"):
        Service(ceiling=Ceiling(money=1))


@pytest.mark.parametrize("key", ["zz-half\nzz-rest", "zz half", "zz-é", "zz\x07"])
def test_what_no_header_can_hold_is_no_key_and_is_not_shown(tmp_path, monkeypatch, key):
    (tmp_path / "key").write_text(key, encoding="utf-8")
    monkeypatch.setenv("PE_BEAM_TEST_KEY", key)
    for endpoint in (Endpoint(key_file=str(tmp_path / "key")), Endpoint(key_env="PE_BEAM_TEST_KEY")):
        with pytest.raises(RecipeError, match="holds no key; one line") as caught:
            endpoint.key("where")
        assert "zz" not in str(caught.value)
