"""The record of an account: what a run has spent at a service, and what each process has reserved there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pe_beam.contracts.store import Folder
from pe_beam.errors import StorageError

FILE = "account.json"
UNIT = 10**12
"""Money is counted in whole units of 1/UNIT of the currency, so that sums are exact."""
LENGTH = 16384
"""Size of the file in bytes where it is cheap to update: a record of constant length is overwritten in place."""
_GAP, _BLANK = b"   ", b" " * LENGTH
_MOST = 10**40  # largest number in a record; a larger one means damage


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


class Record:
    """The content of the file.

    Attributes:
      spent: what is spent.
      held: what each process has reserved.
    """

    def __init__(self, spent: Cost, held: dict[str, Cost]) -> None:
        self.spent = spent
        self.held = held

    @classmethod
    def read(cls, data: bytes, folder: Folder | None) -> Record:
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
        """Returns the record as JSON."""
        held = {owner: vars(cost) for owner, cost in self.held.items()}
        return json.dumps({"version": 1, "spent": vars(self.spent), "held": held})

    def total(self) -> Cost:
        """Returns the sum of what is spent and what is reserved."""
        return sum(self.held.values(), self.spent)

    def hold(self, owner: str, cost: Cost) -> None:
        """Adds to what a process has reserved."""
        self.held[owner] = self.held.get(owner, Cost()) + cost

    def release(self, owner: str, cost: Cost) -> None:
        """Takes away from what a process has reserved."""
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


def read_totals(folder: Folder) -> Cost | None:
    """Returns the total of an account, for `status`; None: there is none. Raises StorageError if it is damaged."""
    return Record.read(folder.read(FILE), folder).total() if folder.exists(FILE) else None
