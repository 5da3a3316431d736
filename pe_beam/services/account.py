"""Counts what a run has spent at a service, and stops it before its ceiling. All workers share one file.

Before a call its largest possible cost is reserved. After the call its actual cost is entered instead. What a killed
process had reserved counts as spent, because the service may have done the work.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import TypeVar

from pe_beam.contracts.service import Service
from pe_beam.contracts.store import Folder
from pe_beam.errors import PeBeamError, SpentError, StorageError
from pe_beam.services.record import FILE, LENGTH, UNIT, Cost, Record

T = TypeVar("T")


class Account:
    """The account of one service of one run.

    Args:
      folder: the folder of the account's file; None: the account is kept in this process alone.
      service: price and ceiling.
      key: the recipe key of the service, for messages.
      private: True if the calls contain private records. No message then says how many calls there were (rule 7).
    """

    def __init__(
        self, folder: Folder | None, service: Service, *, key: str = "execution.llm", private: bool = False
    ) -> None:
        self._service = service
        self._private = private
        self._key = key
        self._mutex = threading.Lock()
        self._folder = folder
        self._me = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._own = b"{}"
        self._synced = 0.0
        self._alive = contextlib.ExitStack()
        if folder is not None:
            folder.commit(FILE, b"")
            # The lease ends with the process, so others can see that the process has ended.
            self._alive.enter_context(folder.lease(_holder(self._me)))

    def cost(self, *, input_tokens: int, output_tokens: int) -> Cost:
        """Returns the cost of one call with these numbers of tokens at the price of the recipe, rounded up."""
        money = 0
        if self._service.price is not None:
            price = self._service.price
            exact = Fraction(price.input) * input_tokens + Fraction(price.output) * output_tokens
            money = math.ceil(exact / 10**6 * UNIT)
        return Cost(1, input_tokens, output_tokens, money)

    def reserve(self, worst: Cost) -> bool:
        """Reserves the largest possible cost of a call. Returns False if the caller has to wait.

        It has to wait if the call fits under the ceiling only when calls in flight cost less than reserved.

        Raises:
          SpentError: the call would pass the ceiling even if the calls in flight cost nothing.
        """

        def change(book: Record) -> tuple[bool, str | None, Cost]:
            over = self._passes(book.total() + worst)
            if over is not None and book.held:
                self._bury(book)
                over = self._passes(book.total() + worst)
            if over is None:
                book.hold(self._me, worst)
                return True, None, book.spent
            if book.held and self._passes(book.spent + worst) is None:
                return False, None, book.spent
            return False, over, book.spent

        taken, over, spent = self._change(change)
        if over is None:
            return taken
        raise self._spent_error(over, spent)

    def settle(self, worst: Cost, actual: Cost) -> None:
        """Ends a reservation and enters the actual cost of the call as spent."""

        def change(book: Record) -> None:
            book.release(self._me, worst)
            book.spent = book.spent + actual

        self._change(change)

    def spent(self) -> Cost:
        """Returns the sum of what is spent and what is reserved for calls in flight."""

        def change(book: Record) -> Cost:
            self._bury(book)
            return book.total()

        return self._change(change)

    def has_tokens(self) -> bool:
        """Tells whether any call of the run, in any process, has brought or may have brought an answer."""
        return self._change(lambda book: book.spent.input + book.spent.output > 0)

    def flush(self) -> None:
        """Writes down what is only known to this process; called when no call is left to make."""

    def close(self) -> None:
        """Ends this process's part in the account, after the last call."""
        with contextlib.suppress(PeBeamError):  # a hold that was lost: others have entered what was reserved as spent
            self._alive.close()

    def _passes(self, total: Cost) -> str | None:
        """Returns the ceiling that a total would pass, or None."""
        names, sums = ("calls", "tokens", "money"), (total.calls, total.input + total.output, total.money)
        pairs = zip(names, sums, self._ceilings, strict=True)
        return next((name for name, used, limit in pairs if limit is not None and used > limit), None)

    @cached_property
    def _ceilings(self) -> tuple[int | None, int | None, int | None]:
        """Returns the largest allowed calls, tokens and money; None: no ceiling."""
        ceiling = self._service.ceiling
        money = None if ceiling.money is None else math.floor(Fraction(ceiling.money) * UNIT)
        return ceiling.calls, ceiling.tokens, money

    def _spent_error(self, over: str, spent: Cost) -> SpentError:
        used = "" if self._private else f" ({self._said(spent)} used so far)"
        return SpentError(
            f"{self._key}.ceiling.{over}: the next call could pass it{used}; raise it and run again, the run goes on "
            "from here"
        )

    def _said(self, spent: Cost) -> str:
        said = f"{spent.calls} calls, {spent.input + spent.output} tokens"
        if self._service.price is None:
            return said
        return f"{said}, {spent.money / UNIT:.6g} {self._service.price.currency}"

    def _bury(self, book: Record) -> None:
        """Enters as spent what ended processes had reserved."""
        if self._folder is None:
            return
        for owner in [owner for owner in book.held if owner != self._me]:
            if not self._folder.is_leased(_holder(owner)):
                book.spent = book.spent + book.held.pop(owner)
                self._folder.delete(_holder(owner))

    def _change(self, step: Callable[[Record], T]) -> T:
        """Reads, changes and writes the record as one step. `step` is called again if another process was faster."""
        found: list[T] = []

        def change(before: bytes | None) -> bytes:
            book = Record.read((before or b"")[:LENGTH], self._folder)
            found[:] = [step(book)]
            return self._record(book)

        with self._mutex:
            if self._folder is None:
                book = Record.read(self._own, None)
                found[:] = [step(book)]
                self._own = book.text().encode()
            else:
                # A killed process loses nothing. A machine that stops loses at most the last second.
                durable = time.monotonic() - self._synced > 1
                self._folder.update(FILE, change, durable=durable)
                if durable:
                    self._synced = time.monotonic()
        return found[0]

    def _record(self, book: Record) -> bytes:
        """Returns the bytes of a record. Raises StorageError if it is too long; the old record then stays."""
        data = book.text().encode()
        if len(data) > LENGTH:
            self._bury(book)  # removes the entries of killed processes, one each
            data = book.text().encode()
        data = data.ljust(LENGTH, b" ")
        if len(data) > LENGTH:
            raise StorageError(
                f"{self._folder}/account.json: too many processes share it; run again with fewer workers"
            )
        return data


def _holder(owner: str) -> str:
    return f"holders/{owner}"
