"""The dispatcher: many calls in flight, one pace, one account, several endpoints, and retries of transient errors.

A call is retried only after a transient error: 408, 409, 429, 5xx, time-outs, broken connections and answers that are
not JSON. Any other error ends the run with one message, or concerns one candidate alone (filtered, too long). So does
an ask that fails for longer than `patience` while others are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from pe_beam.contracts.service import Endpoint, Service
from pe_beam.errors import PeBeamError, RefusedError, SpentError
from pe_beam.services.account import Account
from pe_beam.services.connection import Connection, TransientError, Usage
from pe_beam.services.endpoints import Batch, Connected, Endpoints, GivenUpError
from pe_beam.services.pace import Pace
from pe_beam.services.waiting import listener

T = TypeVar("T")
_WORK = 0.002  # seconds of work of this process per call; it is rarely more
_OF_ITS_OWN = 3  # faults of an ask, one after the other, after which they may be its own


@dataclass(frozen=True)
class Lone(Generic[T]):
    """What becomes of an ask that the service fails on for longer than `patience`, though it answers others.

    Attributes:
      canary: returns an ask that it should answer, because it has answered one like it; None: there is none yet.
      answer: what stands for the answer.
    """

    canary: Callable[[], T | None]
    answer: Any


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
        self._endpoints = Endpoints(service, connect, key=key)
        self._loop = asyncio.new_event_loop()
        self._next_start = 0.0
        self._batches = 0
        self._flights = asyncio.Semaphore(service.concurrency)
        self._queue = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pe-beam-calls", daemon=True)
        self._thread.start()

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
        self.run(self._endpoints.probe(patience, listener()))

    def ask_all(
        self,
        asks: Iterable[T],
        *,
        size: Callable[[T], Usage],
        on_answer: Callable[[T, Any], T | None],
        known: Callable[[T], Any | None],
        lone: Lone[T] | None = None,
    ) -> None:
        """Sends many asks (requests), at most `concurrency` at once.

        Args:
          asks: the asks; the next one is taken when a place becomes free.
          size: returns the largest number of tokens of an ask.
          on_answer: receives an answer when it arrives, in one thread at a time. It may return a further ask, which
            takes the same place.
          known: returns the answer to an ask that does not have to be sent again, or None.
          lone: what becomes of an ask that the service alone fails on; default: it counts as not answering.

        Raises:
          SpentError: the next call could pass the ceiling. The costs of calls in flight have been entered.
          ServiceError: the service refuses, or has not answered for longer than `patience`.
        """
        batch = Batch()
        answers_others = partial(self._answers_others, lone, size, batch)
        waiting = iter(asks)

        async def worker() -> None:
            for first in waiting:
                ask: T | None = first
                while ask is not None and not batch.failed:
                    answer = known(ask)
                    if answer is None:
                        answer = await self._ask(ask, size(ask), batch, answers_others)
                    ask = on_answer(ask, lone.answer if lone is not None and answer is None else answer)
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

    def close(self) -> None:
        """Ends the loop, its connections, and this process's part in account and paces.

        A call that is still in flight, because its run has failed elsewhere, is cut off and counts at its largest cost.
        """

        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            with contextlib.suppress(Exception):  # no call is left that it could matter to
                await self._endpoints.close()
            await self._loop.shutdown_default_executor()

        self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for pace in (self._requests, self._tokens):
            if pace is not None:
                pace.close()
        self._account.close()

    def _begin(self) -> None:
        """Begins a batch. If the dispatcher has given up and no batch is running, it first drops all pauses."""
        if not self._batches:
            self._endpoints.begin()
        self._batches += 1

    async def _ask(
        self, ask: Any, most: Usage, batch: Batch, answers_others: Callable[[], Awaitable[bool]]
    ) -> Any | None:
        """Sends one ask and returns its answer, or None if the service fails on it alone.

        It tries again after each transient error.
        """
        began: float | None = None
        attempt = own = 0
        tried: Connected | None = None
        while True:
            if batch.failed:
                raise asyncio.CancelledError
            try:
                async with self._flights:
                    tried = await self._endpoints.pick(batch, tried)
                    return await self._attempt(ask, most, batch, tried)
            except GivenUpError:
                if own >= _OF_ITS_OWN and await answers_others():
                    return None
                raise
            except TransientError as fault:
                now = time.monotonic()
                began = now if began is None else began
                own = own + 1 if fault.may_be_of_the_ask else 0
                if now - began > self._service.patience:
                    if own >= _OF_ITS_OWN and await answers_others():
                        return None
                    raise self._endpoints.give_up(fault) from None
                pause = self._endpoints.pause(fault, attempt)
                attempt += 1
                await batch.sleep(min(pause, max(began + self._service.patience - now, 0.0) + 0.05))

    async def _answers_others(self, lone: Lone[T] | None, size: Callable[[T], Usage], batch: Batch) -> bool:
        """Returns whether the service answers an ask like one that it has answered. Its answer is for nobody."""
        canary, endpoint = None if lone is None else lone.canary(), self._endpoints.answered
        if canary is None or endpoint is None:
            return False
        with contextlib.suppress(TransientError):
            async with self._flights:
                await self._attempt(canary, size(canary), batch, endpoint)
            return True
        return False

    async def _attempt(self, ask: Any, most: Usage, batch: Batch, endpoint: Connected) -> Any:
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
            self._endpoints.note_speed(endpoint, time.monotonic() - began)
        except TransientError as fault:
            if not fault.billed:
                actual = worst - worst if not fault.sent else self._account.cost(input_tokens=0, output_tokens=0)
            if fault.unrecognised and endpoint.latency is None and not self._account.has_tokens():
                actual = self._account.cost(input_tokens=0, output_tokens=0)
                raise self._endpoints.unrecognised(endpoint, fault) from None
            self._endpoints.note_fault(endpoint, fault)
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

    async def _place(self, pace: Pace | None, units: float, batch: Batch) -> float:
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

    def _spread(self, endpoint: Connected) -> float:
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
