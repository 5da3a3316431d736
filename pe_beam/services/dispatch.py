"""The dispatcher: many calls in flight, one pace, one account, several endpoints, and retries of transient errors.

A call is retried only after a transient error: 408, 409, 429, 5xx, time-outs, broken connections and answers that are
not JSON. Any other error ends the run with one message, or concerns one candidate alone (filtered, too long).
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pe_beam.contracts.service import Endpoint, Service
from pe_beam.errors import PeBeamError, RefusedError, ServiceError, SpentError
from pe_beam.services.account import Account
from pe_beam.services.pace import Pace
from pe_beam.services.waiting import listener

T = TypeVar("T")
_LONGEST = 60.0  # longest back-off in seconds; a service's own Retry-After may be longer
_SHORTEST = 0.1  # seconds; a shorter requested pause counts as none, and the back-off applies
_WORK = 0.002  # seconds of work of this process per call; it is rarely more
_SILENT = 0.5  # seconds that a service may take for its first answer before it is said that it is waited for
_SPEED_MEMORY = 0.2  # weight of the newest call in an endpoint's mean latency


@dataclass(frozen=True)
class Usage:
    """Number of tokens of a call."""

    input_tokens: int
    output_tokens: int


class TransientError(Exception):
    """A transient error of the service.

    Attributes:
      kind: a fixed phrase.
      wait: the pause in seconds that the service asks for, or None.
      billed: whether the service may have done the work. The call then counts with its largest possible cost.
      sent: False if the call never reached the service.
      unrecognised: whether the answer may come from something that is not such a service. If no valid answer ever
        came from there, the address is refused.
    """

    def __init__(
        self,
        kind: str,
        *,
        wait: float | None = None,
        billed: bool = False,
        sent: bool = True,
        unrecognised: bool = False,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.wait = wait
        self.billed = billed
        self.sent = sent
        self.unrecognised = unrecognised

    def said(self) -> str:
        """Returns the kind, and how long the service asks to wait."""
        return self.kind if not self.wait else f"{self.kind}; it asks to wait {math.ceil(self.wait):.10g} s"


class Connection(abc.ABC):
    """A connection to one endpoint through a client library."""

    @abc.abstractmethod
    async def send(self, ask: Any, timeout: float) -> tuple[Any, Usage]:
        """Makes one call.

        Raises:
          TransientError: a transient error.
          RefusedError, SpentError: a permanent error; the service did no work.
          PeBeamError: a permanent error; the service may have done the work.
        """

    @abc.abstractmethod
    async def probe(self) -> None:
        """Checks at no cost that the endpoint answers and accepts its key. Raises the same errors as `send`."""


@dataclass
class _Endpoint:
    """An endpoint with its current speed."""

    connection: Connection
    place: int
    flying: int = 0
    latency: float | None = None
    closed_until: float = 0.0
    failures: int = 0

    def expected(self, usual: float) -> float:
        """Returns the relative time until the next call would be answered, because calls in flight share the speed."""
        return (self.flying + 1) * (usual if self.latency is None else self.latency)


@dataclass
class _Batch:
    """Calls that belong together. The first permanent error stops the calls that have not started."""

    failed: list[BaseException] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)
        self.over.set()

    async def sleep(self, seconds: float) -> None:
        """Waits, but only until the first failure, so that no call waits when the run has to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


class Dispatcher:
    """Makes calls for all threads of this process, on its own event loop.

    Args:
      service: endpoints, concurrency, patience.
      account: the account that records what is spent.
      paces: the paces of (requests, tokens); None: no limit.
      connect: an endpoint and its recipe key -> its Connection.
      key: recipe key of the service, for messages.
    """

    def __init__(
        self,
        service: Service,
        account: Account,
        paces: tuple[Pace | None, Pace | None],
        connect: Callable[[Endpoint, str], Connection],
        *,
        key: str,
    ) -> None:
        self._service = service
        self._account = account
        self._requests, self._tokens = paces
        self._key = key
        self._jitter = random.Random()  # waiting times do not affect the release
        self._endpoints = [
            _Endpoint(connect(endpoint, f"{key}.endpoints.{i}"), i) for i, endpoint in enumerate(service.endpoints)
        ]
        self._loop = asyncio.new_event_loop()
        self._next_start = 0.0
        self._silent_since: float | None = None  # first error, or first wait for a pause, since the last answer
        self._last_fault: TransientError | None = None
        self._batches = 0
        self._gave_up = False
        self._flights = asyncio.Semaphore(service.concurrency)
        self._queue = asyncio.Lock()
        threading.Thread(target=self._loop.run_forever, name="pe-beam-calls", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the dispatcher's loop and waits for it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def probe(self, patience: float) -> None:
        """Checks that every endpoint answers within `patience` seconds and accepts its key.

        Who listens (`waiting.heard_by`) is soon told of an endpoint that does not answer at once.

        Raises:
          ServiceError: an endpoint does not answer or does not accept its key.
        """
        say = listener()

        async def probe_all() -> None:
            for endpoint in self._endpoints:
                waits = f"waiting for {self._named(endpoint)}; for {patience:g} s at most"
                told = self._loop.call_later(_SILENT, say, waits)
                try:
                    await self._probe(endpoint, time.monotonic() + patience)
                finally:
                    told.cancel()

        self.run(probe_all())

    async def _probe(self, endpoint: _Endpoint, limit: float) -> None:
        while True:
            try:
                return await endpoint.connection.probe()
            except TransientError as fault:
                if fault.unrecognised:
                    raise self._unrecognised(endpoint, fault) from None
                left = limit - time.monotonic()
                if left < 0:
                    raise ServiceError(
                        f"{self._named(endpoint)} does not answer ({fault.said()}); start it, or correct base_url, "
                        "and run again"
                    ) from None
                await asyncio.sleep(min(max(0.5, fault.wait or 0.0), left + 0.05))

    def _named(self, endpoint: _Endpoint) -> str:
        address = self._service.endpoints[endpoint.place].base_url or "its default address"
        return f"{self._key}.endpoints.{endpoint.place}: the service at {address}"

    def _unrecognised(self, endpoint: _Endpoint, fault: TransientError) -> RefusedError:
        return RefusedError(
            f"{self._named(endpoint)} answers, but not in the OpenAI protocol ({fault.kind}); correct base_url "
            "(most end in /v1), and run again"
        )

    def ask_all(
        self,
        asks: Iterable[T],
        *,
        size: Callable[[T], Usage],
        on_answer: Callable[[T, Any], T | None],
        known: Callable[[T], Any | None],
    ) -> None:
        """Sends many asks (requests), at most `concurrency` at once.

        Args:
          asks: the asks; the next one is taken when a place becomes free.
          size: returns the largest number of tokens of an ask.
          on_answer: receives an answer when it arrives, in one thread at a time. It may return a further ask, which
            takes the same place.
          known: returns the answer to an ask that does not have to be sent again, or None.

        Raises:
          SpentError: the next call could pass the ceiling. The costs of calls in flight have been entered.
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
                    ask = on_answer(ask, answer)
                if batch.failed:
                    return

        async def guarded() -> None:
            try:
                await worker()
            except BaseException as error:
                batch.fail(error)

        async def crew() -> None:
            # Twice as many workers as calls in flight: a worker that waits after an error takes no place from others.
            self._begin()
            try:
                await asyncio.gather(*(guarded() for _ in range(2 * self._service.concurrency)))
            finally:
                self._batches -= 1

        self.run(crew())
        if not self._batches:
            try:
                self._account.flush()
            except PeBeamError as error:
                batch.fail(error)
        if batch.failed:
            ours = [error for error in batch.failed if isinstance(error, PeBeamError)]
            raise (ours or batch.failed)[0]

    def _begin(self) -> None:
        """Begins a batch. If the dispatcher has given up and no batch is running, it first drops all pauses."""
        if self._gave_up and not self._batches:
            self._gave_up, self._silent_since = False, None
            for endpoint in self._endpoints:
                endpoint.closed_until, endpoint.failures = 0.0, 0
        self._batches += 1

    async def _ask(self, ask: Any, most: Usage, batch: _Batch) -> Any:
        """Sends one ask and returns its answer. It tries again after each transient error."""
        began: float | None = None
        attempt = 0
        while True:
            if batch.failed:
                raise asyncio.CancelledError
            try:
                async with self._flights:
                    return await self._attempt(ask, most, batch)
            except TransientError as fault:
                now = time.monotonic()
                began = now if began is None else began
                if now - began > self._service.patience:
                    raise self._impatient(fault) from None
                pause = self._pause(fault, attempt)
                attempt += 1
                await batch.sleep(min(pause, max(began + self._service.patience - now, 0.0) + 0.05))

    def _pause(self, fault: TransientError, attempt: int) -> float:
        """Returns seconds until the next attempt: the pause that the service asks for, or a back-off.

        It is a back-off if the service asks for no pause, or if another endpoint is free.
        """
        others = len(self._endpoints) > 1 and any(s.closed_until <= time.monotonic() for s in self._endpoints)
        if fault.wait is not None and fault.wait >= _SHORTEST and not others:
            return fault.wait * self._jitter.uniform(1.0, 1.1)
        return self._jitter.uniform(0.1, 1) * min(0.5 * 2 ** min(attempt, 7), _LONGEST)

    def _impatient(self, fault: TransientError | None) -> ServiceError:
        self._gave_up = True
        return ServiceError(
            f"{self._key}: no answer for {self._service.patience:g} s ({fault.said() if fault else 'a pause'}); run "
            "again once the service answers, the run goes on from here"
        )

    async def _attempt(self, ask: Any, most: Usage, batch: _Batch) -> Any:
        endpoint = await self._endpoint(batch)
        worst = self._account.cost(input_tokens=most.input_tokens, output_tokens=most.output_tokens)
        wait = max(
            await self._place(self._requests, 1.0, batch),
            await self._place(self._tokens, most.input_tokens + most.output_tokens, batch),
        )
        wait = max(wait, self._spread(endpoint))
        if wait:
            # Waiting for the event costs more time than a plain sleep, and short waits are frequent.
            await (batch.sleep(wait) if wait > 1 else asyncio.sleep(wait))
        while not self._account.reserve(worst):
            await asyncio.sleep(0.05)
        if batch.failed:  # checked after the wait: no new call is made when the run has to stop
            self._account.settle(worst, worst - worst)
            raise asyncio.CancelledError
        actual = worst
        endpoint.flying += 1
        began = time.monotonic()
        try:
            answer, usage = await endpoint.connection.send(ask, self._service.timeout)
            actual = self._account.cost(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
            self._note_speed(endpoint, time.monotonic() - began)
        except TransientError as fault:
            if not fault.billed:
                actual = worst - worst if not fault.sent else self._account.cost(input_tokens=0, output_tokens=0)
            if fault.unrecognised and endpoint.latency is None and not self._account.has_tokens():
                actual = self._account.cost(input_tokens=0, output_tokens=0)
                raise self._unrecognised(endpoint, fault) from None
            self._note_fault(endpoint, fault)
            raise
        except (RefusedError, SpentError):
            actual = self._account.cost(input_tokens=0, output_tokens=0)
            raise
        finally:
            endpoint.flying -= 1
            self._account.settle(worst, actual)
            if self._tokens:
                self._tokens.correct(actual.input + actual.output - worst.input - worst.output)
        return answer

    async def _place(self, pace: Pace | None, units: float, batch: _Batch) -> float:
        """Takes a place at a pace. Returns the seconds to wait for it."""
        if pace is None:
            return 0.0
        async with self._queue:  # whoever came first is served first
            while not batch.failed:
                taken, wait = pace.offer(units)
                if taken:
                    return wait
                await batch.sleep(wait)
        return 0.0

    async def _endpoint(self, batch: _Batch) -> _Endpoint:
        """Returns the endpoint that would answer first, among those that are not in a pause.

        Raises:
          ServiceError: all endpoints are in a pause, and none has answered for longer than `patience`.
        """
        while not batch.failed:
            now = time.monotonic()
            open_ones = [endpoint for endpoint in self._endpoints if endpoint.closed_until <= now]
            if open_ones:
                measured = [s.latency for s in self._endpoints if s.latency is not None]
                usual = min(measured) if measured else 1.0  # an endpoint that has not been tried is tried
                return min(open_ones, key=lambda endpoint: endpoint.expected(usual))
            limit = self._note_silence(now) + self._service.patience
            if now > limit:
                raise self._impatient(self._last_fault)
            await batch.sleep(min(limit, *(s.closed_until for s in self._endpoints)) - now + 0.001)
        raise asyncio.CancelledError

    def _note_silence(self, now: float) -> float:
        """Returns the start of the present time without an answer."""
        if self._silent_since is None:
            self._silent_since = now
        return self._silent_since

    def _spread(self, endpoint: _Endpoint) -> float:
        """Returns seconds until a call may start, so that calls leave as a steady stream.

        Calls that return together are processed one after the other, so all of them leave late and return together
        again: such a bunch never dissolves by itself. A distance of at least half their mean distance between two
        starts dissolves it, and delays nothing else.
        """
        now = time.monotonic()
        start = max(now, self._next_start)
        usual = (endpoint.latency or 0.0) / self._service.concurrency
        self._next_start = start + min(usual / 2, _WORK)
        return start - now

    def _note_speed(self, endpoint: _Endpoint, seconds: float) -> None:
        before = seconds if endpoint.latency is None else endpoint.latency
        endpoint.latency = before + _SPEED_MEMORY * (seconds - before)
        endpoint.failures = 0
        self._silent_since = None

    def _note_fault(self, endpoint: _Endpoint, fault: TransientError) -> None:
        """Records a transient error, and closes the endpoint for a pause if that is needed."""
        now = time.monotonic()
        self._note_silence(now)
        self._last_fault = fault
        if fault.wait is not None:
            # One call's Retry-After closes the endpoint only if there is another endpoint, or after many errors.
            endpoint.failures += 1
            if len(self._endpoints) > 1 or endpoint.failures > self._service.concurrency:
                endpoint.closed_until = max(endpoint.closed_until, now + min(fault.wait, self._service.patience))
        elif not fault.sent:
            endpoint.failures += 1
            pause = self._jitter.uniform(0.5, 1) * min(0.5 * 2 ** min(endpoint.failures, 7), _LONGEST)
            endpoint.closed_until = max(endpoint.closed_until, now + min(pause, self._service.patience / 4 + 0.05))
