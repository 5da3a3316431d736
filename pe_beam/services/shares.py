"""Shares one rate among processes of several machines, by a file on a store.

Each process holds a part of the rate and keeps to it by itself, so that no call needs the store and no two clocks are
compared. The file lists the processes with their parts, which together are never more than the whole: a process first
keeps to a smaller part and then writes it down, and uses more only after that is written down. It renews its entry.
Others take an entry away that they have seen unchanged for as long as it holds, by their own clocks; its holder stops
using it before, by its own. So clocks may differ by any time, and only have to run at the same speed.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import threading
from dataclasses import dataclass
from typing import Any

from pe_beam.contracts.store import Folder
from pe_beam.errors import PeBeamError, StorageError
from pe_beam.services.exchange import Exchange, now

WHOLE = 5354228880  # the least common multiple of 1 to 24: that many equal parts are exact
PERIOD = 15.0
"""Seconds after which an entry is renewed; longer for many processes, since stores limit the writes of one file."""
IDLE = 60.0  # seconds after which a process that has asked for nothing gives its part back
_MISSED, _CERTAIN = 4, 0.9  # an entry holds for so many periods, and its holder relies on this share of that time
_FIRST, _SETTLE = 24, 3.0  # a process begins with at most this part of the whole, for seconds: others may begin too
_FILE = "shares.json"


@dataclass(frozen=True)
class _Entry:
    """One process: its part of `WHOLE`, how often it was written, and for how many seconds it then holds."""

    part: int
    beat: int
    seconds: float


class Shares:
    """This process's part of a rate.

    Args:
      folder: the folder of the file.
      most: number of processes that may hold a part at once; others wait. None: any number.
    """

    def __init__(self, folder: Folder, most: int | None) -> None:
        self._folder, self._most = folder, most
        self._me = secrets.token_hex(8)
        self._mutex = threading.Lock()
        self._asked, self._is_member = 0.0, False
        self._part, self._until, self._beat = 0, 0.0, 0
        self._seen: dict[str, tuple[int, float]] = {}
        self._exchange = Exchange(self._work, "shares")

    def part(self) -> float:
        """Returns the part of the rate that this process may use now, from 0 to 1.

        Raises:
          StorageError: the file cannot be read or written, or is damaged.
        """
        try:
            self._exchange.demand()
        except BaseException:
            self._is_member = False  # so that the next call tries again
            raise
        with self._mutex:
            self._asked = now()
            joins, self._is_member = not self._is_member, True
            part = self._part if self._asked < self._until else 0
        if joins:
            self._exchange.ask()
        return part / WHOLE

    def close(self) -> None:
        """Gives the part back. If that fails, others take it when its entry has expired."""
        self._exchange.close()
        with self._mutex:
            self._asked, is_listed, self._beat = -math.inf, self._beat > 0, 0
        if is_listed:
            with contextlib.suppress(PeBeamError):
                self._work()

    def _work(self) -> float | None:
        """Renews, changes or gives back this process's entry. Returns seconds until the next time."""
        begun = now()
        with self._mutex:
            leaves = begun - self._asked > IDLE
            if leaves:
                self._part, self._is_member = 0, False
        if leaves and not self._folder.exists(_FILE):
            return None  # the run was purged meanwhile
        own, due = _Entry(0, 0, 0.0), PERIOD

        def change(before: bytes | None) -> bytes:
            nonlocal own, due
            members = self._living(_read(before, self._folder))
            others = {name: entry for name, entry in members.items() if name != self._me}
            if leaves:
                return _written(others)
            fair, due, holds = self._due([*members] if self._me in members else [*members, self._me])
            free = WHOLE - sum(entry.part for entry in others.values())
            own = _Entry(max(min(fair, free), 0), self._beat + 1, holds)
            with self._mutex:
                self._part = min(self._part, own.part)
            return _written({**members, self._me: own})

        self._folder.update(_FILE, change, durable=False)
        if leaves:
            return None
        with self._mutex:
            self._part, self._beat, self._until = own.part, own.beat, begun + _CERTAIN * own.seconds
        return due

    def _due(self, members: list[str]) -> tuple[int, float, float]:
        """Returns the part that is due to this process, seconds until it looks again, and seconds that its entry holds.

        Those that came first have precedence.
        """
        count = len(members) if self._most is None else min(len(members), self._most)
        fair = WHOLE // count if members.index(self._me) < count else 0
        period = max(PERIOD, float(len(members)))
        if self._beat == 0:
            return min(fair, WHOLE // _FIRST), max(_SETTLE, len(members) / 4), _MISSED * period
        return fair, period / 3 if self._part < fair else period, _MISSED * period

    def _living(self, members: dict[str, _Entry]) -> dict[str, _Entry]:
        """Returns the entries that this process has seen to change while they hold, by its own clock."""
        moment = now()
        for name, entry in members.items():
            if self._seen.get(name, (None, 0.0))[0] != entry.beat:
                self._seen[name] = entry.beat, moment
        self._seen = {name: seen for name, seen in self._seen.items() if name in members}
        gone = {name for name, entry in members.items() if moment - self._seen[name][1] > entry.seconds}
        return {name: entry for name, entry in members.items() if name == self._me or name not in gone}


def _read(data: bytes | None, folder: Folder) -> dict[str, _Entry]:
    try:
        found: dict[str, Any] = json.loads(data or b'{"members": {}}')["members"]
        members = {str(name): _Entry(int(part), int(beat), float(s)) for name, (part, beat, s) in found.items()}
        if any(entry.part < 0 or not 0 <= entry.seconds < 86400 for entry in members.values()):
            raise ValueError("not a part")
        return members
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise StorageError(
            f"{folder}/{_FILE}: is damaged; delete it when no process of this run is at work, and run again"
        ) from None


def _written(members: dict[str, _Entry]) -> bytes:
    listed = {name: [entry.part, entry.beat, entry.seconds] for name, entry in members.items()}
    return json.dumps({"version": 1, "members": listed}).encode()
