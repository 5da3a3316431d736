"""The endpoints of a service: which one is asked next, how long one pauses, and when the service is given up."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pe_beam.contracts.service import Endpoint, Service
from pe_beam.errors import RefusedError, ServiceError
from pe_beam.services.connection import Connection, TransientError

_LONGEST = 60.0  # longest back-off in seconds; a service's own Retry-After may be longer
_SHORTEST = 0.1  # seconds; a shorter requested pause counts as none, and the back-off applies
_SILENT = 0.5  # seconds that a service may take for its first answer before it is said that it is waited for
_IN_A_ROW = 3  # faults of an endpoint, without an answer between them, after which others are asked
_SPEED_MEMORY = 0.2  # weight of the newest call in an endpoint's mean latency


class GivenUpError(ServiceError):
    """The service has not answered anything for longer than `patience`."""


@dataclass
class Batch:
    """Calls that belong together. The first permanent error stops the calls that have not started."""

    failed: list[BaseException] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: BaseException) -> None:
        """Notes a permanent error."""
        self.failed.append(error)
        self.over.set()

    async def sleep(self, seconds: float) -> None:
        """Waits, but only until the first failure, so that no call waits when the run has to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


@dataclass
class Connected:
    """A connected endpoint, with its current speed and pause."""

    connection: Connection
    place: int
    flying: int = 0
    latency: float | None = None
    closed_until: float = 0.0
    failures: int = 0

    def expected(self, usual: float) -> float:
        """Returns the relative time until the next call would be answered, because calls in flight share the speed."""
        return (self.flying + 1) * (usual if self.latency is None else self.latency)


class Endpoints:
    """The endpoints of one service, for one event loop.

    Args:
      service: endpoints, concurrency, patience.
      connect: an endpoint and its recipe key -> its Connection.
      key: recipe key of the service, for messages.

    Attributes:
      answered: the endpoint of the latest answer, which may be in a pause by now; None: there was none.
    """

    def __init__(self, service: Service, connect: Callable[[Endpoint, str], Connection], *, key: str) -> None:
        self._service = service
        self._key = key
        self._jitter = random.Random()  # waiting times do not affect the release
        self._all = [
            Connected(connect(endpoint, f"{key}.endpoints.{i}"), i) for i, endpoint in enumerate(service.endpoints)
        ]
        self.answered: Connected | None = None
        self._silent_since: float | None = None  # first error, or first wait for a pause, since the last answer
        self._last_fault: TransientError | None = None
        self._gave_up = False

    def begin(self) -> None:
        """Drops all pauses if the service was given up. No call is in flight."""
        if self._gave_up:
            self._gave_up, self._silent_since = False, None
            for endpoint in self._all:
                endpoint.closed_until, endpoint.failures = 0.0, 0

    async def close(self) -> None:
        """Ends all connections. No call is in flight."""
        for endpoint in self._all:
            await endpoint.connection.close()

    async def probe(self, patience: float, say: Callable[[str], None]) -> None:
        """Checks that every endpoint answers within `patience` seconds and accepts its key.

        Raises:
          ServiceError: an endpoint does not answer or does not accept its key.
        """
        for endpoint in self._all:
            waits = f"waiting for {self._named(endpoint)}; for {patience:g} s at most"
            told = asyncio.get_running_loop().call_later(_SILENT, say, waits)
            try:
                await self._probe(endpoint, time.monotonic() + patience)
            finally:
                told.cancel()

    async def _probe(self, endpoint: Connected, limit: float) -> None:
        while True:
            try:
                return await endpoint.connection.probe()
            except TransientError as fault:
                if fault.unrecognised:
                    raise self.unrecognised(endpoint, fault) from None
                left = limit - time.monotonic()
                if left < 0:
                    raise ServiceError(
                        f"{self._named(endpoint)} does not answer ({fault.said()}); start it, or correct base_url, "
                        "and run again"
                    ) from None
                await asyncio.sleep(min(max(0.5, fault.wait or 0.0), left + 0.05))

    def _named(self, endpoint: Connected) -> str:
        address = self._service.endpoints[endpoint.place].base_url or "its default address"
        return f"{self._key}.endpoints.{endpoint.place}: the service at {address}"

    def unrecognised(self, endpoint: Connected, fault: TransientError) -> RefusedError:
        """Returns the error for an address where something else answers."""
        return RefusedError(
            f"{self._named(endpoint)} answers, but not in the OpenAI protocol ({fault.kind}); correct base_url "
            "(most end in /v1), and run again"
        )

    def give_up(self, fault: TransientError | None) -> GivenUpError:
        """Returns the error for a service that has not answered for longer than `patience`."""
        self._gave_up = True
        return GivenUpError(
            f"{self._key}: no answer for {self._service.patience:g} s ({fault.said() if fault else 'a pause'}); run "
            "again once the service answers, the run goes on from here"
        )

    async def pick(self, batch: Batch, failed: Connected | None = None) -> Connected:
        """Returns the endpoint that would answer first, among those that are not in a pause, and not `failed`.

        It is `failed` if no other is there: an endpoint may fail on one ask alone.

        Raises:
          GivenUpError: all endpoints are in a pause, and none has answered for longer than `patience`.
        """
        while not batch.failed:
            now = time.monotonic()
            open_ones = [endpoint for endpoint in self._all if endpoint.closed_until <= now]
            if open_ones:
                measured = [s.latency for s in self._all if s.latency is not None]
                usual = min(measured) if measured else 1.0  # an endpoint that has not been tried is tried
                others = [endpoint for endpoint in open_ones if endpoint is not failed]
                return min(others or open_ones, key=lambda endpoint: endpoint.expected(usual))
            limit = self._note_silence(now) + self._service.patience
            if now > limit:
                raise self.give_up(self._last_fault)
            await batch.sleep(min(limit, *(s.closed_until for s in self._all)) - now + 0.001)
        raise asyncio.CancelledError

    def pause(self, fault: TransientError, attempt: int) -> float:
        """Returns seconds until the next attempt: the pause that the service asks for, or a back-off.

        It is a back-off if the service asks for no pause, or if another endpoint is free.
        """
        others = len(self._all) > 1 and any(s.closed_until <= time.monotonic() for s in self._all)
        if fault.wait is not None and fault.wait >= _SHORTEST and not others:
            return fault.wait * self._jitter.uniform(1.0, 1.1)
        return self._jitter.uniform(0.1, 1) * min(0.5 * 2 ** min(attempt, 7), _LONGEST)

    def _note_silence(self, now: float) -> float:
        """Returns the start of the present time without an answer."""
        if self._silent_since is None:
            self._silent_since = now
        return self._silent_since

    def note_speed(self, endpoint: Connected, seconds: float) -> None:
        """Records an answer."""
        before = seconds if endpoint.latency is None else endpoint.latency
        endpoint.latency = before + _SPEED_MEMORY * (seconds - before)
        endpoint.failures = 0
        self.answered, self._silent_since = endpoint, None

    def note_fault(self, endpoint: Connected, fault: TransientError) -> None:
        """Records a transient error, and closes the endpoint for a pause if that is needed."""
        now = time.monotonic()
        self._note_silence(now)
        self._last_fault = fault
        if fault.wait is not None:
            # One call's Retry-After closes the endpoint only if there is another endpoint, or after many errors.
            endpoint.failures += 1
            if len(self._all) > 1 or endpoint.failures > self._service.concurrency:
                endpoint.closed_until = max(endpoint.closed_until, now + min(fault.wait, self._service.patience))
            return
        endpoint.failures += 1
        fails = endpoint.failures > _IN_A_ROW and len(self._all) > 1
        if fails or not fault.sent:
            # One that fails at once has no call in flight, so it would always be the next one.
            pause = self._jitter.uniform(0.5, 1) * min(0.5 * 2 ** min(endpoint.failures, 7), _LONGEST)
            endpoint.closed_until = max(endpoint.closed_until, now + min(pause, self._service.patience / 4 + 0.05))
