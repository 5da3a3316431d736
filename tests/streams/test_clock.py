"""A clock that leaps forward closes no window before it has lasted, and one that goes back is believed at once."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from pe_beam.storage import open_store
from pe_beam.streams.clock import JUMP, LASTS, SteadyClock
from pe_beam.streams.loop import Surroundings, stream
from tests.streams.drifting import DAY, FIRST, counts, put, stream_recipe, window


class Machine:
    """A machine whose clock may be set; `ahead` is by how many seconds it is wrong."""

    def __init__(self, at: datetime) -> None:
        self.began, self.passed, self.ahead = at.timestamp(), 0.0, 0.0

    def wall(self) -> float:
        return self.began + self.passed + self.ahead

    def clock(self) -> SteadyClock:
        return SteadyClock(self.wall, lambda: self.passed)


def test_a_jump_forward_counts_once_it_has_lasted_and_one_back_at_once():
    machine = Machine(FIRST)
    clock = machine.clock()

    def off() -> float:
        return (clock.now() - FIRST).total_seconds() - machine.passed

    machine.passed, machine.ahead = 100.0, JUMP
    assert off() == JUMP  # as clocks are set right
    machine.ahead = 3600.0
    assert off() == JUMP
    machine.passed += LASTS - 1
    assert off() == JUMP
    machine.ahead = 0.0
    assert off() == 0.0  # it was set back
    machine.ahead = 3600.0
    assert off() == 0.0
    machine.passed += LASTS
    assert off() == 3600.0
    machine.ahead = -3600.0
    assert off() == -3600.0


def test_windows_do_not_close_by_a_clock_that_is_set_back_in_time(tmp_path):
    """It is three days ahead for five minutes, and files of the first day come in the meantime."""
    machine = Machine(FIRST + 0.5 * DAY)

    def sleep(seconds: float) -> None:
        machine.passed += seconds
        machine.ahead = 3 * 86400.0 if 600 < machine.passed < 900 else 0.0
        if machine.passed > 86400.0:
            raise KeyboardInterrupt
        if machine.passed > 900:
            put(tmp_path, 0, "a", [1, 2])

    around = Surroundings(now=machine.clock().now, sleep=sleep)
    with pytest.raises(KeyboardInterrupt):
        stream(stream_recipe(tmp_path, stream__keep_private=True), tmp_path / "stream", around=around)
    assert sum(counts(open_store(tmp_path / "stream"), 0)) == 2
    names = sorted(path.stem for path in (tmp_path / "stream/published").iterdir())
    assert names == [window(0)]
    assert json.loads((tmp_path / f"stream/published/{names[0]}.json").read_text())["missed"] is False
