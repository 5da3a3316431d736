"""What a run has spent at a service, and the ceiling that it stops before: one file that all workers share.

A call is reserved at the most that it can cost before it is made, and settled at what it did cost. What a killed
process had reserved counts as spent, since the service may have done the work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pe_beam.contracts.service import Service
from pe_beam.errors import SpentError, StorageError

UNIT = 10**12
"""Money is counted in whole millionths of millionths, so that it adds up exactly."""
_RECORD = 16384  # bytes of the file: one write, so that a kill leaves the old record or the new one
_MOST = 10**40  # of any number in it: larger ones are damage


@dataclass(frozen=True)
class Cost:
    """Calls, tokens sent, tokens received, and money in 1/UNIT of the currency."""

    calls: int = 0
    input: int = 0
    output: int = 0
    money: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(self._parts(), other._parts(), strict=True)))

    def __sub__(self, other: Cost) -> Cost:
        return Cost(*(a - b for a, b in zip(self._parts(), other._parts(), strict=True)))

    def _parts(self) -> tuple[int, int, int, int]:
        return self.calls, self.input, self.output, self.money


class Account:
    """The account of one service of one run.

    Args:
      folder: where it lies; None: counted in this process alone.
      service: price and ceiling.
      key: the recipe key of the service, for messages.
      private: True where calls are about private records: no message says how many there were (rule 7).
    """

    def __init__(
        self, folder: Path | None, service: Service, *, key: str = "execution.llm", private: bool = False
    ) -> None:
        self._service = service
        self._private = private
        self._key = key
        self._mutex = threading.Lock()
        self._folder = folder
        self._me = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._own = b"{}"
        self._handle = self._alive = None
        self._synced = 0.0
        if folder is not None:
            (folder / "holders").mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder / "account.json", os.O_RDWR | os.O_CREAT, 0o600)
            # The lock on this file dies with the process: that is how others know that it is gone.
            self._alive = os.open(folder / "holders" / self._me, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._alive, fcntl.LOCK_EX)

    def cost(self, *, input_tokens: int, output_tokens: int) -> Cost:
        """One call of so many tokens at the price of the recipe, rounded up."""
        money = 0
        if self._service.price is not None:
            price = self._service.price
            exact = Fraction(price.input) * input_tokens + Fraction(price.output) * output_tokens
            money = math.ceil(exact / 10**6 * UNIT)
        return Cost(1, input_tokens, output_tokens, money)

    def reserve(self, worst: Cost) -> bool:
        """Sets aside the most that a call can cost. False: wait, calls in flight may turn out cheaper.

        Raises:
          SpentError: it would pass the ceiling whatever those in flight cost.
        """
        with self._changing() as book:
            over = self._over(book.total() + worst)
            if over is not None and book.held:
                self._bury(book)
                over = self._over(book.total() + worst)
            if over is None:
                book.hold(self._me, worst)
                return True
            if book.held and self._over(book.spent + worst) is None:
                return False
            spent = book.spent
        used = "" if self._private else f" ({self._said(spent)} used so far)"
        raise SpentError(
            f"{self._key}.ceiling.{over}: the next call could pass it{used}; raise it and run again, the run goes on "
            "from here"
        )

    def settle(self, worst: Cost, actual: Cost) -> None:
        """Ends a reservation: what the call did cost is spent."""
        with self._changing() as book:
            book.release(self._me, worst)
            book.spent = book.spent + actual

    def spent(self) -> Cost:
        """What is spent, and what is set aside for calls in flight, together."""
        with self._changing() as book:
            self._bury(book)
            return book.total()

    def has_tokens(self) -> bool:
        """Whether any call of the run, in whatever process, has brought or may have brought an answer."""
        with self._changing() as book:
            return book.spent.input + book.spent.output > 0

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
        """What dead processes had set aside is spent."""
        if self._folder is None:
            return
        for owner in [owner for owner in book.held if owner != self._me]:
            path = self._folder / "holders" / owner
            if not _locked(path):
                book.spent = book.spent + book.held.pop(owner)
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[_Book]:
        with self._mutex:
            if self._handle is None:
                book = _Book.read(self._own, None)
                yield book
                self._own = book.text().encode()
                return
            fcntl.flock(self._handle, fcntl.LOCK_EX)
            try:
                book = _Book.read(os.pread(self._handle, _RECORD, 0), self._folder)
                yield book
                os.pwrite(self._handle, self._record(book), 0)
                # A kill loses nothing; a machine that stops loses the last second at most.
                if time.monotonic() - self._synced > 1:
                    os.fdatasync(self._handle)
                    self._synced = time.monotonic()
            finally:
                fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _record(self, book: _Book) -> bytes:
        """What is written; raises StorageError where it would not fit, and the old record stays."""
        if len(book.text()) > _RECORD:
            self._bury(book)  # of processes that were killed, one entry each
        data = book.text().encode().ljust(_RECORD, b" ")
        if len(data) > _RECORD:
            raise StorageError(
                f"{self._folder}/account.json: too many processes share it; run again with fewer workers"
            )
        return data


class _Book:
    """The record: what is spent, and what each process has set aside."""

    def __init__(self, spent: Cost, held: dict[str, Cost]) -> None:
        self.spent = spent
        self.held = held

    @classmethod
    def read(cls, data: bytes, folder: Path | None) -> _Book:
        """Reads a record; raises StorageError where it is none, since it must not be taken for an empty one."""
        try:
            found: dict[str, Any] = json.loads(data.strip() or b"{}")
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


def _locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def read_totals(folder: Path) -> Cost | None:
    """What an account says, for `status`; None: there is none. Raises StorageError where it is damaged."""
    try:
        with (folder / "account.json").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # else a record that is being written would look damaged
            data = file.read(_RECORD)
    except OSError:
        return None
    return _Book.read(data, folder).total()
