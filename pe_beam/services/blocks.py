"""An account on a store, where each change is a request: a process takes money in blocks, and calls are paid from them.

The record is that of `account`. What a process holds in it is its block: the worst cost of its calls in flight, and of
some calls to come. Calls are counted in this process. Every `PERIOD` seconds, when a block runs out and when the work
is done, what was used is entered as spent and the block is made anew, by one update. No block passes the ceiling, so no
call does; near it blocks are small, down to one call. What a killed process held counts as spent: up to a block.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, fields

from pe_beam.contracts.service import Service
from pe_beam.contracts.store import Folder
from pe_beam.errors import PeBeamError
from pe_beam.services.account import Account
from pe_beam.services.exchange import Exchange, now
from pe_beam.services.record import FILE, Cost, Record

PERIOD = 15.0
"""Seconds between two updates; longer for many processes, since stores limit the writes of one file."""
_MANY = 100  # processes that hold something; those that have ended are then looked for
_SOON, _LATE = 0.5, 8.0  # seconds between two looks whether others have given something back: at first, and at most
_NONE = Cost()


@dataclass
class _Told:
    """What an update wrote and found.

    Attributes:
      used: what was entered as spent.
      block: what this process holds now.
      spent: all that is spent.
      holders: number of other processes that hold something.
      over: the ceiling that the wanted call would pass; None: there is room for it, or no call waits.
      waits: whether there may be room when calls in flight turn out cheaper.
    """

    used: Cost = _NONE
    block: Cost = _NONE
    spent: Cost = _NONE
    holders: int = 0
    over: str | None = None
    waits: bool = False


class BlockAccount(Account):
    """The account of one service of one run, on a store whose updates cost."""

    def __init__(self, folder: Folder, service: Service, *, key: str = "execution.llm", private: bool = False) -> None:
        super().__init__(folder, service, key=key, private=private)
        self._block = self._used = self._flying = _NONE
        self._largest = _NONE  # by component, of all calls so far
        self._limit: Cost | None = None  # while an update is on its way: what calls may use until it has come back
        self._wanted: Cost | None = None
        self._over: tuple[str, Cost] | None = None
        self._ahead, self._since, self._pause = service.concurrency, 0.0, _SOON
        self._is_due = self._is_waiting = False
        self._working = threading.Lock()
        self._exchange = Exchange(self._work, "account")

    def reserve(self, worst: Cost) -> bool:
        """See `Account.reserve`. It makes no request."""
        self._exchange.demand()
        with self._mutex:
            over, self._over = self._over, None
            if over is None and self._fits(worst):
                self._flying += worst
                self._wanted = None
                return True
            if over is None:
                self._largest = _most(self._largest, worst)
                self._wanted = worst
                asks, self._is_due = not self._is_due, True
        if over is not None:
            raise self._spent_error(*over)
        if asks:
            self._exchange.ask()
        return False

    def settle(self, worst: Cost, actual: Cost) -> None:
        """See `Account.settle`. It makes no request."""
        with self._mutex:
            self._flying -= worst
            self._used += actual
            asks = self._is_waiting and now() - self._since > _SOON
        if asks:
            self._exchange.ask()

    def flush(self) -> None:
        """See `Account.flush`: enters what was used, and gives back what was not."""
        if self._block != _NONE or self._used != _NONE:
            self._update(ends=True)

    def close(self) -> None:
        """See `Account.close`. A block that cannot be given back counts as spent."""
        self._exchange.close()
        with contextlib.suppress(PeBeamError):
            self.flush()
        super().close()

    def spent(self) -> Cost:
        """See `Account.spent`."""
        self.flush()
        return self._recorded().total()

    def has_tokens(self) -> bool:
        """See `Account.has_tokens`."""
        with self._mutex:
            own = self._used
        if own.input + own.output == 0:
            own = self._recorded().spent
        return own.input + own.output > 0

    def _recorded(self) -> Record:
        return Record.read(self._account().read(FILE), self._folder)

    def _account(self) -> Folder:
        assert self._folder is not None  # an account without a folder is a plain one
        return self._folder

    def _fits(self, worst: Cost) -> bool:
        after = self._used + self._flying + worst
        return _covers(self._block, after) and (self._limit is None or _covers(self._limit, after))

    def _work(self) -> float | None:
        return self._update(ends=False)

    def _update(self, *, ends: bool) -> float | None:
        """Updates the record. Returns seconds until it is due again; None if nothing of this process is in it."""
        with self._working:
            told = _Told()

            def change(before: bytes | None) -> bytes:
                nonlocal told
                record = Record.read(before or b"", self._folder)
                with self._mutex:
                    told = self._divided(record, ends=ends)
                    self._limit = told.used + told.block
                return record.text().encode()

            try:
                self._account().update(FILE, change, durable=False)
            except BaseException:
                with self._mutex:
                    self._is_due = self._is_waiting = False  # so that the next call asks again
                raise
            with self._mutex:
                return self._learnt(told)

    def _learnt(self, told: _Told) -> float | None:
        """Takes over what an update has written. Returns seconds until the next one is due."""
        moment = now()
        self._block, self._limit = told.block, None
        self._used -= told.used
        passed, self._since = moment - self._since, moment
        if self._wanted is not None and not told.waits and passed < PERIOD / 2:
            self._ahead *= 2
        else:
            self._ahead = max(int(2 * told.used.calls * PERIOD / max(passed, 1.0)), self._service.concurrency)
        self._over = None if told.over is None or told.waits else (told.over, told.spent)
        self._is_due = self._is_waiting = told.waits
        self._pause = min(2 * self._pause, _LATE) if told.waits else _SOON
        if told.waits:
            return self._pause
        return max(PERIOD, float(told.holders)) if told.block != _NONE else None

    def _divided(self, record: Record, *, ends: bool) -> _Told:
        """Enters what was used, and what this process holds from now on."""
        used, wanted = self._used, None if ends else self._wanted
        record.held.pop(self._me, None)
        record.spent += used
        if len(record.held) > _MANY or (wanted is not None and self._is_waiting):
            self._bury(record)  # a request for each that holds something
        told = _Told(used=used, spent=record.spent, holders=len(record.held))
        base = record.total() + self._flying
        more = _NONE
        if wanted is not None or (used.calls and not ends):
            more = _times(self._largest, self._calls_ahead(base, told.holders))
        if wanted is not None and not _covers(more, wanted):
            told.over = self._passes(base + wanted)
            more = wanted if told.over is None else _NONE
            told.waits = told.over is not None and base != record.spent and self._passes(record.spent + wanted) is None
        told.block = self._flying + more
        if told.block != _NONE:
            record.held[self._me] = told.block
        return told

    def _calls_ahead(self, base: Cost, holders: int) -> int:
        """Returns for how many calls of the largest cost a block is made: near the ceiling, all may have some."""
        sums = (self._largest.calls, self._largest.input + self._largest.output, self._largest.money)
        used = (base.calls, base.input + base.output, base.money)
        rooms = [
            max((limit - taken) // each, 0)
            for limit, taken, each in zip(self._ceilings, used, sums, strict=True)
            if limit is not None and each
        ]
        return min([self._ahead, *(room // (2 * (holders + 1)) for room in rooms)])


def _times(cost: Cost, number: int) -> Cost:
    return Cost(*(getattr(cost, each.name) * number for each in fields(Cost)))


def _covers(block: Cost, cost: Cost) -> bool:
    return all(getattr(cost, each.name) <= getattr(block, each.name) for each in fields(Cost))


def _most(one: Cost, other: Cost) -> Cost:
    return Cost(*(max(getattr(one, each.name), getattr(other, each.name)) for each in fields(Cost)))
