"""The engine: many calls in flight, one pace, one account, several endpoints, and patience with what passes.

A retry is only for what may pass by itself: 408, 409, 429, 5xx, time-outs, cut connections and answers that are not
JSON. All else ends the run with one message, or belongs to one candidate alone (filtered, too long).
"""

from __future__ import annotations

import abc
import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pe_beam.errors import PeBeamError, ServiceError
from pe_beam.services.account import Account
from pe_beam.services.pace import Pace
from pe_beam.services.settings import Endpoint, Service

T = TypeVar("T")
_LONGEST = 60.0  # seconds of back-off at most; a service's own Retry-After may be longer
_WORK = 0.002  # seconds of this process that a call takes, seldom more
_SPEED_MEMORY = 0.2  # weight of the newest call in an endpoint's mean latency


@dataclass(frozen=True)
class Usage:
    """Tokens that a call took."""

    input_tokens: int
    output_tokens: int


class Passing(Exception):  # noqa: N818 - a fault, not an error: it is retried
    """A fault of the service that may pass.

    Attributes:
      kind: a fixed phrase.
      wait: seconds that the service asked for, or None.
      billed: whether the service may have done the work: the call is then accounted at its most.
      sent: False where the call never reached the service.
    """

    def __init__(self, kind: str, *, wait: float | None = None, billed: bool = False, sent: bool = True) -> None:
        super().__init__(kind)
        self.kind = kind
        self.wait = wait
        self.billed = billed
        self.sent = sent


class Line(abc.ABC):
    """One endpoint as a client library reaches it."""

    @abc.abstractmethod
    async def send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """Makes one call.

        Raises:
          Passing: a fault that may pass.
          PeBeamError: one that will not.
        """

    @abc.abstractmethod
    async def greet(self) -> None:
        """Finds out whether it answers and takes its key, at no cost; raises as `send` does."""


@dataclass
class _Station:
    """An endpoint with its live speed."""

    line: Line
    flying: int = 0
    latency: float | None = None
    closed_until: float = 0.0
    failures: int = 0

    def expected(self, usual: float) -> float:
        """Seconds until a further call would be answered, up to a constant: calls in flight share the speed."""
        return (self.flying + 1) * (usual if self.latency is None else self.latency)


@dataclass
class _Batch:
    """Calls that belong together: the first failure that will not pass stops those that have not begun."""

    failed: list[BaseException] = field(default_factory=list)


class Engine:
    """Makes calls for all threads of this process, on an event loop of its own.

    Args:
      service: endpoints, concurrency, pace.
      account: where what is spent is written.
      paces: (requests, tokens) a minute; None: no limit.
      open_line: an endpoint and its recipe key -> its Line.
      key: recipe key of the service, for messages.
    """

    def __init__(
        self,
        service: Service,
        account: Account,
        paces: tuple[Pace | None, Pace | None],
        open_line: Callable[[Endpoint, str], Line],
        *,
        key: str,
    ) -> None:
        self._service = service
        self._account = account
        self._requests, self._tokens = paces
        self._key = key
        self._jitter = random.Random()  # how long to wait shapes nothing
        self._stations = [
            _Station(open_line(endpoint, f"{key}.endpoints.{i}")) for i, endpoint in enumerate(service.endpoints)
        ]
        self._loop = asyncio.new_event_loop()
        self._next_start = 0.0
        self._flights = asyncio.Semaphore(service.concurrency)
        threading.Thread(target=self._loop.run_forever, name="pe-beam-calls", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the engine's loop and waits for it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def greet(self, patience: float) -> None:
        """Every endpoint answers within `patience` seconds and takes its key.

        Raises:
          ServiceError: one that does not.
        """
        self.run(self._greet(patience))

    async def _greet(self, patience: float) -> None:
        for place, station in enumerate(self._stations):
            limit = time.monotonic() + patience
            while True:
                try:
                    await station.line.greet()
                    break
                except Passing as fault:
                    if time.monotonic() > limit:
                        address = self._service.endpoints[place].base_url or "its default address"
                        raise ServiceError(
                            f"{self._key}.endpoints.{place}: the service at {address} does not answer "
                            f"({fault.kind}); start it, or correct base_url, and run again"
                        ) from None
                    await asyncio.sleep(0.5)

    def ask_all(
        self,
        asks: Iterable[T],
        *,
        size: Callable[[T], Usage],
        settle: Callable[[T, Any], T | None],
        known: Callable[[T], Any | None],
    ) -> None:
        """Asks for many things, at most `concurrency` at once.

        Args:
          asks: what to ask for; drawn from as places become free.
          size: the most tokens that an ask can take.
          settle: takes an answer as it arrives, on one thread at a time; may return what to ask next in its place.
          known: the answer to an ask that need not be asked for again, or None.

        Raises:
          SpentError: the ceiling; answers of calls in flight have been settled.
          ServiceError: the service refuses, or has not answered for longer than `patience`.
        """
        batch = _Batch()
        waiting = iter(asks)

        async def worker() -> None:
            for first in waiting:
                ask: T | None = first
                while ask is not None and not batch.failed:
                    answer = known(ask)
                    if answer is None:
                        answer = await self._ask(ask, size(ask), batch)
                    ask = settle(ask, answer)
                if batch.failed:
                    return

        async def guarded() -> None:
            try:
                await worker()
            except BaseException as error:
                batch.failed.append(error)

        async def crew() -> None:
            # Twice as many as may fly: one that waits for a fault to pass keeps no place from the others.
            await asyncio.gather(*(guarded() for _ in range(2 * self._service.concurrency)))

        self.run(crew())
        if batch.failed:
            ours = [error for error in batch.failed if isinstance(error, PeBeamError)]
            raise (ours or batch.failed)[0]

    async def _ask(self, ask: Any, most: Usage, batch: _Batch) -> Any:
        """One ask, over as many attempts as faults that pass."""
        began: float | None = None
        attempt = 0
        while True:
            if batch.failed:
                raise asyncio.CancelledError
            try:
                async with self._flights:
                    return await self._attempt(ask, most, batch)
            except Passing as fault:
                now = time.monotonic()
                began = now if began is None else began
                if now - began > self._service.patience:
                    raise ServiceError(
                        f"{self._key}: no answer for {self._service.patience:g} s ({fault.kind}); run again once the "
                        "service answers, the run goes on from here"
                    ) from None
                pause = self._jitter.uniform(0.1, 1) * min(0.5 * 2**attempt, _LONGEST)
                if fault.wait is not None:
                    pause = fault.wait * self._jitter.uniform(1.0, 1.1)
                attempt += 1
                await asyncio.sleep(min(pause, max(began + self._service.patience - now, 0.0) + 0.05))

    async def _attempt(self, ask: Any, most: Usage, batch: _Batch) -> Any:
        station = await self._station()
        worst = self._account.cost(input_tokens=most.input_tokens, output_tokens=most.output_tokens)
        wait = max(
            self._requests.reserve() if self._requests else 0.0,
            self._tokens.reserve(most.input_tokens + most.output_tokens) if self._tokens else 0.0,
        )
        wait = max(wait, self._spread(station))
        if wait:
            await asyncio.sleep(wait)
        while not self._account.reserve(worst):
            await asyncio.sleep(0.05)
        if batch.failed:  # after the wait: nothing new is begun once the run is to stop
            self._account.settle(worst, worst - worst)
            raise asyncio.CancelledError
        actual = worst
        station.flying += 1
        began = time.monotonic()
        try:
            answer, usage = await station.line.send(ask, self._service.timeout)
            actual = self._account.cost(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
            self._note_speed(station, time.monotonic() - began)
        except Passing as fault:
            if not fault.billed:
                actual = worst - worst if not fault.sent else self._account.cost(input_tokens=0, output_tokens=0)
            self._note_fault(station, fault)
            raise
        except PeBeamError:
            actual = self._account.cost(input_tokens=0, output_tokens=0)
            raise
        finally:
            station.flying -= 1
            self._account.settle(worst, actual)
            if self._tokens:
                self._tokens.correct(actual.input + actual.output - worst.input - worst.output)
        return answer

    async def _station(self) -> _Station:
        """The endpoint that would answer first, among those that have not asked for a pause."""
        while True:
            now = time.monotonic()
            open_ones = [station for station in self._stations if station.closed_until <= now]
            if open_ones:
                measured = [s.latency for s in self._stations if s.latency is not None]
                usual = min(measured) if measured else 1.0  # an endpoint that has not been tried is tried
                return min(open_ones, key=lambda station: station.expected(usual))
            await asyncio.sleep(min(s.closed_until for s in self._stations) - now + 0.001)

    def _spread(self, station: _Station) -> float:
        """Seconds until a call may begin so that calls leave as a stream.

        Calls that come back together are worked on in turns, so all of them leave late and come back together again:
        a bunch never dissolves by itself. Beginning them at least half of their mean distance apart dissolves it, and
        holds back nothing else.
        """
        now = time.monotonic()
        start = max(now, self._next_start)
        usual = (station.latency or 0.0) / self._service.concurrency
        self._next_start = start + min(usual / 2, _WORK)
        return start - now

    def _note_speed(self, station: _Station, seconds: float) -> None:
        before = seconds if station.latency is None else station.latency
        station.latency = before + _SPEED_MEMORY * (seconds - before)
        station.failures = 0

    def _note_fault(self, station: _Station, fault: Passing) -> None:
        """A pause that was asked for is kept by all calls; so is one after repeated faults of the whole endpoint."""
        now = time.monotonic()
        if fault.wait is not None:
            # One call's Retry-After holds the endpoint only where another can take over, or faults pile up.
            station.failures += 1
            if len(self._stations) > 1 or station.failures > self._service.concurrency:
                station.closed_until = max(station.closed_until, now + fault.wait)
        elif not fault.sent:
            station.failures += 1
            pause = self._jitter.uniform(0.5, 1) * min(0.5 * 2 ** min(station.failures, 7), _LONGEST)
            station.closed_until = max(station.closed_until, now + min(pause, self._service.patience / 4 + 0.05))
