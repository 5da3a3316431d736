"""Counts what a run has spent at a service, and stops it before its ceiling. All workers share one file.

Before a call its largest possible cost is reserved. After the call its actual cost is entered instead. What a killed
process had reserved counts as spent, because the service may have done the work.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from pe_beam.contracts.service import Service
from pe_beam.contracts.store import Folder
from pe_beam.errors import SpentError, StorageError

UNIT = 10**12
"""Money is counted in whole units of 1/UNIT of the currency, so that sums are exact."""
_FILE = "account.json"
_RECORD = 16384  # size of the file in bytes, always: a record of constant length is cheap to update
_GAP, _BLANK = b"   ", b" " * _RECORD
_MOST = 10**40  # largest number in a record; a larger one means damage
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Calls, tokens sent, tokens received, and money in 1/UNIT of the currency."""

    calls: int = 0
    input: int = 0
    output: int = 0
    money: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls, self.input + other.input, self.output + other.output, self.money + other.money
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.calls - other.calls, self.input - other.input, self.output - other.output, self.money - other.money
        )


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
            folder.commit(_FILE, b"")
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

        def change(book: _Book) -> tuple[bool, str | None, Cost]:
            over = self._over(book.total() + worst)
            if over is not None and book.held:
                self._bury(book)
                over = self._over(book.total() + worst)
            if over is None:
                book.hold(self._me, worst)
                return True, None, book.spent
            if book.held and self._over(book.spent + worst) is None:
                return False, None, book.spent
            return False, over, book.spent

        taken, over, spent = self._change(change)
        if over is None:
            return taken
        used = "" if self._private else f" ({self._said(spent)} used so far)"
        raise SpentError(
            f"{self._key}.ceiling.{over}: the next call could pass it{used}; raise it and run again, the run goes on "
            "from here"
        )

    def settle(self, worst: Cost, actual: Cost) -> None:
        """Ends a reservation and enters the actual cost of the call as spent."""

        def change(book: _Book) -> None:
            book.release(self._me, worst)
            book.spent = book.spent + actual

        self._change(change)

    def spent(self) -> Cost:
        """Returns the sum of what is spent and what is reserved for calls in flight."""

        def change(book: _Book) -> Cost:
            self._bury(book)
            return book.total()

        return self._change(change)

    def has_tokens(self) -> bool:
        """Tells whether any call of the run, in any process, has brought or may have brought an answer."""
        return self._change(lambda book: book.spent.input + book.spent.output > 0)

    def _over(self, total: Cost) -> str | None:
        ceiling = self._service.ceiling
        if ceiling.calls is not None and total.calls > ceiling.calls:
            return "calls"
        if ceiling.tokens is not None and total.input + total.output > ceiling.tokens:
            return "tokens"
        if ceiling.money is not None and total.money > math.floor(Fraction(ceiling.money) * UNIT):
            return "money"
        return None

    def _said(self, spent: Cost) -> str:
        said = f"{spent.calls} calls, {spent.input + spent.output} tokens"
        if self._service.price is None:
            return said
        return f"{said}, {spent.money / UNIT:.6g} {self._service.price.currency}"

    def _bury(self, book: _Book) -> None:
        """Enters as spent what ended processes had reserved."""
        if self._folder is None:
            return
        for owner in [owner for owner in book.held if owner != self._me]:
            if not self._folder.is_leased(_holder(owner)):
                book.spent = book.spent + book.held.pop(owner)
                self._folder.delete(_holder(owner))

    def _change(self, step: Callable[[_Book], T]) -> T:
        """Reads, changes and writes the record as one step. `step` is called again if another process was faster."""
        found: list[T] = []

        def change(before: bytes | None) -> bytes:
            book = _Book.read((before or b"")[:_RECORD], self._folder)
            found[:] = [step(book)]
            return self._record(book)

        with self._mutex:
            if self._folder is None:
                book = _Book.read(self._own, None)
                found[:] = [step(book)]
                self._own = book.text().encode()
            else:
                # A killed process loses nothing. A machine that stops loses at most the last second.
                durable = time.monotonic() - self._synced > 1
                self._folder.update(_FILE, change, durable=durable)
                if durable:
                    self._synced = time.monotonic()
        return found[0]

    def _record(self, book: _Book) -> bytes:
        """Returns the bytes of a record. Raises StorageError if it is too long; the old record then stays."""
        data = book.text().encode()
        if len(data) > _RECORD:
            self._bury(book)  # removes the entries of killed processes, one each
            data = book.text().encode()
        data = data.ljust(_RECORD, b" ")
        if len(data) > _RECORD:
            raise StorageError(
                f"{self._folder}/account.json: too many processes share it; run again with fewer workers"
            )
        return data


class _Book:
    """The content of a record: what is spent, and what each process has reserved."""

    def __init__(self, spent: Cost, held: dict[str, Cost]) -> None:
        self.spent = spent
        self.held = held

    @classmethod
    def read(cls, data: bytes, folder: Folder | None) -> _Book:
        """Reads a record. Raises StorageError if it is damaged, because it must not be taken for an empty one."""
        try:
            head, _, tail = data.partition(_GAP)  # a comparison is faster than a strip of 16 kB byte by byte
            text = head if tail == _BLANK[: len(tail)] else data.strip()
            found: dict[str, Any] = json.loads(text or b"{}")
            held = {owner: _cost(cost) for owner, cost in found.get("held", {}).items()}
            return cls(_cost(found.get("spent", {})), held)
        except (AttributeError, RecursionError, TypeError, ValueError):
            raise StorageError(
                f"{folder}/account.json: is damaged, so what the run has spent is not known; put back a copy of it, or "
                "delete it (the count begins anew: lower the ceiling by what the provider's bill says), and run again"
            ) from None

    def text(self) -> str:
        held = {owner: vars(cost) for owner, cost in self.held.items()}
        return json.dumps({"version": 1, "spent": vars(self.spent), "held": held})

    def total(self) -> Cost:
        return sum(self.held.values(), self.spent)

    def hold(self, owner: str, cost: Cost) -> None:
        self.held[owner] = self.held.get(owner, Cost()) + cost

    def release(self, owner: str, cost: Cost) -> None:
        left = self.held.get(owner, Cost()) - cost
        if left == Cost():
            self.held.pop(owner, None)
        else:
            self.held[owner] = left


def _cost(found: Any) -> Cost:
    cost = Cost(**found)
    if not all(type(number) is int and 0 <= number < _MOST for number in vars(cost).values()):
        raise ValueError("not a cost")
    return cost


def _holder(owner: str) -> str:
    return f"holders/{owner}"


def read_totals(folder: Folder) -> Cost | None:
    """Returns the total of an account, for `status`; None: there is none. Raises StorageError if it is damaged."""
    return _Book.read(folder.read(_FILE), folder).total() if folder.exists(_FILE) else None
